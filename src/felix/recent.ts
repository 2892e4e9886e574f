// SPDX-License-Identifier: Apache-2.0

/** Something that happened, for people. */
export interface Event {
  /** Units: Unix milliseconds. */
  readonly atMs: number;
  readonly what: string;
  /** How often in a row, when more than once. */
  readonly times?: number;
}

/** Remembers the last events and counts all of them. The same one again is no new line, but the old one counts it. */
export class RecentEvents {
  readonly #limit: number;
  #events: Event[] = [];
  #total = 0;

  constructor(limit = 20) {
    this.#limit = limit;
  }

  add(atMs: number, what: string): void {
    this.#total++;
    const last = this.#events.at(-1);
    if (last?.what === what)
      this.#events = [...this.#events.slice(0, -1), { atMs, what, times: (last.times ?? 1) + 1 }];
    else this.#events = [...this.#events, { atMs, what }].slice(-this.#limit);
  }

  /** Shape: oldest first. */
  report(): EventReport {
    return { total: this.#total, recent: this.#events };
  }
}

/** Both together, in the order of time. */
export function mergeEvents(a: EventReport, b: EventReport): EventReport {
  const recent = [...a.recent, ...b.recent].toSorted((x, y) => x.atMs - y.atMs);
  return { total: a.total + b.total, recent };
}

export interface EventReport {
  /** Since the agent's start. */
  readonly total: number;
  readonly recent: readonly Event[];
}
