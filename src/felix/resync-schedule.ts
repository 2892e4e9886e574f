// SPDX-License-Identifier: Apache-2.0

/** Between listings after hints, in the long run. Listings may take a tenth of the time. Units: milliseconds. */
const SPACING_MS = 200;
const SPACING_FACTOR = 10;
/** How much of that spacing a few hints in a row may run up: who changes things does it in several steps. Units: milliseconds. */
const BURST_MS = 2000;

/** When the kernel is listed and compared again: soon after a hint, but not all the time. Units: Unix milliseconds. */
export class ResyncSchedule {
  #refreshMs: number;
  #dueMs = 0;
  /** When the spacing of all listings so far will have passed. */
  #spacedMs = 0;

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

  /** The time that it took decides how soon others may follow. */
  done(startedMs: number, endMs: number): void {
    const spacingMs = Math.max(SPACING_MS, SPACING_FACTOR * (endMs - startedMs));
    this.#spacedMs = Math.max(this.#spacedMs, endMs) + spacingMs;
  }

  /** Somebody else changed something. */
  hint(nowMs: number): void {
    this.#dueMs = Math.min(this.#dueMs, Math.max(nowMs, this.#spacedMs - BURST_MS));
  }

  /** Something may have changed that nobody tells of. */
  hintLater(nowMs: number, delayMs: number): void {
    this.#dueMs = Math.min(this.#dueMs, nowMs + delayMs);
  }
}
