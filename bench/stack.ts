// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CLUSTER_INFORMATIONS } from "../src/crds/cluster-information.ts";
import { NODES, PODS } from "../src/crds/core.ts";
import { IP_POOLS } from "../src/crds/ip-pool.ts";
import { IPAM_CONFIGS } from "../src/crds/ipam-config.ts";
import type { KubeClient } from "../src/kube/api.ts";
import { renderNodeToken } from "../src/lab/api-server.ts";
import {
  renderClusterInformation,
  renderIPAMConfig,
  renderIPPool,
  renderNode,
  renderPod,
} from "../src/lab/cluster-objects.ts";
import { parseKubeconfig, renderKubeconfig } from "../src/lab/kubeconfig.ts";
import { ManagedProcess } from "../src/lab/managed-process.ts";
import { run, runOk } from "../src/lab/run.ts";
import { startServer } from "./api-server.ts";
import { podName } from "./contenders.ts";

export const NODE_NAME = "bench-node";
const NODE_IP = "172.30.0.1";

/** API server and agent on the one node of the bench, where they are in production. */
export interface Stack {
  readonly client: KubeClient;
  readonly adminKubeconfig: string;
  readonly apiServer: ManagedProcess;
  agent: ManagedProcess;
  /** Ends the agent and starts it anew; `server` is what it talks to, the API server by default. */
  restartAgent(server?: string): Promise<void>;
  stop(): Promise<void>;
}

export interface StackOptions {
  readonly root: string;
  /** A folder on a disk: database, certificates, logs. */
  readonly dir: string;
  /** `:memory:` where writes are not what is measured. */
  readonly data: string;
  readonly poolCIDR: string;
}

export async function startStack(options: StackOptions): Promise<Stack> {
  const { root, dir, data, poolCIDR } = options;
  mkdirSync(dir, { recursive: true });
  const node = [process.execPath, "--disable-warning=ExperimentalWarning"];
  const token = randomBytes(24).toString("base64url");
  const tokenFile = join(dir, "tokens.csv");
  writeFileSync(tokenFile, renderNodeToken(NODE_NAME, token), { mode: 0o600 });
  const { client, adminKubeconfig, process: apiServer } = await startServer({ root, dir, data, tokenFile });
  await createObjects(client, poolCIDR);

  const view = ["config", "view", "--raw", "--flatten", "--minify", "-o", "json"];
  const admin = parseKubeconfig(await runOk(["kubectl", "--kubeconfig", adminKubeconfig, ...view]));
  async function startAgent(server?: string): Promise<ManagedProcess> {
    const kubeconfig = join(dir, "agent.kubeconfig");
    const credentials = { ...admin, token, ...(server === undefined ? {} : { server }) };
    writeFileSync(kubeconfig, renderKubeconfig(credentials), { mode: 0o600 });
    const agent = new ManagedProcess({
      what: "the agent",
      argv: [...node, join(root, "dist/agent.mjs")],
      env: { ...process.env, NODENAME: NODE_NAME, KUBECONFIG: kubeconfig },
      logPath: join(dir, "agent.log"),
    });
    await agent.waitUntil(isAgentReady, 60_000);
    return agent;
  }
  const stack: Stack = {
    client,
    adminKubeconfig,
    apiServer,
    agent: await startAgent(),
    async restartAgent(server) {
      await stack.agent.kill("SIGTERM");
      stack.agent = await startAgent(server);
    },
    async stop() {
      await stack.agent.kill("SIGTERM");
      await apiServer.kill("SIGTERM");
    },
  };
  return stack;
}

async function createObjects(client: KubeClient, poolCIDR: string): Promise<void> {
  const pool = renderIPPool(26);
  const node = renderNode(NODE_NAME, NODE_IP);
  await client.create(IP_POOLS, { ...pool, spec: { ...pool.spec, cidr: poolCIDR, natOutgoing: false } });
  await client.create(CLUSTER_INFORMATIONS, renderClusterInformation(randomBytes(16).toString("hex")));
  await client.create(IPAM_CONFIGS, renderIPAMConfig());
  await client.create(NODES, node);
  await client.patch(NODES, NODE_NAME, { type: "merge", body: { status: node.status } }, { subresource: "status" });
}

/** Pod objects of this node, as the scheduler would have bound them. */
export async function createPods(client: KubeClient, first: number, count: number): Promise<void> {
  await inParallel(count, 32, async (i) => {
    const pod = renderPod({ name: podName(first + i), node: NODE_NAME });
    await client.create(PODS, pod, { namespace: "default" });
  });
}

/** Calls with 0 to n-1, so many at once. */
export async function inParallel(n: number, width: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < n) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(width, n) }, worker));
}

export async function isAgentReady(): Promise<boolean> {
  const ask = "exec 3<>/dev/tcp/127.0.0.1/9099; printf 'GET /readiness HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3";
  const { exitCode, stdout } = await run(["bash", "-c", ask]);
  return exitCode === 0 && stdout.includes(" 200 ");
}
