// SPDX-License-Identifier: Apache-2.0

import type { Sightings } from "./types.ts";

/**
 * Turns suspicion into certainty: a thing counts when an earlier look has seen it, too, and long enough ago. A key holds
 * what must not have changed in between (a version, a sequence number), so what changed is seen for the first time. What
 * one look misses is forgotten.
 */
export class SightingLog {
  readonly #before: Sightings;
  readonly #now = new Map<string, number>();
  readonly #nowMs: number;

  constructor(before: Sightings, nowMs: number) {
    this.#before = before;
    this.#nowMs = nowMs;
  }

  /** Notes that the thing is still suspicious, and says for how long it has been so; undefined at the first look. */
  ageMs(key: string): number | undefined {
    const sinceMs = this.#before.get(key);
    this.#now.set(key, sinceMs ?? this.#nowMs);
    return sinceMs === undefined ? undefined : this.#nowMs - sinceMs;
  }

  /** The same: true when it has been suspicious for the grace, by an earlier look. */
  isOld(key: string, graceMs: number): boolean {
    const ageMs = this.ageMs(key);
    return ageMs !== undefined && ageMs >= graceMs;
  }

  /** For the next look. */
  get sightings(): Sightings {
    return this.#now;
  }
}
