// SPDX-License-Identifier: Apache-2.0

/** After a hint that something changed. Listings may take a tenth of the time. Units: milliseconds. */
const SPACING_MS = 200;
const SPACING_FACTOR = 10;

/** When the kernel is listed and compared again: soon after a hint, but not all the time. Units: Unix milliseconds. */
export class ResyncSchedule {
  #refreshMs: number;
  #dueMs = 0;
  #allowedMs = 0;

  /** @param refreshMs between two listings without a hint. Units: milliseconds. */
  constructor(refreshMs: number) {
    this.#refreshMs = refreshMs;
  }

  get dueMs(): number {
    return this.#dueMs;
  }

  configure(refreshMs: number, nowMs: number): void {
    this.#refreshMs = refreshMs;
    this.#dueMs = Math.min(this.#dueMs, nowMs + refreshMs);
  }

  /** Before the listing: a hint that comes meanwhile asks for another one. */
  begin(nowMs: number): void {
    this.#dueMs = nowMs + this.#refreshMs;
  }

  /** The time that it took decides when the next one may be. */
  done(startedMs: number, endMs: number): void {
    this.#allowedMs = endMs + Math.max(SPACING_MS, SPACING_FACTOR * (endMs - startedMs));
  }

  /** Somebody else changed something. */
  hint(nowMs: number): void {
    this.#dueMs = Math.min(this.#dueMs, Math.max(nowMs, this.#allowedMs));
  }

  /** Something may have changed that nobody tells of. */
  hintLater(nowMs: number, delayMs: number): void {
    this.#dueMs = Math.min(this.#dueMs, nowMs + delayMs);
  }
}
