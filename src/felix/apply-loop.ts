// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../lib/clock.ts";
import { type Backoff, backoffMs } from "../lib/retry.ts";

export interface ApplyLoopOptions {
  readonly clock: Clock;
  readonly random: () => number;
  /** Does all there is to do. Resolves to when it wants to run again although nobody wakes it. Units: milliseconds. */
  readonly turn: () => Promise<number | undefined>;
  /** A turn that rejected is repeated with back-off. */
  readonly onError: (error: unknown, retryInMs: number) => void;
  /** Wakes that come this close together share a turn. Units: milliseconds. @default 5 */
  readonly coalesceMs?: number;
  /** The longest time between two signs of life. Units: milliseconds. @default 10_000 */
  readonly heartbeatMs?: number;
  readonly backoff?: Backoff;
}

/** Without a reason, abort makes an error with its stack, and there is a wake for each endpoint. */
const WOKEN = "woken";

/**
 * Runs turns one at a time, when woken and when they asked for it.
 *
 * Invariants: single-flight: a turn never overlaps another; a wake during a turn leads to one more turn after it, so no
 * change is missed; a turn that rejects never ends the loop.
 */
export class ApplyLoop {
  readonly #options: ApplyLoopOptions;
  readonly #backoff: Backoff;
  readonly #stop = new AbortController();
  #isWoken = false;
  #nap: AbortController | undefined;
  #isWakeDue = false;
  #done: Promise<void> | undefined;
  #lastBeatMs: number;
  #turnStartedMs: number | undefined;

  constructor(options: ApplyLoopOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? { baseMs: 100, maxMs: 10_000 };
    this.#lastBeatMs = options.clock.nowMs();
  }

  /** When the loop last showed that it runs. Units: Unix milliseconds. */
  get lastBeatMs(): number {
    return this.#lastBeatMs;
  }

  /** Since when a turn is under way. Units: Unix milliseconds. */
  get turnStartedMs(): number | undefined {
    return this.#turnStartedMs;
  }

  /** Idempotent: any number of wakes before a turn mean one turn. */
  wake(): void {
    this.#isWoken = true;
    this.#nap?.abort(WOKEN);
  }

  /** Leads to one turn within that time, for any number of calls. Units: milliseconds. */
  wakeWithin(ms: number): void {
    if (this.#isWakeDue) return;
    this.#isWakeDue = true;
    void this.#sleep(ms, this.#stop.signal).then(() => {
      this.#isWakeDue = false;
      this.wake();
    });
  }

  start(): void {
    this.#done ??= this.#run();
  }

  /** Resolves when the turn under way has ended; no other will begin. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#nap?.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { clock, coalesceMs = 5, random, turn, onError } = this.#options;
    const { signal } = this.#stop;
    let failures = 0;
    let dueMs = clock.nowMs();
    while (!signal.aborted) {
      await this.#sleepUntilDue(dueMs);
      if (this.#isWoken) await this.#sleep(coalesceMs, signal);
      if (signal.aborted) return;
      this.#isWoken = false;
      this.#turnStartedMs = clock.nowMs();
      let waitMs = 0;
      try {
        const againInMs = await turn();
        failures = 0;
        dueMs = againInMs === undefined ? Number.POSITIVE_INFINITY : clock.nowMs() + againInMs;
      } catch (error) {
        failures++;
        waitMs = backoffMs(this.#backoff, failures, random());
        dueMs = clock.nowMs() + waitMs;
        onError(error, waitMs);
      }
      this.#turnStartedMs = undefined;
      this.#lastBeatMs = clock.nowMs();
      // Slept through even when woken: events must not turn a kernel worker that fails into a busy loop.
      if (waitMs > 0) await this.#sleep(waitMs, signal);
    }
  }

  async #sleepUntilDue(dueMs: number): Promise<void> {
    const { clock, heartbeatMs = 10_000 } = this.#options;
    while (!this.#isWoken && !this.#stop.signal.aborted) {
      const leftMs = dueMs - clock.nowMs();
      if (leftMs <= 0) return;
      this.#nap = new AbortController();
      await this.#sleep(Math.min(leftMs, heartbeatMs), this.#nap.signal);
      this.#nap = undefined;
      this.#lastBeatMs = clock.nowMs();
    }
  }

  /** Ends early, without an error, when the signal aborts. */
  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    await this.#options.clock.sleep(ms, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }
}
