// SPDX-License-Identifier: Apache-2.0

/** Time as a dependency, so that pure code and tests decide what "now" is. */
export interface Clock {
  /** Unix time. Units: milliseconds. */
  nowMs(): number;
  /** Unix time. Units: nanoseconds; the seed of a new block's sequence number. */
  nowNs(): bigint;
  /** Resolves after the given time, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}
