// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrCovers, cidrSize, cidrsOverlap, formatCIDR } from "../net/cidr.ts";
import type { BlockUse, OrphanedBlocks } from "./ports.ts";

/** A pool's network, and the prefix length of its blocks. */
export interface PoolNetwork {
  readonly name: string;
  readonly cidr: CIDR;
  readonly blockSize: number;
}

/** Which blocks with addresses in use do not fit the pools as they are now. */
export interface Misfits {
  /** Blocks inside of a pool, by its name, whose size is not the pool's nor that of another pool that has them. */
  readonly otherSize: ReadonlyMap<string, readonly BlockUse[]>;
  /** Addresses in use, and blocks that have them, by pool. */
  readonly inUse: ReadonlyMap<string, { readonly blocks: number; readonly addresses: number }>;
  readonly orphans: readonly OrphanedBlocks[];
}

/**
 * Finds each block's pool. A block that no pool has is an orphan: of the pool that had it before (`formerCIDRs`, by name),
 * or of one that still has a part of it.
 */
export function fitBlocks(
  blocks: readonly BlockUse[],
  pools: readonly PoolNetwork[],
  formerCIDRs: ReadonlyMap<string, readonly CIDR[]>,
): Misfits {
  const otherSize = new Map<string, BlockUse[]>();
  const inUse = new Map<string, { blocks: number; addresses: number }>();
  const orphans: { readonly formerPool: string | undefined; readonly block: BlockUse }[] = [];
  for (const block of blocks) {
    if (block.inUse === 0) continue;
    const around = pools.filter(({ cidr }) => cidrCovers(cidr, block.cidr));
    if (around.length === 0) {
      const part = pools.find(({ cidr }) => cidrsOverlap(cidr, block.cidr));
      const former = [...formerCIDRs].find(([, cidrs]) => cidrs.some((cidr) => cidrCovers(cidr, block.cidr)));
      orphans.push({ formerPool: part?.name ?? former?.[0], block });
    }
    const isOdd = !around.some(({ blockSize }) => blockSize === block.cidr.prefixLength);
    for (const { name } of around) {
      const use = inUse.get(name) ?? { blocks: 0, addresses: 0 };
      inUse.set(name, { blocks: use.blocks + 1, addresses: use.addresses + block.inUse });
      if (isOdd) otherSize.set(name, [...(otherSize.get(name) ?? []), block]);
    }
  }
  const byPool = Map.groupBy(orphans, ({ formerPool }) => formerPool);
  return {
    otherSize,
    inUse,
    orphans: [...byPool].map(([formerPool, of]) => ({
      ...(formerPool !== undefined && { formerPool }),
      blocks: of.map(({ block }) => block),
    })),
  };
}

const NAMED = 3;

/** For messages: how many, the first few by name, and their addresses in use. */
export function blocksText(blocks: readonly BlockUse[]): string {
  const names = blocks.map(({ cidr }) => formatCIDR(cidr)).toSorted();
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
  const addresses = blocks.reduce((sum, { inUse }) => sum + inUse, 0);
  return `${names.slice(0, NAMED).join(", ")}${more} (${addresses} addresses in use)`;
}

/**
 * How many addresses of a network lie in at least one of the others.
 *
 * Networks nest or are apart, so in the order of their first addresses each is inside of the last that counted, or after it.
 */
export function addressesIn(network: CIDR, others: readonly CIDR[]): number {
  const inside = others.filter((other) => cidrsOverlap(other, network));
  if (inside.some((other) => cidrCovers(other, network))) return cidrSize(network);
  let last: CIDR | undefined;
  let sum = 0;
  for (const cidr of inside.toSorted(compareCIDRs)) {
    if (last !== undefined && cidrCovers(last, cidr)) continue;
    last = cidr;
    sum += cidrSize(cidr);
  }
  return sum;
}

function compareCIDRs(a: CIDR, b: CIDR): number {
  if (a.network === b.network) return a.prefixLength - b.prefixLength;
  return a.network < b.network ? -1 : 1;
}
