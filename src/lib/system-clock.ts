// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "./clock.ts";

/** The machine's clock. Only roots construct with it; everything else takes a Clock. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  // Node has no wall clock in nanoseconds: the digits below a millisecond come from the monotonic clock, so that two
  // blocks made in one millisecond still start from different numbers.
  nowNs: () => BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n),
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
