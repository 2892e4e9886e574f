// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";

/** Takes the time of each step, for the log. */
export interface Stopwatch {
  lap(step: string): void;
  /** Units: milliseconds, by step, and all of them as `total`. */
  stepsMs(): Readonly<Record<string, number>>;
}

export function startStopwatch(clock: Clock): Stopwatch {
  const start = clock.nowNs();
  const steps: Record<string, number> = {};
  let last = start;
  return {
    lap(step) {
      const now = clock.nowNs();
      steps[step] = toMs(now - last);
      last = now;
    },
    stepsMs: () => ({ ...steps, total: toMs(last - start) }),
  };
}

function toMs(ns: bigint): number {
  return Number(ns / 1000n) / 1000;
}
