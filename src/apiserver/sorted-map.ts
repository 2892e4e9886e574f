// SPDX-License-Identifier: Apache-2.0

/** A map that also answers ranges of keys in order. Adding a new key moves pointers, which is cheap for thousands. */
export class SortedMap<T> {
  readonly #values = new Map<string, T>();
  readonly #keys: string[] = [];

  get(key: string): T | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: T): void {
    if (!this.#values.has(key)) this.#keys.splice(this.#position(key), 0, key);
    this.#values.set(key, value);
  }

  delete(key: string): void {
    if (this.#values.delete(key)) this.#keys.splice(this.#position(key), 1);
  }

  /** The values whose key begins with the prefix, in the order of keys. */
  range(prefix: string): T[] {
    const found: T[] = [];
    for (let i = prefix === "" ? 0 : this.#position(prefix); i < this.#keys.length; i++) {
      const key = this.#keys[i] ?? "";
      if (!key.startsWith(prefix)) break;
      const value = this.#values.get(key);
      if (value !== undefined) found.push(value);
    }
    return found;
  }

  /** Index of the first key that is not below the given one. */
  #position(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#keys[middle] ?? "") < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
