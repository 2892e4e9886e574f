// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { blockOf, type CIDR, cidrCovers, cidrFamily, cidrSize, cidrsOverlap, formatCIDR } from "../../net/cidr.ts";
import { bitsOf } from "../../net/ip.ts";
import { overlapping } from "../audit/check-pools.ts";

/** What of a pool is in no block yet. Beyond 2^53, in IPv6, numbers are approximate. */
export interface Unclaimed {
  /** Blocks that a node could claim. */
  readonly blocks: number;
  /** Their addresses, without the reserved ones. */
  readonly addresses: number;
}

/**
 * By arithmetic over networks, since a pool of IPv6 has more blocks than anybody can look at.
 *
 * @param taken networks of all blocks and claims, and of more specific pools: nothing that overlaps them can be claimed
 * @param reserved networks of IPReservations
 */
export function unclaimedIn(
  { cidr: pool, blockSize }: Pick<EffectiveIPPool, "cidr" | "blockSize">,
  taken: readonly CIDR[],
  reserved: readonly CIDR[],
): Unclaimed {
  const size = 2 ** (bitsOf(cidrFamily(pool)) - blockSize);
  const blocksIn = (network: CIDR): number => cidrSize(network) / size;
  // All in units of the pool's own blocks, and apart from each other: a smaller network takes the block around it.
  const used = apart(clip(taken, pool).map((network) => atLeast(network, blockSize)));
  const isUsed = (network: CIDR): boolean => used.some((u) => cidrCovers(u, network));
  const kept = apart(clip(reserved, pool));
  const small = kept.filter((network) => network.prefixLength > blockSize);
  const perBlock = Map.groupBy(small, ({ network }) => formatCIDR(blockOf(network, blockSize)));
  const full = new Set([...perBlock].filter(([, parts]) => sum(parts.map(cidrSize)) === size).map(([key]) => key));

  let blocks = blocksIn(pool) - sum(used.map(blocksIn));
  for (const network of kept.filter(({ prefixLength }) => prefixLength <= blockSize)) {
    if (isUsed(network)) continue;
    const usedInside = used.filter((u) => cidrCovers(network, u));
    blocks -= blocksIn(network) - sum(usedInside.map(blocksIn));
  }
  let partly = 0;
  for (const [key, parts] of perBlock) {
    const [first] = parts;
    if (first === undefined || isUsed(first)) continue;
    if (full.has(key)) blocks--;
    else partly += sum(parts.map(cidrSize));
  }
  return { blocks, addresses: blocks * size - partly };
}

/** The parts of networks that lie in a frame. */
export function clip(networks: readonly CIDR[], frame: CIDR): readonly CIDR[] {
  const inside = networks.filter((network) => cidrsOverlap(network, frame));
  return inside.map((network) => (cidrCovers(network, frame) ? frame : network));
}

/** Without those that lie in others, and each once. */
function apart(networks: readonly CIDR[]): readonly CIDR[] {
  const once = [...new Map(networks.map((cidr) => [formatCIDR(cidr), { cidr }])).values()];
  const inner = new Set(overlapping(once).map(([, item]) => item));
  return once.filter((item) => !inner.has(item)).map(({ cidr }) => cidr);
}

function atLeast(network: CIDR, blockSize: number): CIDR {
  return network.prefixLength > blockSize ? blockOf(network.network, blockSize) : network;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
