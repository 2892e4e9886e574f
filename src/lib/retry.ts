// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "./clock.ts";

/** How long to wait before another try. Units: milliseconds. */
export interface Backoff {
  readonly baseMs: number;
  readonly maxMs: number;
  /** What each further try multiplies the wait by; 2 by default. */
  readonly factor?: number;
}

/**
 * The wait before try number `attempt` + 1, where `attempt` counts from 1.
 *
 * Half of it is random, so that callers who failed together do not come back together, and still nobody comes at once.
 *
 * @param random a number from 0 (included) to 1.
 */
export function backoffMs(backoff: Backoff, attempt: number, random: number): number {
  const full = Math.min(backoff.maxMs, backoff.baseMs * (backoff.factor ?? 2) ** Math.min(attempt - 1, 60));
  return full / 2 + (full / 2) * random;
}

export interface RetryOptions {
  /** Tries in all, the first one included. */
  readonly attempts: number;
  readonly backoff: Backoff;
  readonly clock: Clock;
  readonly random: () => number;
  /** Only what this says yes to is tried again: conflicts, interruptions. */
  readonly isRetryable: (error: unknown) => boolean;
  readonly signal?: AbortSignal;
}

/** Calls `fn` until it succeeds. Errors: the last one, when it is not retryable or the tries are used up. */
export async function retry<T>(fn: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    options.signal?.throwIfAborted();
    try {
      return await fn(attempt);
    } catch (error) {
      if (attempt >= options.attempts || !options.isRetryable(error)) throw error;
    }
    await options.clock.sleep(backoffMs(options.backoff, attempt, options.random()), options.signal);
  }
}
