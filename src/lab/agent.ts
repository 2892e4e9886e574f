// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { ManagedProcess } from "./managed-process.ts";
import { enterNodeArgv } from "./namespaces.ts";
import { run } from "./run.ts";
import { LAB_DIR, type LabNode } from "./topology.ts";

/** Path on every node. */
export const AGENT_KUBECONFIG = "/etc/gingham/kubeconfig";
const HEALTH_PORT = 9099;

/** Starts the node's agent with the paths that it has on a real node, and waits until it says that it is ready. */
export async function startAgent(node: LabNode, program: readonly string[]): Promise<ManagedProcess> {
  const agent = new ManagedProcess({
    what: `the agent of ${node.name}`,
    argv: [...enterNodeArgv(node.holderPid), ...program],
    env: { ...process.env, NODENAME: node.name, KUBECONFIG: AGENT_KUBECONFIG },
    logPath: join(LAB_DIR, `logs/${node.name}.log`),
  });
  await agent.waitUntil(() => isReady(node), 20_000);
  return agent;
}

async function isReady(node: LabNode): Promise<boolean> {
  const ask = `exec 3<>/dev/tcp/127.0.0.1/${HEALTH_PORT}; printf 'GET /readiness HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3`;
  const { exitCode, stdout } = await run([...enterNodeArgv(node.holderPid), "bash", "-c", ask]);
  return exitCode === 0 && stdout.includes(" 200 ");
}
