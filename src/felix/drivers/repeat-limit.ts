// SPDX-License-Identifier: Apache-2.0
import { backoffMs } from "../../lib/retry.ts";

const BACKOFF = { baseMs: 1000, maxMs: 60_000 };
/** After so long without a write, the next one is the first again. Units: milliseconds. */
const CALM_MS = 120_000;

/**
 * How soon the same may be written again. Once is at once: an object that was deleted and made anew lacks what it had. But a
 * server or admission hook that drops what is written must not be asked again and again.
 */
export class RepeatLimit {
  #writes = 0;
  #writtenMs = Number.NEGATIVE_INFINITY;
  #allowedMs = Number.NEGATIVE_INFINITY;

  /** Units: milliseconds; 0: now. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.#allowedMs - nowMs);
  }

  wrote(nowMs: number): void {
    if (nowMs - this.#writtenMs > CALM_MS) this.#writes = 0;
    this.#writes++;
    this.#writtenMs = nowMs;
    this.#allowedMs = nowMs + backoffMs(BACKOFF, this.#writes, 1);
  }
}
