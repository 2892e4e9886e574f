// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "./clock.ts";

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

/** A clock that tests move by hand. It stands still until `advance`. */
export class FakeClock implements Clock {
  #nowNs: bigint;
  readonly #sleepers = new Set<Sleeper>();

  /** @param startMs Unix time in milliseconds. */
  constructor(startMs = 1_787_395_200_000) {
    this.#nowNs = BigInt(startMs) * 1_000_000n;
  }

  nowMs(): number {
    return Number(this.#nowNs / 1_000_000n);
  }

  nowNs(): bigint {
    return this.#nowNs;
  }

  /** How many sleeps are waiting. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const aborted = (): void => {
        this.#sleepers.delete(sleeper);
        reject(signal?.reason);
      };
      const sleeper: Sleeper = {
        dueMs: this.nowMs() + Math.max(0, Math.ceil(ms)),
        wake: () => {
          signal?.removeEventListener("abort", aborted);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", aborted, { once: true });
    });
  }

  /** Moves time on, waking sleepers in the order of their time and letting the code behind each of them run. */
  async advance(ms: number): Promise<void> {
    const endMs = this.nowMs() + ms;
    await settle();
    for (;;) {
      const next = [...this.#sleepers].sort((a, b) => a.dueMs - b.dueMs)[0];
      if (next === undefined || next.dueMs > endMs) break;
      this.#sleepers.delete(next);
      if (next.dueMs > this.nowMs()) this.#nowNs = BigInt(next.dueMs) * 1_000_000n;
      next.wake();
      await settle();
    }
    this.#nowNs += BigInt(endMs - this.nowMs()) * 1_000_000n;
  }
}

/** Lets all promise callbacks run, also chains of some length. */
async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}
