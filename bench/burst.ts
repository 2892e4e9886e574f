// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { type CPUTimes, type Daemons, readCPU, spentSince, totalCPU } from "./lone.ts";
import { type Contender, callPlugin } from "./plugin-call.ts";
import { formatMs, median } from "./stats.ts";

/** Whole bursts, from the first fork to the last answer. Units: milliseconds. */
export interface BurstFigures {
  readonly name: string;
  readonly pods: number;
  readonly add: readonly number[];
  readonly del: readonly number[];
  /** Of each burst, all processes. Units: milliseconds a pod. */
  readonly addCPU: readonly number[];
  readonly delCPU: readonly number[];
}

export interface BurstOptions {
  readonly contenders: readonly Contender[];
  readonly bursts: number;
  /** One namespace a pod. */
  readonly netns: readonly string[];
  /** As in the bench of lone pods. */
  readonly daemons: Readonly<Record<string, Daemons>>;
  readonly firstPod: number;
}

/** What daemons still do for a burst after its last answer. */
const SETTLE_MS = 300;

/** All ADDs at once, then all DELs at once; the contenders take turns. */
export async function measureBurst(options: BurstOptions): Promise<readonly BurstFigures[]> {
  const { contenders, bursts, netns, daemons, firstPod } = options;
  const figures = contenders.map(({ name }) => ({
    name,
    pods: netns.length,
    ...{ add: [] as number[], del: [] as number[], addCPU: [] as number[], delCPU: [] as number[] },
  }));
  for (let burst = 0; burst < bursts; burst++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const index = (turn + burst) % contenders.length;
      const [contender, figure] = [contenders[index], figures[index]];
      if (contender === undefined || figure === undefined) continue;
      const pids = daemons[contender.name] ?? {};
      const calls = netns.map((path, i) => ({
        contender,
        pod: firstPod + burst * netns.length + i,
        containerID: randomBytes(32).toString("hex"),
        netns: path,
      }));
      const add = await measure(pids, () => calls.map((call) => callPlugin({ ...call, command: "ADD" })));
      const del = await measure(pids, () => calls.map((call) => callPlugin({ ...call, command: "DEL" })));
      figure.add.push(add.ms);
      figure.del.push(del.ms);
      figure.addCPU.push(totalCPU(add.cpu) / calls.length);
      figure.delCPU.push(totalCPU(del.cpu) / calls.length);
    }
  }
  return figures;
}

async function measure(
  pids: Daemons,
  startAll: () => readonly Promise<unknown>[],
): Promise<{ readonly ms: number; readonly cpu: CPUTimes }> {
  const before = readCPU(pids);
  const start = performance.now();
  await Promise.all(startAll());
  const ms = performance.now() - start;
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  return { ms, cpu: spentSince(before, pids) };
}

export const BURST_HEAD: readonly string[] = ["at once", "ADDs", "DELs", "CPU an ADD", "CPU a DEL"];

export function renderBurst({ name, pods, add, del, addCPU, delCPU }: BurstFigures): readonly string[] {
  return [`${pods}, ${name}`, ...[add, del, addCPU, delCPU].map((values) => formatMs(median(values)))];
}
