// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "./clock.ts";

/** How far the two clocks may drift apart before the machine's wall clock counts again. */
const MAX_DRIFT_NS = 5_000_000n;
let offsetNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

/**
 * Node has no wall clock in nanoseconds: the monotonic clock, beside the wall clock. So differences are exact, and two
 * blocks made in one millisecond start from different numbers.
 */
function wallNs(): bigint {
  const monotonicNs = process.hrtime.bigint();
  const nowNs = BigInt(Date.now()) * 1_000_000n;
  const driftNs = monotonicNs + offsetNs - nowNs;
  // Somebody set the clock, or the machine was suspended.
  if (driftNs > MAX_DRIFT_NS || driftNs < -MAX_DRIFT_NS) offsetNs = nowNs - monotonicNs;
  return monotonicNs + offsetNs;
}

/** The machine's clock. Only roots construct with it; everything else takes a Clock. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  nowNs: wallNs,
  // Plain timers: timers/promises makes an AbortController's worth of objects for each sleep, and most are cut short.
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      }, ms);
      signal?.addEventListener("abort", onAbort, { once: true });
    }),
};

/**
 * The same for what is due after a while: `nowMs` began as Unix time and has gone on evenly since, also when somebody set the
 * clock. An hour back must not put off repairs for an hour, nor an hour forward end every watch. `nowNs` is the wall clock's.
 */
export const steadyClock: Clock = {
  ...systemClock,
  nowMs: () => Math.floor(performance.timeOrigin + performance.now()),
};
