// SPDX-License-Identifier: Apache-2.0

import { blockOf, type CIDR, cidrContains, cidrCovers, cidrsOverlap } from "../net/cidr.ts";
import { addToIP, bitsOf, type Family, familyOf, type IP } from "../net/ip.ts";
import type { IPv6 } from "../net/ipv6.ts";

/** A pool as far as the search for a new block needs it. */
export interface CandidatePool {
  readonly name: string;
  readonly cidr: CIDR;
  readonly family: Family;
  readonly blockSize: number;
}

/**
 * Walks a pool's blocks once, from a start that differs by node, so that nodes seldom reach for the same block.
 *
 * The start only spreads: any order suits Calico's walk. Source: calico-interop 2.4.
 *
 * @param passOver a network that holds the candidate and of which no block is wanted: the walk goes on behind it in one
 *   step, since a pool of IPv6 has more blocks than anybody can look at
 */
export function* blockCandidates(
  pool: CandidatePool,
  nodeName: string,
  passOver: (candidate: CIDR) => CIDR | undefined = () => undefined,
): Generator<CIDR, void, undefined> {
  const bits = pool.blockSize - pool.cidr.prefixLength;
  const step = bitsOf(pool.family) - pool.blockSize;
  const start = blockStart(nodeName, bits);
  const count = 1n << BigInt(bits);
  for (let i = 0n; i < count; ) {
    const index = (start + i) & (count - 1n);
    const candidate = blockOf(offsetIP(pool.cidr.network, index << BigInt(step)), pool.blockSize);
    const passed = passOver(candidate);
    if (passed === undefined) yield candidate;
    i += passed === undefined ? 1n : blocksToEnd(index, pool.blockSize - passed.prefixLength);
  }
}

/** From a block's index to the first one behind the network of 2^bits blocks that it lies in. */
function blocksToEnd(index: bigint, bits: number): bigint {
  return (((index >> BigInt(bits)) + 1n) << BigInt(bits)) - index;
}

/** FNV-1 over 32 bits, stretched for pools of more blocks than that. */
function blockStart(nodeName: string, bits: number): bigint {
  const high = BigInt(fnv1(nodeName));
  const low = BigInt(fnv1(`${nodeName}/`));
  return ((high << 32n) | low) & ((1n << BigInt(bits)) - 1n);
}

/** FNV-1, 32 bits, over UTF-8. Source: draft-eastlake-fnv, section 2. */
export function fnv1(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash, 0x01000193) ^ byte;
  return hash >>> 0;
}

function offsetIP(ip: IP, offset: bigint): IP {
  if (typeof ip === "number") return addToIP(ip, Number(offset));
  // The walk stays inside the pool, so the sum stays inside the family.
  return (ip + offset) as IPv6;
}

/**
 * All blocks that are known, for one question: does a new block overlap any of them? Names cannot answer it: when a
 * pool was made again with another block size, 10.0.0.0/25 and 10.0.0.0/26 are different objects with the same
 * addresses.
 */
export class KnownBlocks {
  readonly #byLength = new Map<number, Set<IP>>();

  constructor(blocks: Iterable<CIDR> = []) {
    for (const block of blocks) this.add(block);
  }

  add(block: CIDR): void {
    const key = lengthKey(block);
    const networks = this.#byLength.get(key) ?? new Set<IP>();
    this.#byLength.set(key, networks.add(block.network));
  }

  delete(block: CIDR): void {
    this.#byLength.get(lengthKey(block))?.delete(block.network);
  }

  /** The block of another shape that shares addresses with this one, or the block itself. */
  overlap(block: CIDR): CIDR | undefined {
    for (const [key, networks] of this.#byLength) {
      if (Math.sign(key) !== Math.sign(lengthKey(block))) continue;
      const prefixLength = Math.abs(key) - 1;
      if (prefixLength <= block.prefixLength) {
        const outer = blockOf(block.network, prefixLength);
        if (networks.has(outer.network)) return outer;
      } else {
        for (const network of networks) if (cidrContains(block, network)) return { network, prefixLength };
      }
    }
    return undefined;
  }
}

/** Prefix length and family in one number: positive for IPv4, negative for IPv6, never 0. */
function lengthKey(block: CIDR): number {
  return familyOf(block.network) === 4 ? block.prefixLength + 1 : -(block.prefixLength + 1);
}

/**
 * The pool that keeps a candidate from being claimed for `pool`: one that lies inside it and has the same addresses.
 * Pools should not overlap; where they do, the more specific one has them, and of two equal ones the first by name, so
 * that all nodes decide alike and never cut blocks of two sizes out of the same addresses.
 */
export function coveringPool<P extends CandidatePool>(candidate: CIDR, pool: P, pools: readonly P[]): P | undefined {
  return pools.find((other) => {
    if (other.name === pool.name || !cidrsOverlap(other.cidr, candidate)) return false;
    if (!cidrCovers(pool.cidr, other.cidr)) return false;
    return other.cidr.prefixLength > pool.cidr.prefixLength || other.name < pool.name;
  });
}
