// SPDX-License-Identifier: Apache-2.0

/**
 * gingham-apiserver: the Kubernetes API for the laboratory, for tests and for machines without Kubernetes.
 *
 * It speaks the real protocol, so kubectl, calicoctl and client libraries work against it. What it is not: one machine
 * and one process, without replication; two roles (admin, and node) instead of RBAC, which it only stores; no admission
 * webhooks, no CEL rules, no garbage collection by owner; no controllers and no kubelet, so a Deployment makes no pods
 * and a deleted pod is gone at once. A cluster uses its own API server.
 *
 *   gingham-apiserver --data /var/lib/gingham/api.db --kubeconfig admin.conf --crds manifests/crds
 *   gingham-apiserver credential --node machine-2
 */

import { randomUUID } from "node:crypto";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { pino } from "pino";
import { createApiServer } from "../apiserver/api-server.ts";
import { clusterDefaults } from "../apiserver/cluster-defaults.ts";
import { nodeCredential } from "../apiserver/credential.ts";
import { followTokens, loadTokens } from "../apiserver/tokens.ts";
import { parseYAML } from "../apiserver/yaml.ts";
import { describeError } from "../lib/errors.ts";
import { systemClock as clock } from "../lib/system-clock.ts";
import { answerVersion } from "../lib/version.ts";

const CERT_DIR = "/var/lib/gingham-api/pki";
const ADMIN_KUBECONFIG = "/etc/gingham/admin.kubeconfig";
const VXLAN_MODES = ["Never", "CrossSubnet", "Always"] as const;

const USAGE = `Usage: gingham-apiserver [options]
  --listen HOST:PORT   where to serve (127.0.0.1:6443); another host than loopback must be named here
  --data FILE          SQLite file, or :memory: (:memory:)
  --cert-dir DIR       keeps ca.crt, server.crt, server.key and the first admin token; made when missing
  --token-file FILE    lines "token,user,role,node" or a JSON array of such objects; role is admin or node; it is followed
  --kubeconfig FILE    writes the admin's kubeconfig there
  --crds DIR           loads every .yaml, .yml and .json manifest of the directory at the start
  --pool CIDR          makes an IPPool of it when there is none; once for each family
  --vxlan-mode MODE    of these pools: Never, CrossSubnet or Always (CrossSubnet)
  --log-level LEVEL    debug also logs refused requests (info)

gingham-apiserver credential --node NAME
  Prints the kubeconfig of a machine: it may write IPAM kinds and its own Node, and nothing else. A running server knows it at once.
  --server URL         where the machine finds the server, if not as the admin's kubeconfig says
  --renew              a new token; the old one counts no more
  --cert-dir DIR, --token-file FILE, --kubeconfig FILE
                       as they were given to the server (${CERT_DIR}, tokens.csv in there, ${ADMIN_KUBECONFIG})
`;

answerVersion("gingham-apiserver");
const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    listen: { type: "string", default: "127.0.0.1:6443" },
    data: { type: "string", default: ":memory:" },
    "cert-dir": { type: "string" },
    "token-file": { type: "string" },
    kubeconfig: { type: "string" },
    crds: { type: "string" },
    pool: { type: "string", multiple: true, default: [] },
    "vxlan-mode": { type: "string", default: "CrossSubnet" },
    node: { type: "string" },
    server: { type: "string" },
    renew: { type: "boolean", default: false },
    "log-level": { type: "string", default: "info" },
    help: { type: "boolean", default: false },
  },
});

if (flags.help) {
  process.stdout.write(USAGE);
  process.exit(0);
}

const log = pino({ level: flags["log-level"], base: { component: "apiserver" } });
const colon = flags.listen.lastIndexOf(":");
const certDir = flags["cert-dir"];
const tokenFile = flags["token-file"] ?? (certDir === undefined ? undefined : join(certDir, "tokens.csv"));

async function loadManifests(dir: string): Promise<unknown[]> {
  const files = globSync("*.{yaml,yml,json}", { cwd: dir }).sort();
  return (await Promise.all(files.map((file) => parseYAML(readFileSync(join(dir, file), "utf8"))))).flat();
}

function credential(): void {
  const { node, server, renew, kubeconfig = ADMIN_KUBECONFIG } = flags;
  if (node === undefined) throw new TypeError("credential needs --node NAME");
  const request = { node, tokenFile: tokenFile ?? join(CERT_DIR, "tokens.csv"), adminKubeconfig: kubeconfig };
  process.stdout.write(nodeCredential({ ...request, ...(server !== undefined && { server }), isRenewed: renew }));
}

async function main(): Promise<void> {
  const [command, surplus] = positionals;
  if (surplus !== undefined || (command !== undefined && command !== "credential"))
    throw new TypeError(`${JSON.stringify(surplus ?? command)} is not understood; see --help`);
  if (command === "credential") return credential();
  const vxlanMode = VXLAN_MODES.find((mode) => mode === flags["vxlan-mode"]);
  if (vxlanMode === undefined)
    throw new TypeError(`--vxlan-mode is ${flags["vxlan-mode"]}, use ${VXLAN_MODES.join(", ")}`);
  const server = await createApiServer({
    host: flags.listen.slice(0, colon).replace(/^\[(.*)\]$/, "$1"),
    port: Number(flags.listen.slice(colon + 1)),
    data: flags.data,
    ...(certDir !== undefined && { certDir }),
    ...(tokenFile !== undefined && {
      tokens: loadTokens(tokenFile, flags["token-file"] === undefined).filter(({ role }) => role === "admin"),
      tokenSource: followTokens(tokenFile, clock, (why) =>
        log.warn({ why }, "The token file is left as it was read before"),
      ),
    }),
    ...(flags.crds !== undefined && { manifests: await loadManifests(flags.crds) }),
    ...(flags.pool.length > 0 && {
      defaults: clusterDefaults(flags.pool, vxlanMode, randomUUID().replaceAll("-", "")),
    }),
    log,
  });
  if (flags.kubeconfig !== undefined) writeFileSync(flags.kubeconfig, server.adminKubeconfig(), { mode: 0o600 });
  log.info({ url: server.url, data: flags.data }, "serving");

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      // A failure to close is thrown again, so that the process does not end as if all were well.
      void server.close().then(() => log.info({ signal }, "stopped"));
    });
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`gingham-apiserver: ${describeError(error)}\n`);
  process.exit(1);
});
