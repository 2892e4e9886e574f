// SPDX-License-Identifier: Apache-2.0
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "./clock.ts";

/** The machine's clock. Only roots construct with it; everything else takes a Clock. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  // Node has no wall clock in nanoseconds: the digits below a millisecond come from the monotonic clock, so that two
  // blocks made in one millisecond still start from different numbers.
  nowNs: () => BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n),
  sleep: async (ms, signal) => {
    if (signal === undefined) return await delay(ms);
    try {
      await delay(ms, undefined, { signal });
    } catch (error) {
      // timers/promises wraps the reason in an AbortError; the contract is the reason itself.
      throw signal.aborted ? signal.reason : error;
    }
  },
};
