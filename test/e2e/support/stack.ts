// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { renderNodeToken } from "../../../src/lab/api-server.ts";
import {
  renderClusterInformation,
  renderIPAMConfig,
  renderIPPool,
  renderKubeControllersConfiguration,
  renderNode,
} from "../../../src/lab/cluster-objects.ts";
import { parseKubeconfig, renderKubeconfig } from "../../../src/lab/kubeconfig.ts";
import { type Machine, NODE_IP, NODE_NAME, waitUntil } from "./containerd-machine.ts";

export const ROOT: string = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
const DIST = join(ROOT, "dist");
const NODE = [process.execPath, "--disable-warning=ExperimentalWarning"];
/** Paths on the machine. */
const ADMIN_KUBECONFIG = "/run/stack/admin.kubeconfig";
const AGENT_KUBECONFIG = "/etc/gingham/kubeconfig";

/** Starts API server and agent on the machine, with a pool and all that a cluster needs, and installs the launcher. */
export async function startStack(machine: Machine): Promise<void> {
  const token = randomBytes(24).toString("base64url");
  mkdirSync(join(machine.root, "/run/stack"));
  writeFileSync(join(machine.root, "/run/stack/tokens.csv"), renderNodeToken(NODE_NAME, token), { mode: 0o600 });
  await machine.start("apiserver", [
    ...[...NODE, join(DIST, "apiserver.mjs"), "--listen", "127.0.0.1:6443", "--data", "/run/stack/api.db"],
    ...["--kubeconfig", ADMIN_KUBECONFIG, "--token-file", "/run/stack/tokens.csv", "--cert-dir", "/run/stack/pki"],
    ...["--crds", join(ROOT, "manifests/crds")],
  ]);
  await waitUntil(
    "the API server",
    async () =>
      existsSync(join(machine.root, ADMIN_KUBECONFIG)) &&
      (await machine.run(["kubectl", "--kubeconfig", ADMIN_KUBECONFIG, "get", "--raw", "/readyz"])).exitCode === 0,
    20_000,
  );
  const node = renderNode(NODE_NAME, NODE_IP);
  const objects = [
    renderIPPool(26),
    renderClusterInformation("0123456789abcdef0123456789abcdef"),
    renderIPAMConfig(),
    renderKubeControllersConfiguration(),
    node,
  ];
  for (const object of objects) await kubectl(machine, ["create", "-f", "-"], JSON.stringify(object));
  await kubectl(machine, ["replace", "--raw", `/api/v1/nodes/${NODE_NAME}/status`, "-f", "-"], JSON.stringify(node));

  const view = ["config", "view", "--raw", "--flatten", "--minify", "-o", "json"];
  const admin = parseKubeconfig(await kubectl(machine, view));
  writeFileSync(join(machine.root, AGENT_KUBECONFIG), renderKubeconfig({ ...admin, token }), { mode: 0o600 });
  await machine.runOk(["install", "-m", "755", join(DIST, "gingham"), "/opt/cni/bin/gingham"]);
  await startAgent(machine);
}

/** Starts the node's agent, or starts it again after its end, and waits until it is ready. */
export async function startAgent(machine: Machine): Promise<void> {
  await machine.start("agent", [...NODE, join(DIST, "agent.mjs")], {
    NODENAME: NODE_NAME,
    KUBECONFIG: AGENT_KUBECONFIG,
  });
  const ask = "exec 3<>/dev/tcp/127.0.0.1/9099; printf 'GET /readiness HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3";
  await waitUntil("the agent", async () => (await machine.run(["bash", "-c", ask])).stdout.includes(" 200 "), 20_000);
}

/** kubectl with the administrator's credentials. @throws Error with kubectl's words when it fails */
export function kubectl(machine: Machine, args: readonly string[], input?: string): Promise<string> {
  return machine.runOk(["kubectl", "--kubeconfig", ADMIN_KUBECONFIG, "--cache-dir", "/run/stack/cache", ...args], {
    ...(input === undefined ? {} : { input }),
  });
}
