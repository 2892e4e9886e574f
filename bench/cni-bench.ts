// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { BURST_HEAD, type BurstFigures, measureBurst, renderBurst } from "./burst.ts";
import { BRIDGE, GINGHAM, PTP } from "./contenders.ts";
import { cpuPerCall, type Daemons, measureLone, renderCPU, renderLone, WARM_UP_PODS } from "./lone.ts";
import { type BenchResult, type BudgetLine, renderTable } from "./report.ts";
import { createPods, type Stack } from "./stack.ts";
import { formatMs, median } from "./stats.ts";

const CONTENDERS = [GINGHAM, PTP, BRIDGE];
const ROUNDS = 5;
const BURST_SIZES = [20, 100, 250];
/** The size that budgets are about. */
const BUDGETED = 100;

function daemonsOf(stack: Stack): Readonly<Record<string, Daemons>> {
  return { [GINGHAM.name]: { agent: stack.agent.pid, "API server": stack.apiServer.pid } };
}

export function ratioLine(what: string, ours: number, theirs: number, allowed: number): BudgetLine {
  const ratio = ours / theirs;
  return {
    what,
    measured: `${ratio.toFixed(2)} × (${formatMs(ours)} / ${formatMs(theirs)})`,
    budget: `at most ${allowed} ×`,
    holds: ratio <= allowed,
  };
}

/** ADD, CHECK, DEL and their CPU, one pod at a time, the three contenders taking turns in one run. */
export async function benchLone(stack: Stack, netns: readonly string[], podsARound: number): Promise<BenchResult> {
  await createPods(stack.client, 0, ROUNDS * podsARound + WARM_UP_PODS);
  const figures = await measureLone({
    contenders: CONTENDERS,
    rounds: ROUNDS,
    podsARound,
    netns,
    daemons: daemonsOf(stack),
    firstPod: 0,
  });
  const [ours, ptp] = figures.map(({ calls }) => calls.ADD);
  const [gingham] = figures;
  if (gingham === undefined || ours === undefined || ptp === undefined)
    throw new RangeError("Two contenders are needed");
  const ratios = ours.rounds.map((round, i) => median(round) / median(ptp.rounds[i] ?? []));
  return {
    name: "lone",
    lines: [
      ...renderTable(renderLone(figures)),
      `ADD p50 by round, of ptp + host-local's: ${ratios.map((ratio) => `${ratio.toFixed(2)} ×`).join(", ")}`,
      ...(["ADD", "CHECK", "DEL"] as const).map((command) => renderCPU(gingham, command)),
      renderSteps(stack.agent.logPath),
    ],
    budgets: [
      ratioLine("ADD p50, one pod at a time", median(ours.rounds.flat()), median(ptp.rounds.flat()), 0.7),
      ratioLine("CPU of one ADD, all processes", cpuPerCall(ours), cpuPerCall(ptp), 0.5),
    ],
    figures,
  };
}

/** Where the agent spends the time of an ADD, from what it logs of each. */
function renderSteps(logPath: string): string {
  const steps = new Map<string, number[]>();
  for (const line of readFileSync(logPath, "utf8").split("\n")) {
    if (!line.includes('"ADD done"')) continue;
    // Our own agent's log, a line an object.
    const { stepsMs } = JSON.parse(line) as { stepsMs: Readonly<Record<string, number>> };
    for (const [step, ms] of Object.entries(stepsMs)) steps.set(step, [...(steps.get(step) ?? []), ms]);
  }
  const parts = [...steps].map(([step, times]) => `${step} ${formatMs(median(times))}`);
  return `ADD inside the agent, p50: ${parts.join(", ")}`;
}

/** Many at once. */
export async function benchBurst(stack: Stack, netns: readonly string[], bursts: number): Promise<BenchResult> {
  const all: BurstFigures[] = [];
  for (const pods of BURST_SIZES) {
    const firstPod = 100_000 + all.length * 10_000;
    await createPods(stack.client, firstPod, bursts * pods);
    const options = { contenders: CONTENDERS, bursts, daemons: daemonsOf(stack), firstPod };
    all.push(...(await measureBurst({ ...options, netns: netns.slice(0, pods) })));
  }
  const [ours, ptp] = [GINGHAM, PTP].map(({ name }) => all.find((one) => one.name === name && one.pods === BUDGETED));
  if (ours === undefined || ptp === undefined) throw new RangeError(`Nobody was asked for ${BUDGETED} at once`);
  return {
    name: "burst",
    lines: renderTable([BURST_HEAD, ...all.map(renderBurst)]),
    budgets: [
      ratioLine(`${BUDGETED} ADDs at once`, median(ours.add), median(ptp.add), 0.4),
      ratioLine(`${BUDGETED} DELs at once`, median(ours.del), median(ptp.del), 0.5),
    ],
    figures: all,
  };
}
