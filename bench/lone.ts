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
  /** CPU time of all processes together, over all ADDs and over all DELs. */
  readonly addCPU: number;
  readonly delCPU: number;
}

export interface LoneOptions {
  readonly contenders: readonly Contender[];
  readonly rounds: number;
  /** One namespace for each contender. */
  readonly netns: readonly string[];
  /** Daemons whose CPU time counts, for the contender of that name. */
  readonly daemons: Readonly<Record<string, readonly number[]>>;
  /** First pod to use; each round uses the next. */
  readonly firstPod: number;
}

const WARM_UP_ROUNDS = 10;
/** Daemons go on a little after the answer (status, watches): that is work of the call, too. */
const SETTLE_MS = 15;

/** ADD and DEL, one pod after the other; the contenders take turns, and the order of the turns rotates. */
export async function measureLone(options: LoneOptions): Promise<readonly LoneFigures[]> {
  const { contenders, rounds, netns, daemons, firstPod } = options;
  const figures = contenders.map(({ name }) => ({
    name,
    add: [] as number[],
    del: [] as number[],
    addCPU: 0,
    delCPU: 0,
  }));
  for (let round = 0; round < WARM_UP_ROUNDS + rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const index = (turn + round) % contenders.length;
      const [contender, figure] = [contenders[index], figures[index]];
      if (contender === undefined || figure === undefined) continue;
      const call = {
        contender,
        pod: firstPod + round,
        containerID: randomBytes(32).toString("hex"),
        netns: netns[index] ?? "",
      };
      const pids = daemons[contender.name] ?? [];
      const add = await measureCall(() => callPlugin({ ...call, command: "ADD" }), pids);
      const del = await measureCall(() => callPlugin({ ...call, command: "DEL" }), pids);
      if (round < WARM_UP_ROUNDS) continue;
      figure.add.push(add.ms);
      figure.del.push(del.ms);
      figure.addCPU += add.cpu;
      figure.delCPU += del.cpu;
    }
  }
  return figures;
}

async function measureCall(call: () => Promise<number>, pids: readonly number[]): Promise<{ ms: number; cpu: number }> {
  const before = endedChildrenCPU() + sum(pids.map(processCPU));
  const ms = await call();
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  return { ms, cpu: endedChildrenCPU() + sum(pids.map(processCPU)) - before };
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
    formatMs(addCPU / add.length),
    formatMs(delCPU / del.length),
  ];
}
