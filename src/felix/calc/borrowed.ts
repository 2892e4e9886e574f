// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { Node } from "../../crds/core.ts";
import { effectiveIPPool, type IPPool } from "../../crds/ip-pool.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { nodeOfAffinity } from "../../ipam/affinity.ts";
import { type CIDR, cidrCovers, cidrsOverlap, ipAt, parseCIDR } from "../../net/cidr.ts";
import { bitsOf, type IP } from "../../net/ip.ts";

/**
 * Written by a node's agent on its Node: names of the blocks, with commas between them, out of which it has borrowed, for
 * the others to read these blocks at once. Only a hint: the blocks say what is borrowed.
 */
export const BORROWS_ANNOTATION = "gingham.dev/borrows-from";
/** Nodes that borrow from more than this are found by the listing of all blocks. */
const MAX_HINTS = 64;

/** Blocks out of which a node says to have borrowed. What cannot be a block's name is left out. */
export function borrowsOf({ metadata }: Node): readonly string[] {
  const names = (metadata.annotations?.[BORROWS_ANNOTATION] ?? "").split(",");
  return names.filter((name) => /^[0-9a-f-]{1,63}$/.test(name)).slice(0, MAX_HINTS);
}

/** The annotation's text for these blocks. */
export function renderBorrows(names: Iterable<string>): string {
  return [...names].sort().slice(0, MAX_HINTS).join();
}

/** An address in use on another node than the one to which its block is routed. */
export interface BorrowedAddress {
  readonly ip: IP;
  /** The node that uses it: `secondary.node` of the allocation. */
  readonly node: string;
}

/** What routes need of a block that is not used by its owner alone. */
export interface BorrowedBlock {
  /** Name of the object. */
  readonly name: string;
  /** Shape: by ordinal. Empty where the addresses say no node, and so have no route. */
  readonly addresses: readonly BorrowedAddress[];
}

/**
 * Reads which addresses of a block need routes of their own: those of another node than the owner, and all of a block
 * that nobody owns. An allocation without a node gets none, nor does anything in a block of Services (`virtual:`).
 *
 * Source: calico-interop 4.1 and 1.8.
 * @returns undefined for a block that its owner alone uses, and for an empty one that nobody owns
 */
export function borrowedOf({ metadata, spec }: IPAMBlock): BorrowedBlock | undefined {
  const { affinity, allocations, attributes } = spec;
  const owner = nodeOfAffinity(affinity);
  if (affinity !== undefined && owner === undefined) return undefined;
  const cidr = parseCIDR(spec.cidr);
  const addresses: BorrowedAddress[] = [];
  let used = 0;
  for (const [ordinal, index] of allocations.entries()) {
    if (index === null) continue;
    used++;
    const node = attributes[index]?.secondary?.["node"];
    if (node !== undefined && node !== "" && node !== owner) addresses.push({ ip: ipAt(cidr, ordinal), node });
  }
  const isOrphan = owner === undefined && used > 0;
  return addresses.length > 0 || isOrphan ? { name: metadata.name, addresses } : undefined;
}

export function sameBorrowed(a: BorrowedBlock | undefined, b: BorrowedBlock | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.addresses.length === b.addresses.length &&
    a.addresses.every(({ ip, node }, i) => ip === b.addresses[i]?.ip && node === b.addresses[i]?.node)
  );
}

/**
 * Whether a node may have to borrow soon: borrowing is allowed, and a pool has fewer unclaimed blocks than there are
 * nodes, each of which may take one at any moment, or addresses are fixed and go with their pods to any node. A node at
 * its limit of blocks does not borrow; a block of one address moves itself.
 *
 * Source: calico-interop 2.2, steps 5b and 6.
 */
export function canBorrow(cluster: {
  readonly strictAffinity: boolean;
  readonly nodes: number;
  readonly pools: Iterable<IPPool>;
  readonly affinities: Iterable<BlockAffinity>;
  /** Networks that are reserved for certain pods. */
  readonly fixed?: Iterable<CIDR>;
}): boolean {
  if (cluster.strictAffinity) return false;
  const usable = [...cluster.pools]
    .map(effectiveIPPool)
    .filter(({ enabled, allowedUses }) => enabled && allowedUses.some((use) => use !== "LoadBalancer"));
  const shared = usable.filter(({ blockSize, family }) => blockSize < bitsOf(family));
  for (const network of cluster.fixed ?? []) if (shared.some(({ cidr }) => cidrsOverlap(cidr, network))) return true;
  const pools = usable.map(({ cidr, blockSize }) => ({
    cidr,
    unclaimed: 2 ** Math.max(0, blockSize - cidr.prefixLength),
  }));
  if (pools.length === 0) return false;
  const claimed = new Set([...cluster.affinities].map(({ spec }) => spec.cidr));
  for (const text of claimed) {
    const block = parseCIDR(text);
    const pool = pools.find(({ cidr }) => cidrCovers(cidr, block));
    if (pool !== undefined) pool.unclaimed--;
  }
  return pools.some(({ unclaimed }) => unclaimed < cluster.nodes);
}
