// SPDX-License-Identifier: Apache-2.0
import { LabError } from "./errors.ts";

/** What a client needs to reach an API server. Pure. */
export interface Credentials {
  readonly server: string;
  /** PEM in base64. */
  readonly caData: string;
  readonly token: string;
  /** The name that the server's certificate must have; absent: the one in `server`. */
  readonly tlsServerName?: string;
}

/** Writes a kubeconfig. It is JSON, which is YAML, too. */
export function renderKubeconfig(credentials: Credentials): string {
  const { server, caData, token, tlsServerName } = credentials;
  const name = "gingham-lab";
  const cluster = {
    server,
    "certificate-authority-data": caData,
    ...(tlsServerName === undefined ? {} : { "tls-server-name": tlsServerName }),
  };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster }],
    users: [{ name, user: { token } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}

/**
 * Reads what `kubectl config view --raw --flatten --minify -o json` prints.
 *
 * @throws LabError when server, certificate authority or token are missing
 */
export function parseKubeconfig(json: string): Credentials {
  const config = JSON.parse(json) as {
    clusters?: { cluster?: { server?: string; "certificate-authority-data"?: string } }[];
    users?: { user?: { token?: string } }[];
  };
  const cluster = config.clusters?.[0]?.cluster;
  const token = config.users?.[0]?.user?.token;
  const caData = cluster?.["certificate-authority-data"];
  if (cluster?.server === undefined || caData === undefined || token === undefined)
    throw new LabError("Kubeconfig", "The API server's kubeconfig lacks server, certificate authority or token");
  return { server: cluster.server, caData, token };
}
