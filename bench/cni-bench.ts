// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { measureBurst, renderBurst } from "./burst.ts";
import { BRIDGE, GINGHAM, PTP } from "./contenders.ts";
import { cpuPerCall, LONE_HEAD, type LoneFigures, measureLone, renderCPU, renderLone, WARM_UP_ROUNDS } from "./lone.ts";
import { type BenchResult, type BudgetLine, renderTable } from "./report.ts";
import { createPods, type Stack } from "./stack.ts";
import { formatMs, median } from "./stats.ts";

const CONTENDERS = [GINGHAM, PTP, BRIDGE];

export function ratioLine(what: string, ours: number, theirs: number, allowed: number): BudgetLine {
  const ratio = ours / theirs;
  return {
    what,
    measured: `${ratio.toFixed(2)} × (${formatMs(ours)} / ${formatMs(theirs)})`,
    budget: `at most ${allowed} ×`,
    holds: ratio <= allowed,
  };
}

/** ADD, DEL and CPU, one pod at a time, the three contenders taking turns in one run. */
export async function benchLone(stack: Stack, netns: readonly string[], rounds: number): Promise<BenchResult> {
  await createPods(stack.client, 0, rounds + WARM_UP_ROUNDS);
  const figures = await measureLone({
    contenders: CONTENDERS,
    rounds,
    netns,
    daemons: { [GINGHAM.name]: { agent: stack.agent.pid, "API server": stack.apiServer.pid } },
    firstPod: 0,
  });
  const [ours, ptp] = figures;
  if (ours === undefined || ptp === undefined) throw new RangeError("Two contenders are needed");
  const cpu = ({ addCPU, add }: LoneFigures): number => cpuPerCall(addCPU, add);
  return {
    name: "lone",
    lines: [...renderTable([LONE_HEAD, ...figures.map(renderLone)]), renderCPU(ours), renderSteps(stack.agent.logPath)],
    budgets: [
      ratioLine("ADD p50, one pod at a time", median(ours.add), median(ptp.add), 0.7),
      ratioLine("CPU of one ADD, all processes", cpu(ours), cpu(ptp), 0.5),
    ],
    figures,
  };
}

/** Where the agent spends the time of an ADD, from what it logs of each. */
function renderSteps(logPath: string): string {
  const steps = new Map<string, number[]>();
  for (const line of readFileSync(logPath, "utf8").split("\n")) {
    if (!line.includes('"stepsMs"')) continue;
    // Our own agent's log, a line an object.
    const { stepsMs } = JSON.parse(line) as { stepsMs: Readonly<Record<string, number>> };
    for (const [step, ms] of Object.entries(stepsMs)) steps.set(step, [...(steps.get(step) ?? []), ms]);
  }
  const parts = [...steps].map(([step, times]) => `${step} ${formatMs(median(times))}`);
  return `ADD inside the agent, p50: ${parts.join(", ")}`;
}

/** A hundred at once. */
export async function benchBurst(stack: Stack, netns: readonly string[], bursts: number): Promise<BenchResult> {
  const firstPod = 100_000;
  await createPods(stack.client, firstPod, bursts * netns.length);
  const figures = await measureBurst({ contenders: CONTENDERS, bursts, netns, firstPod });
  const [ours, ptp] = figures;
  if (ours === undefined || ptp === undefined) throw new RangeError("Two contenders are needed");
  const n = netns.length;
  return {
    name: "burst",
    lines: renderTable([[`${n} at once`, `${n} ADDs`, `${n} DELs`], ...figures.map(renderBurst)]),
    budgets: [
      ratioLine(`${n} ADDs at once`, median(ours.add), median(ptp.add), 0.4),
      ratioLine(`${n} DELs at once`, median(ours.del), median(ptp.del), 0.5),
    ],
    figures,
  };
}
