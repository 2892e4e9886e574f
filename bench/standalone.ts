// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { GINGHAM } from "./contenders.ts";
import { endedChildrenCPU } from "./cpu.ts";
import { type Command, type Contender, callPlugin } from "./plugin-call.ts";
import { type BenchResult, renderTable } from "./report.ts";
import { createPods, NODE_NAME, type Stack } from "./stack.ts";
import { formatMs, median, percentile } from "./stats.ts";

const CALLS = 15;
const FIRST_POD = 300_000;
const COMMANDS: readonly Command[] = ["ADD", "CHECK", "DEL"];

/** A machine without an agent: the launcher executes gingham-standalone for each call. */
export async function benchStandalone(stack: Stack, netns: string): Promise<BenchResult> {
  await createPods(stack.client, FIRST_POD, CALLS);
  const contender: Contender = {
    ...GINGHAM,
    name: "gingham-standalone",
    conf: { ...GINGHAM.conf, nodename: NODE_NAME, kubernetes: { kubeconfig: stack.adminKubeconfig } },
  };
  await stack.agent.kill("SIGTERM");
  const times: Record<Command, number[]> = { ADD: [], CHECK: [], DEL: [] };
  const cpu: Record<Command, number[]> = { ADD: [], CHECK: [], DEL: [] };
  for (let n = 0; n < CALLS; n++) {
    const call = { contender, pod: FIRST_POD + n, containerID: randomBytes(32).toString("hex"), netns };
    let added: string | undefined;
    for (const command of COMMANDS) {
      const before = endedChildrenCPU();
      const { ms, output } = await callPlugin({ ...call, command, ...(added && { added }) });
      if (command === "ADD") added = output;
      times[command].push(ms);
      cpu[command].push(endedChildrenCPU() - before);
    }
  }
  await stack.restartAgent();
  const rows = COMMANDS.map((command) => [
    command,
    ...[50, 90].map((p) => formatMs(percentile(times[command], p))),
    formatMs(median(cpu[command])),
  ]);
  return {
    name: "standalone",
    lines: renderTable([["without an agent", "p50", "p90", "CPU a call, p50, without the API server"], ...rows]),
    budgets: [],
    figures: { times, cpu },
  };
}
