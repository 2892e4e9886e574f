// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { type Backoff, backoffMs } from "../../lib/retry.ts";

interface Failure {
  readonly message: string;
  readonly attempts: number;
  readonly retryAtMs: number;
}

/** Remembers which keys of a driver failed, with what message, and when each may be tried again (with back-off). */
export class FailureLedger {
  readonly #options: { readonly clock: Clock; readonly random: () => number; readonly backoff: Backoff };
  readonly #failures = new Map<string, Failure>();

  constructor(options: { readonly clock: Clock; readonly random: () => number; readonly backoff: Backoff }) {
    this.#options = options;
  }

  has(key: string): boolean {
    return this.#failures.has(key);
  }

  /** Whether the key may be tried now: it never failed, or its wait is over. */
  isDue(key: string): boolean {
    const failure = this.#failures.get(key);
    return failure === undefined || failure.retryAtMs <= this.#options.clock.nowMs();
  }

  failed(key: string, message: string): void {
    const { clock, random, backoff } = this.#options;
    const attempts = (this.#failures.get(key)?.attempts ?? 0) + 1;
    this.#failures.set(key, { message, attempts, retryAtMs: clock.nowMs() + backoffMs(backoff, attempts, random()) });
  }

  succeeded(key: string): void {
    this.#failures.delete(key);
  }

  keepOnly(isWanted: (key: string) => boolean): void {
    for (const key of this.#failures.keys()) if (!isWanted(key)) this.#failures.delete(key);
  }

  /** Units: Unix milliseconds. */
  get nextRetryMs(): number | undefined {
    let next: number | undefined;
    for (const { retryAtMs } of this.#failures.values()) next = Math.min(next ?? retryAtMs, retryAtMs);
    return next;
  }

  messages(): readonly (readonly [key: string, message: string])[] {
    return [...this.#failures].map(([key, { message }]) => [key, message]);
  }
}
