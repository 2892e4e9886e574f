// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { cidrCovers, formatCIDR } from "../../net/cidr.ts";
import { hostAffinity, nodeOfAffinity } from "../affinity.ts";
import { fnv1 } from "../candidates.ts";
import { isInPools } from "../pools.ts";
import type { Shortage } from "../shortage.ts";
import type { ListedBlock, Listing } from "./listing.ts";
import { mayTakeOver } from "./takeover.ts";

/** Blocks out of which this node could borrow, the ones to try first in front. */
export function lendersIn(listing: Listing, pools: readonly EffectiveIPPool[], nodeName: string): ListedBlock[] {
  const lenders = [...listing.roomy.values()].filter((block) => isLender(block.affinity, nodeName));
  return spread(
    lenders.filter(({ cidr }) => isInPools(cidr, pools)),
    nodeName,
  );
}

/** Empty blocks of other nodes, or of nobody, that this node may take, the ones to try first in front. */
export function idleIn(
  listing: Listing,
  pools: readonly EffectiveIPPool[],
  nodeName: string,
  nowMs: number,
): ListedBlock[] {
  const idle = [...listing.roomy.values()].filter(
    (block) => block.affinity !== hostAffinity(nodeName) && mayTakeOver(block, nowMs),
  );
  // One of another size would overlap with what the pool is cut into now.
  const fits = ({ cidr }: ListedBlock): boolean =>
    pools.some((pool) => pool.blockSize === cidr.prefixLength && cidrCovers(pool.cidr, cidr));
  return spread(idle.filter(fits), nodeName);
}

/** What others have free in these pools, for people. */
export function freeElsewhere(
  listing: Listing,
  pools: readonly EffectiveIPPool[],
  nodeName: string,
): Required<Shortage>["elsewhere"] {
  const lenders = lendersIn(listing, pools, nodeName);
  return { addresses: lenders.reduce((sum, { free }) => sum + free, 0), blocks: lenders.length };
}

/** Nodes lend, and so do blocks without an owner; virtual owners, such as load balancers, do not. */
export function isLender(affinity: string | undefined, nodeName: string): boolean {
  return affinity !== hostAffinity(nodeName) && (affinity === undefined || nodeOfAffinity(affinity) !== undefined);
}

/**
 * In an order that differs by node, in which blocks with more room tend to come first: each block is the first one of as
 * many nodes as its part of what is left. Source: weighted rendezvous hashing, Schindelhauer and Schomaker 2005.
 */
function spread(blocks: readonly ListedBlock[], nodeName: string): ListedBlock[] {
  // The node comes first: FNV-1 leaves the last characters of a text in the lowest bits.
  const uniform = (block: ListedBlock): number => (fnv1(`${nodeName} ${formatCIDR(block.cidr)}`) + 1) / 2 ** 32;
  const ranked = blocks.map((block) => ({ block, rank: -Math.log(uniform(block)) / block.free }));
  return ranked.sort((a, b) => a.rank - b.rank).map(({ block }) => block);
}
