// SPDX-License-Identifier: Apache-2.0
import type { StoreEvent } from "./entry.ts";

export type Listener = (events: readonly StoreEvent[]) => void;

/** The newest changes, in order, and those who listen. Bounded: what falls out is compacted, and a watch from there gets 410. */
export class EventLog {
  readonly #capacity: number;
  readonly #listeners = new Set<Listener>();
  #events: StoreEvent[] = [];
  #horizon: number;

  constructor(capacity: number, revision: number) {
    this.#capacity = capacity;
    this.#horizon = revision;
  }

  /** The oldest resourceVersion that a watch can start from. */
  get horizon(): number {
    return this.#horizon;
  }

  append(events: readonly StoreEvent[]): void {
    for (const event of events) this.#events.push(event);
    // Cut in halves, so that the cost of moving the rest is spread over many appends.
    if (this.#events.length > 2 * this.#capacity) this.compact(this.#capacity);
    for (const listener of this.#listeners) listener(events);
  }

  /** Forgets all but the newest events. */
  compact(keep: number): void {
    const dropped = this.#events.length - keep;
    if (dropped <= 0) return;
    this.#horizon = this.#events[dropped - 1]?.entry.revision ?? this.#horizon;
    this.#events = this.#events.slice(dropped);
  }

  /** The events after a resourceVersion, which must not be below the horizon. */
  since(revision: number): StoreEvent[] {
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#events[middle]?.entry.revision ?? 0) <= revision) low = middle + 1;
      else high = middle;
    }
    return this.#events.slice(low);
  }

  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
