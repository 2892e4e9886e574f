// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { endedChildrenCPU, processCPU } from "./cpu.ts";
import { type Contender, callPlugin } from "./plugin-call.ts";
import { formatMs, median, percentile, sum } from "./stats.ts";

/** Times of one pod at a time. Units: milliseconds, all of them. */
export interface LoneFigures {
  readonly name: string;
  readonly add: readonly number[];
  readonly del: readonly number[];
  /** CPU time over all ADDs and over all DELs, by process. */
  readonly addCPU: CPUTimes;
  readonly delCPU: CPUTimes;
}

/** Units: milliseconds. `plugin` is what the runtime executes, with its children; the others are daemons. */
export type CPUTimes = Readonly<Record<string, number>>;

export interface LoneOptions {
  readonly contenders: readonly Contender[];
  readonly rounds: number;
  /** One namespace for each contender. */
  readonly netns: readonly string[];
  /** Process IDs of daemons whose CPU time counts, by their names, for the contender of that name. */
  readonly daemons: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** First pod to use; each round uses the next. */
  readonly firstPod: number;
}

/**
 * Before the rounds that count, for contenders with daemons. These live for weeks; their code is compiled as it runs, and
 * for some hundred calls the compiler's threads alone take half a millisecond of CPU a call.
 */
export const WARM_UP_ROUNDS = 400;
/** Daemons go on a little after the answer (status, watches): that is work of the call, too. */
const SETTLE_MS = 15;

/** ADD and DEL, one pod after the other; the contenders take turns, and the order of the turns rotates. */
export async function measureLone(options: LoneOptions): Promise<readonly LoneFigures[]> {
  const { contenders, rounds, netns, daemons, firstPod } = options;
  const figures = contenders.map(({ name }) => ({
    name,
    add: [] as number[],
    del: [] as number[],
    addCPU: {} as CPUTimes,
    delCPU: {} as CPUTimes,
  }));
  for (const [index, contender] of contenders.entries()) {
    if (daemons[contender.name] !== undefined) await warmUp(contender, netns[index] ?? "", firstPod);
  }
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const index = (turn + round) % contenders.length;
      const [contender, figure] = [contenders[index], figures[index]];
      if (contender === undefined || figure === undefined) continue;
      const call = {
        contender,
        pod: firstPod + WARM_UP_ROUNDS + round,
        containerID: randomBytes(32).toString("hex"),
        netns: netns[index] ?? "",
      };
      const pids = daemons[contender.name] ?? {};
      const add = await measureCall(() => callPlugin({ ...call, command: "ADD" }), pids);
      const del = await measureCall(() => callPlugin({ ...call, command: "DEL" }), pids);
      figure.add.push(add.ms);
      figure.del.push(del.ms);
      figure.addCPU = addTimes(figure.addCPU, add.cpu);
      figure.delCPU = addTimes(figure.delCPU, del.cpu);
    }
  }
  return figures;
}

async function warmUp(contender: Contender, netns: string, firstPod: number): Promise<void> {
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    const call = { contender, pod: firstPod + round, containerID: randomBytes(32).toString("hex"), netns };
    await callPlugin({ ...call, command: "ADD" });
    await callPlugin({ ...call, command: "DEL" });
  }
}

async function measureCall(
  call: () => Promise<number>,
  pids: Readonly<Record<string, number>>,
): Promise<{ ms: number; cpu: CPUTimes }> {
  const before = readCPU(pids);
  const ms = await call();
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const after = readCPU(pids);
  return { ms, cpu: Object.fromEntries(Object.entries(after).map(([name, t]) => [name, t - (before[name] ?? 0)])) };
}

function readCPU(pids: Readonly<Record<string, number>>): CPUTimes {
  const daemons = Object.entries(pids).map(([name, pid]) => [name, processCPU(pid)] as const);
  return { plugin: endedChildrenCPU(), ...Object.fromEntries(daemons) };
}

function addTimes(a: CPUTimes, b: CPUTimes): CPUTimes {
  return Object.fromEntries(Object.entries(b).map(([name, t]) => [name, t + (a[name] ?? 0)]));
}

/** Units: milliseconds a call. */
export function cpuPerCall(times: CPUTimes, calls: readonly number[]): number {
  return sum(Object.values(times)) / calls.length;
}

/** Where the CPU time of an ADD goes. */
export function renderCPU({ name, add, addCPU }: LoneFigures): string {
  const parts = Object.entries(addCPU).map(([part, t]) => `${part} ${formatMs(t / add.length)}`);
  return `CPU of an ADD of ${name}: ${parts.join(", ")}`;
}

export const LONE_HEAD: readonly string[] = [
  "one pod at a time",
  "ADD p50",
  "ADD p90",
  "DEL p50",
  "CPU an ADD",
  "CPU a DEL",
];

export function renderLone({ name, add, del, addCPU, delCPU }: LoneFigures): readonly string[] {
  return [
    name,
    formatMs(median(add)),
    formatMs(percentile(add, 90)),
    formatMs(median(del)),
    formatMs(cpuPerCall(addCPU, add)),
    formatMs(cpuPerCall(delCPU, del)),
  ];
}
