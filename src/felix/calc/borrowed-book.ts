// SPDX-License-Identifier: Apache-2.0
import { formatCIDR, hostCIDR } from "../../net/cidr.ts";
import type { BorrowedAddress } from "./borrowed.ts";
import type { Destinations } from "./destinations.ts";

/** The addresses that nodes have borrowed, by block and by node. What changes marks the destinations that it concerns. */
export class BorrowedBook {
  readonly #destinations: Destinations;
  /** By name of the block. */
  readonly #byBlock = new Map<string, readonly BorrowedAddress[]>();
  /** Destinations that a node has borrowed, with the number of blocks that say so. */
  readonly #byNode = new Map<string, Map<string, number>>();

  constructor(destinations: Destinations) {
    this.#destinations = destinations;
  }

  get size(): number {
    let size = 0;
    for (const addresses of this.#byBlock.values()) size += addresses.length;
    return size;
  }

  /** The keys of what a node has borrowed. */
  destinationsOf(node: string): Iterable<string> {
    return this.#byNode.get(node)?.keys() ?? [];
  }

  /** Replaces what is borrowed of a block. */
  set(block: string, addresses: readonly BorrowedAddress[]): void {
    for (const { ip, node } of this.#byBlock.get(block) ?? []) {
      this.#destinations.change(hostCIDR(ip)).borrowers.delete(block);
      this.#count(node, formatCIDR(hostCIDR(ip)), -1);
    }
    this.#byBlock.delete(block);
    if (addresses.length === 0) return;
    this.#byBlock.set(block, addresses);
    for (const { ip, node } of addresses) {
      this.#destinations.change(hostCIDR(ip)).borrowers.set(block, node);
      this.#count(node, formatCIDR(hostCIDR(ip)), 1);
    }
  }

  #count(node: string, key: string, step: 1 | -1): void {
    const keys = this.#byNode.get(node) ?? new Map<string, number>();
    const count = (keys.get(key) ?? 0) + step;
    if (count === 0) keys.delete(key);
    else keys.set(key, count);
    if (keys.size === 0) this.#byNode.delete(node);
    else this.#byNode.set(node, keys);
  }
}
