// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { reservedCIDRs } from "../../crds/ip-reservation.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { DEFAULT_IPAM_CONFIG } from "../../crds/ipam-config.ts";
import { type CIDR, cidrCovers, parseCIDR } from "../../net/cidr.ts";
import { bitsOf, type Family } from "../../net/ip.ts";
import type { Labels } from "../../selector/selector.ts";
import { isHostAffinityOf, nodeOfAffinity } from "../affinity.ts";
import { isDamaged, liveBlocks, poolAround, type Snapshot } from "../audit/snapshot.ts";
import { freeCount, isEmptyBlock } from "../block.ts";
import { coveringPool } from "../candidates.ts";
import { selectsNode } from "../pools.ts";
import { ReservationIndex } from "../reservations.ts";
import { DEFAULT_BLOCK_LIMIT } from "../shortage.ts";
import { type Growth, growthOf } from "./growth.ts";
import { type Unclaimed, unclaimedIn } from "./unclaimed.ts";

/** A node, as capacity needs it. */
export interface CapacityNode {
  readonly name: string;
  readonly labels: Labels;
  /** Pods that its kubelet allows; absent without a kubelet. */
  readonly maxPods?: number;
}

export type CapacitySnapshot = Pick<
  Snapshot,
  "takenMs" | "blocks" | "affinities" | "pools" | "reservations" | "config"
>;

/** What is left of a pool. */
export interface PoolRoom {
  readonly pool: EffectiveIPPool;
  /** Free addresses in blocks that exist. */
  readonly freeInBlocks: number;
  readonly unclaimed: Unclaimed;
  /** Nodes that may use it. */
  readonly nodes: number;
  /** Why nodes' rooms leave it out; absent: they count it. */
  readonly notCounted?: string;
  readonly growth: Growth;
}

/** How many more pods one node could get addresses for, if it alone grew. */
export interface NodeRoom {
  readonly node: string;
  readonly family: Family;
  readonly maxPods?: number;
  readonly ownBlocks: number;
  readonly blockLimit: number;
  /** Free addresses in its own blocks. */
  readonly own: number;
  /** Blocks that it may still claim, empty ones of other nodes among them, and their addresses. */
  readonly claimableBlocks: number;
  readonly claimable: number;
  /** Free addresses in others' blocks, once there is no block left to claim. */
  readonly borrowable: number;
  readonly total: number;
}

export interface ClusterRoom {
  readonly pools: readonly PoolRoom[];
  /** By name, IPv4 first; families without a pool are left out. */
  readonly nodes: readonly NodeRoom[];
  readonly warnings: readonly string[];
}

/** Free addresses, of one pool and one owner or all; those in blocks that nobody uses are counted again by themselves. */
interface Share {
  readonly free: number;
  readonly emptyBlocks: number;
  readonly freeInEmpty: number;
}

const NOTHING: Share = { free: 0, emptyBlocks: 0, freeInEmpty: 0 };

/**
 * Who can still get how many addresses, by the rules of assignment: own blocks, new blocks up to the limit, then borrowed
 * addresses, which neither a node at its limit nor one under strictAffinity gets. Nodes share what nobody has claimed, so
 * the sum over nodes is more than there is; a pool's own line has the truth of it.
 */
export function clusterRoom(snapshot: CapacitySnapshot, nodes: readonly CapacityNode[]): ClusterRoom {
  const pools = poolRooms(snapshot, nodes);
  const shares = sharesOf(snapshot);
  const rooms = ([4, 6] as const).flatMap((family) => {
    const counted = pools.filter((room) => room.pool.family === family && room.notCounted === undefined);
    if (counted.length === 0) return [];
    return nodes.map((node) => nodeRoom(node, { family, counted, shares, snapshot }));
  });
  const sorted = rooms.sort((a, b) => (a.node === b.node ? a.family - b.family : a.node < b.node ? -1 : 1));
  return { pools, nodes: sorted, warnings: warningsOf(pools, sorted, snapshot) };
}

function poolRooms(snapshot: CapacitySnapshot, nodes: readonly CapacityNode[]): readonly PoolRoom[] {
  const { pools, affinities, takenMs } = snapshot;
  const reserved = snapshot.reservations.flatMap(reservedCIDRs);
  const index = new ReservationIndex(reserved);
  const blocks = liveBlocks(snapshot);
  const claims = affinities.filter(({ spec }) => spec.deleted !== "true").map(({ spec }) => parseCIDR(spec.cidr));
  const networks = [...blocks.map(({ spec }) => parseCIDR(spec.cidr)), ...claims];
  return pools.map((pool) => {
    const inside = blocks.filter(({ spec }) => poolAround(pools, parseCIDR(spec.cidr)) === pool);
    const inner = pools.filter((other) => other !== pool && coveringPool(other.cidr, pool, [other]) !== undefined);
    const unclaimed = unclaimedIn(pool, [...networks, ...inner.map(({ cidr }) => cidr)], reserved);
    const notCounted = whyNotCounted(pool);
    return {
      pool,
      freeInBlocks: inside.reduce((n, block) => n + freeIn(block, index), 0),
      unclaimed,
      nodes: nodes.filter(({ labels }) => selectsNode(pool, labels) === true).length,
      ...(notCounted !== undefined && { notCounted }),
      growth: growthOf(inside, unclaimed.blocks, takenMs),
    };
  });
}

/** Pools that not every pod of a node may use. */
function whyNotCounted(pool: EffectiveIPPool): string | undefined {
  if (!pool.enabled) return "not enabled";
  if (pool.assignmentMode !== "Automatic") return "assigned by hand only";
  if (!pool.allowedUses.includes("Workload")) return `for ${pool.allowedUses.join(" and ")} only`;
  return pool.namespaceSelector === undefined ? undefined : `for namespaces with ${pool.namespaceSelector} only`;
}

/** By pool and owner; what anybody could borrow or take over is under "". */
function sharesOf(snapshot: CapacitySnapshot): (pool: EffectiveIPPool, owner: string) => Share {
  const index = new ReservationIndex(snapshot.reservations.flatMap(reservedCIDRs));
  const shares = new Map<string, Share>();
  const add = (pool: EffectiveIPPool, owner: string, share: Share): void => {
    const key = `${pool.name} ${owner}`;
    shares.set(key, combined(shares.get(key) ?? NOTHING, share, 1));
  };
  for (const block of liveBlocks(snapshot)) {
    const pool = poolAround(snapshot.pools, parseCIDR(block.spec.cidr));
    const owner = nodeOfAffinity(block.spec.affinity);
    // Virtual owners, such as load balancers, lend nothing.
    if (pool === undefined || (owner === undefined && block.spec.affinity !== undefined)) continue;
    const free = freeIn(block, index);
    // One without a free address is damaged, or reserved as a whole: nobody takes it over.
    const isEmpty = free > 0 && isEmptyBlock(block.spec);
    const share = { free, emptyBlocks: isEmpty ? 1 : 0, freeInEmpty: isEmpty ? free : 0 };
    add(pool, "", share);
    if (owner !== undefined) add(pool, owner, share);
  }
  return (pool, owner) => shares.get(`${pool.name} ${owner}`) ?? NOTHING;
}

function combined(a: Share, b: Share, sign: 1 | -1): Share {
  return {
    free: a.free + sign * b.free,
    emptyBlocks: a.emptyBlocks + sign * b.emptyBlocks,
    freeInEmpty: a.freeInEmpty + sign * b.freeInEmpty,
  };
}

function freeIn(block: IPAMBlock, index: ReservationIndex): number {
  return isDamaged(block) ? 0 : freeCount(block.spec, index.of(parseCIDR(block.spec.cidr)));
}

interface Around {
  readonly family: Family;
  readonly counted: readonly PoolRoom[];
  readonly shares: (pool: EffectiveIPPool, owner: string) => Share;
  readonly snapshot: CapacitySnapshot;
}

function nodeRoom({ name, labels, maxPods }: CapacityNode, around: Around): NodeRoom {
  const { family, counted, shares, snapshot } = around;
  const { maxBlocksPerHost, strictAffinity, autoAllocateBlocks } = snapshot.config ?? DEFAULT_IPAM_CONFIG;
  const usable = counted.filter(({ pool }) => selectsNode(pool, labels) === true);
  const isUsable = (cidr: CIDR): boolean => usable.some(({ pool }) => cidrCovers(pool.cidr, cidr));
  const affinities = snapshot.affinities.filter((affinity) => isHostAffinityOf(affinity, name));
  const ownBlocks = affinities.filter(({ spec }) => isUsable(parseCIDR(spec.cidr))).length;
  const blockLimit = maxBlocksPerHost > 0 ? maxBlocksPerHost : DEFAULT_BLOCK_LIMIT;

  let left = autoAllocateBlocks ? Math.max(0, blockLimit - ownBlocks) : 0;
  let [own, claimableBlocks, claimable, others, takenOver] = [0, 0, 0, 0, 0];
  // The largest blocks first: this is what can be had at most.
  const largestFirst = usable.toSorted((a, b) => a.pool.blockSize - b.pool.blockSize);
  const sizeOf = (pool: EffectiveIPPool): number => 2 ** (bitsOf(family) - pool.blockSize);
  for (const { pool, unclaimed } of largestFirst) {
    const fresh = Math.min(left, unclaimed.blocks);
    left -= fresh;
    claimableBlocks += fresh;
    claimable += Math.min(fresh * sizeOf(pool), unclaimed.addresses);
  }
  // Nothing is taken over while any pool has a block that nobody claimed.
  for (const { pool } of largestFirst) {
    const mine = shares(pool, name);
    const theirs = combined(shares(pool, ""), mine, -1);
    const empty = Math.min(left, theirs.emptyBlocks);
    left -= empty;
    claimableBlocks += empty;
    const fromEmpty = Math.min(empty * sizeOf(pool), theirs.freeInEmpty);
    claimable += fromEmpty;
    takenOver += fromEmpty;
    own += mine.free;
    others += theirs.free;
  }
  const mayBorrow = !strictAffinity && autoAllocateBlocks && left > 0;
  const borrowable = mayBorrow ? Math.max(0, others - takenOver) : 0;
  return {
    node: name,
    family,
    ...(maxPods !== undefined && { maxPods }),
    ownBlocks,
    blockLimit,
    own,
    claimableBlocks,
    claimable,
    borrowable,
    total: own + claimable + borrowable,
  };
}

function warningsOf(
  pools: readonly PoolRoom[],
  nodes: readonly NodeRoom[],
  { config = DEFAULT_IPAM_CONFIG }: CapacitySnapshot,
): readonly string[] {
  const stuck = nodes.filter(({ total }) => total === 0);
  const without = (family: Family): number => nodes.filter((n) => n.family === family && n.ownBlocks === 0).length;
  const full = stuck.map(({ node, family, ownBlocks, blockLimit }) => {
    const why =
      ownBlocks >= blockLimit ? `it has ${ownBlocks} of ${blockLimit} blocks, its limit` : "its pools are full";
    return `Node ${node} has no IPv${family} address for another pod: ${why}`;
  });
  const short = ([4, 6] as const).flatMap((family) => {
    const counted = pools.filter(({ pool, notCounted }) => pool.family === family && notCounted === undefined);
    const blocks = counted.reduce((n, { unclaimed }) => n + unclaimed.blocks, 0);
    const waiting = without(family) - blocks;
    if (counted.length === 0 || waiting <= 0) return [];
    const fate = config.strictAffinity ? "get no address, since strictAffinity forbids to borrow" : "can only borrow";
    return [
      `${without(family)} nodes have no IPv${family} block yet, and ${blocks} are left: ${waiting} of them ${fate}`,
    ];
  });
  return [...full, ...short];
}
