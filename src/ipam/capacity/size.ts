// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { cidrSize, formatCIDR } from "../../net/cidr.ts";
import { bitsOf } from "../../net/ip.ts";
import { DEFAULT_BLOCK_LIMIT } from "../shortage.ts";

/** A cluster that is still to be built. */
export interface SizeQuestion {
  readonly pool: Pick<EffectiveIPPool, "cidr" | "family" | "blockSize">;
  readonly nodes?: number;
  readonly podsPerNode: number;
  /** As IPAMConfig has it; 0: the built-in limit. */
  readonly maxBlocksPerHost: number;
}

/** What a pool of some size gives. Beyond 2^53, in IPv6, numbers are approximate. */
export interface SizePlan {
  readonly pool: string;
  readonly blockSize: number;
  readonly addresses: number;
  readonly blocks: number;
  readonly addressesPerBlock: number;
  readonly podsPerNode: number;
  /** Blocks that a node needs for these pods; its limit may be lower. */
  readonly blocksPerNode: number;
  readonly blockLimit: number;
  /** Nodes for which there are all the blocks that they need. */
  readonly maxNodes: number;
  /** Whether all that was asked for can be had. */
  readonly fits: boolean;
  readonly warnings: readonly string[];
}

export function planSize(question: SizeQuestion): SizePlan {
  const { pool, podsPerNode, maxBlocksPerHost } = question;
  const addressesPerBlock = 2 ** (bitsOf(pool.family) - pool.blockSize);
  const blocks = 2 ** (pool.blockSize - pool.cidr.prefixLength);
  const blockLimit = maxBlocksPerHost > 0 ? maxBlocksPerHost : DEFAULT_BLOCK_LIMIT;
  const blocksPerNode = Math.max(1, Math.ceil(podsPerNode / addressesPerBlock));
  const plan = {
    pool: formatCIDR(pool.cidr),
    blockSize: pool.blockSize,
    addresses: cidrSize(pool.cidr),
    blocks,
    addressesPerBlock,
    podsPerNode,
    blocksPerNode,
    blockLimit,
    maxNodes: Math.floor(blocks / Math.min(blocksPerNode, blockLimit)),
  };
  const isEnough = question.nodes === undefined || question.nodes <= plan.maxNodes;
  const fits = isEnough && blocksPerNode <= blockLimit;
  return { ...plan, fits, warnings: [...nodeWarnings(plan), ...clusterWarnings(plan, question.nodes)] };
}

type Sizes = Omit<SizePlan, "fits" | "warnings">;

function nodeWarnings({ addressesPerBlock, podsPerNode, blocksPerNode, blockLimit }: Sizes): readonly string[] {
  if (blocksPerNode > blockLimit) {
    const most = blockLimit * addressesPerBlock;
    const need = `${podsPerNode} pods need ${blocksPerNode} blocks of ${addressesPerBlock} addresses`;
    const step = "raise maxBlocksPerHost of IPAMConfig, or take larger blocks";
    return [`${need}, and a node takes at most ${blockLimit}: ${most} pods a node; ${step}`];
  }
  if (blocksPerNode === 1) return [];
  const idle = blocksPerNode * addressesPerBlock - podsPerNode;
  const what = `${podsPerNode} pods need ${blocksPerNode} blocks of ${addressesPerBlock} addresses a node`;
  return [`${what}; ${idle} of their ${blocksPerNode * addressesPerBlock} addresses stay free on a full node`];
}

function clusterWarnings(sizes: Sizes, nodes: number | undefined): readonly string[] {
  if (nodes === undefined) return [];
  const { blocks, blocksPerNode, blockLimit, maxNodes, podsPerNode, addresses } = sizes;
  const warnings: string[] = [];
  if (nodes * podsPerNode > addresses)
    warnings.push(
      `${nodes} nodes of ${podsPerNode} pods are ${nodes * podsPerNode} pods, and the pool has ${addresses} addresses`,
    );
  if (nodes > blocks)
    warnings.push(
      `There are ${blocks} blocks for ${nodes} nodes: ${nodes - blocks} get none, and can only borrow (never with strictAffinity)`,
    );
  else if (nodes > maxNodes) {
    const each = Math.min(blocksPerNode, blockLimit);
    const what = `${nodes} full nodes want ${nodes * each} blocks, and there are ${blocks}`;
    warnings.push(`${what}: once ${maxNodes} are full, the other ${nodes - maxNodes} cannot have all of their ${each}`);
  }
  return warnings;
}
