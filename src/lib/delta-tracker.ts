// SPDX-License-Identifier: Apache-2.0

/**
 * Keeps two views of one set of keyed things, what should be (desired) and what is (dataplane), and always knows the
 * smallest difference between them. It does no IO: a driver reads the kernel into it, takes the pending changes out,
 * makes them, and says which ones the kernel accepted.
 *
 *             desired                      dataplane
 *       ┌─────────────────────┬───────────────────────────────┐
 *       │                     │                               │
 *       │  only desired       │  in both                      │  only dataplane
 *       │  → pendingUpdates   │    equal     → nothing to do  │  → pendingDeletions
 *       │    (to be created)  │    different → pendingUpdates │    (to be deleted)
 *       │                     │                (to be changed)│
 *       └─────────────────────┴───────────────────────────────┘
 *
 * Each key is therefore in exactly one of: in sync, pendingUpdates, pendingDeletions. The invariants, for every key k:
 *
 *   k in pendingUpdates    ⇔  desired has k, and dataplane lacks it or holds a value that is not equal
 *   k in pendingDeletions  ⇔  dataplane has k, and desired lacks it
 *
 * The two views change independently and in any order; what is pending depends only on what they hold now. Every method
 * is synchronous, so that a driver that awaits the kernel can never leave the tracker half-way: it calls
 * `settleUpdates` afterwards, whose callback says for each pending key whether the kernel now agrees. A key for which it
 * does not stays pending, and so is tried again.
 *
 * Cost: one map operation for each change, whatever the size; `replaceDataplane` visits both views once.
 */
export class DeltaTracker<K, V> {
  readonly #equal: (a: V, b: V) => boolean;
  readonly #desired = new Map<K, V>();
  readonly #dataplane = new Map<K, V>();
  readonly #pendingUpdates = new Map<K, V>();
  readonly #pendingDeletions = new Map<K, V>();

  /** @param equal whether the kernel needs no change to get from one value to the other. */
  constructor(equal: (a: V, b: V) => boolean = Object.is) {
    this.#equal = equal;
  }

  get desired(): ReadonlyMap<K, V> {
    return this.#desired;
  }

  get dataplane(): ReadonlyMap<K, V> {
    return this.#dataplane;
  }

  /** What has to be written, by key, with the desired value. */
  get pendingUpdates(): ReadonlyMap<K, V> {
    return this.#pendingUpdates;
  }

  /** What has to be deleted, by key, with the value that the dataplane holds. */
  get pendingDeletions(): ReadonlyMap<K, V> {
    return this.#pendingDeletions;
  }

  /** True when the views agree. */
  get inSync(): boolean {
    return this.#pendingUpdates.size === 0 && this.#pendingDeletions.size === 0;
  }

  setDesired(key: K, value: V): void {
    this.#desired.set(key, value);
    this.#recompute(key);
  }

  deleteDesired(key: K): void {
    if (this.#desired.delete(key)) this.#recompute(key);
  }

  /** Records that the dataplane holds this value (it was read there, or just written). */
  setDataplane(key: K, value: V): void {
    this.#dataplane.set(key, value);
    this.#recompute(key);
  }

  /** Records that the dataplane does not hold the key. */
  deleteDataplane(key: K): void {
    if (this.#dataplane.delete(key)) this.#recompute(key);
  }

  /** Replaces the whole dataplane view by what was just read (a resync). A key given twice holds its last value. */
  replaceDataplane(entries: Iterable<readonly [K, V]>): void {
    const actual = new Map(entries);
    for (const key of this.#dataplane.keys()) if (!actual.has(key)) this.deleteDataplane(key);
    for (const [key, value] of actual) this.setDataplane(key, value);
  }

  /**
   * Goes through the pending updates; where the callback returns true the dataplane now holds the desired value, and the
   * key is in sync. Where it returns false the key stays pending.
   */
  settleUpdates(agrees: (key: K, value: V) => boolean): void {
    for (const [key, value] of [...this.#pendingUpdates]) if (agrees(key, value)) this.setDataplane(key, value);
  }

  /** The same for deletions: true means that the dataplane no longer holds the key. */
  settleDeletions(agrees: (key: K, value: V) => boolean): void {
    for (const [key, value] of [...this.#pendingDeletions]) if (agrees(key, value)) this.deleteDataplane(key);
  }

  #recompute(key: K): void {
    this.#pendingUpdates.delete(key);
    this.#pendingDeletions.delete(key);
    const desired = this.#desired.get(key);
    const actual = this.#dataplane.get(key);
    // `has` beside `get`: undefined may be a value.
    const isDesired = desired !== undefined || this.#desired.has(key);
    const isActual = actual !== undefined || this.#dataplane.has(key);
    if (isDesired) {
      // The casts undo Map.get's `| undefined`: presence was just established.
      if (!isActual || !this.#equal(desired as V, actual as V)) this.#pendingUpdates.set(key, desired as V);
    } else if (isActual) this.#pendingDeletions.set(key, actual as V);
  }
}
