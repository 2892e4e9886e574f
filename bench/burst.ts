// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { type Contender, callPlugin } from "./plugin-call.ts";
import { formatMs, median } from "./stats.ts";

/** Whole bursts, from the first fork to the last answer. Units: milliseconds. */
export interface BurstFigures {
  readonly name: string;
  readonly add: readonly number[];
  readonly del: readonly number[];
}

export interface BurstOptions {
  readonly contenders: readonly Contender[];
  readonly bursts: number;
  /** One namespace a pod. */
  readonly netns: readonly string[];
  readonly firstPod: number;
  /** Called around each burst of ADDs of the contender. */
  readonly onBurst?: (contender: Contender, phase: "before" | "after") => Promise<void>;
}

/** All ADDs at once, then all DELs at once; the contenders take turns. */
export async function measureBurst(options: BurstOptions): Promise<readonly BurstFigures[]> {
  const { contenders, bursts, netns, firstPod, onBurst } = options;
  const figures = contenders.map(({ name }) => ({ name, add: [] as number[], del: [] as number[] }));
  for (let burst = 0; burst < bursts; burst++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const index = (turn + burst) % contenders.length;
      const [contender, figure] = [contenders[index], figures[index]];
      if (contender === undefined || figure === undefined) continue;
      const calls = netns.map((path, i) => ({
        contender,
        pod: firstPod + burst * netns.length + i,
        containerID: randomBytes(32).toString("hex"),
        netns: path,
      }));
      await onBurst?.(contender, "before");
      figure.add.push(await timeAll(calls.map((call) => () => callPlugin({ ...call, command: "ADD" }))));
      await onBurst?.(contender, "after");
      figure.del.push(await timeAll(calls.map((call) => () => callPlugin({ ...call, command: "DEL" }))));
    }
  }
  return figures;
}

async function timeAll(calls: readonly (() => Promise<number>)[]): Promise<number> {
  const start = performance.now();
  await Promise.all(calls.map((call) => call()));
  return performance.now() - start;
}

export function renderBurst({ name, add, del }: BurstFigures): readonly string[] {
  return [name, formatMs(median(add)), formatMs(median(del))];
}
