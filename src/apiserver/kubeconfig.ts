// SPDX-License-Identifier: Apache-2.0

/** A kubeconfig for one token, as JSON, which is YAML as well. */
export function kubeconfig(url: string, ca: string | undefined, user: string, token: string): string {
  const cluster = {
    server: url,
    ...(ca !== undefined && { "certificate-authority-data": Buffer.from(ca).toString("base64") }),
  };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "gingham", cluster }],
    users: [{ name: user, user: { token } }],
    contexts: [{ name: "gingham", context: { cluster: "gingham", user } }],
    "current-context": "gingham",
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}
