// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";

/** How long a test goes on breaking things: short for every day, minutes when somebody asks for them. Units: milliseconds. */
export function faultMs(defaultSeconds: number): number {
  return Number(process.env["GINGHAM_FAULT_SECONDS"] ?? defaultSeconds) * 1000;
}

/** A source of numbers that gives the same each time, so that a failure can be repeated. */
export function lcg(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
}

/** Does one of these after the other, at random, and returns how many of them were possible. */
export async function actAtRandom(
  acts: readonly ((pick: (below: number) => number) => unknown)[],
  { forMs, seed = 42 }: { readonly forMs: number; readonly seed?: number },
): Promise<number> {
  const pick = lcg(seed);
  const endMs = performance.now() + forMs;
  let done = 0;
  while (performance.now() < endMs) {
    try {
      acts[pick(acts.length)]?.(pick);
      done++;
    } catch {
      // It was not there, since another act had taken it; that is as good.
    }
    await sleep(pick(60));
  }
  return done;
}
