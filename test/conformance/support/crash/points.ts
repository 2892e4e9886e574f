// SPDX-License-Identifier: Apache-2.0
import { appendFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

/**
 * Fault points of a process under test: each outside effect passes one before and one after. The process writes down
 * what it passes, and kills itself for good at the one that it was told: no undo, no answer, no flush.
 *
 * Told by the environment from the start, or later over the IPC channel, which a long-lived process begins to count by.
 */

/** File that gets a line for each point. */
export const POINTS_LOG = "CRASH_LOG";
/** Name of the point to die at; empty: only count. Absent: points mean nothing. */
export const POINTS_AT = "CRASH_AT";

/** Sent to a process to arm it anew; it answers the same. */
export interface Arm {
  readonly at: string;
}

const log = process.env[POINTS_LOG];
let target = process.env[POINTS_AT];
let passed = new Map<string, number>();

process.on("message", ({ at }: Arm) => {
  passed = new Map();
  target = at;
  process.send?.({ at } satisfies Arm);
});

function pass(point: string): void {
  // The agent's kernel threads make the same effects, which its main thread has counted already.
  if (!isMainThread || log === undefined || target === undefined) return;
  const count = (passed.get(point) ?? 0) + 1;
  passed.set(point, count);
  const name = count === 1 ? point : `${point}, ${count}`;
  appendFileSync(log, `${name}\n`);
  if (name === target) process.kill(process.pid, "SIGKILL");
}

export async function around<T>(what: string, effect: () => Promise<T>): Promise<T> {
  pass(`before ${what}`);
  const result = await effect();
  pass(`after ${what}`);
  return result;
}

export function aroundSync<T>(what: string, effect: () => T): T {
  pass(`before ${what}`);
  const result = effect();
  pass(`after ${what}`);
  return result;
}
