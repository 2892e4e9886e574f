// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { type CIDR, parseCIDR } from "../../net/cidr.ts";
import { hostAffinity, nodeOfAffinity } from "../affinity.ts";
import { freeCount, isEmptyBlock } from "../block.ts";
import type { SightingLog } from "./sightings.ts";
import type { AffinityRelease, AffinityRepair, BlockRemoval, OwnershipPlan } from "./types.ts";

/** What is kept of a block while the rest of the cluster is read. */
export interface BlockFacts {
  readonly name: string;
  readonly cidr: CIDR;
  /** As in `spec.affinity`. */
  readonly affinity?: string;
  readonly sequenceNumber: bigint;
  readonly size: number;
  readonly free: number;
  readonly isEmpty: boolean;
  /** Name of the IPPool that it lies in; `NO_POOL` when there is none. */
  readonly pool: string;
}

export const NO_POOL = "no_ippool";

/** Free addresses, in parts of a block, that the node's other blocks must have before an empty one is given up. */
const SPARE_PART = 1 / 2;

export function blockFacts(block: IPAMBlock, pool: string): BlockFacts {
  const { spec, metadata } = block;
  return {
    name: metadata.name,
    cidr: parseCIDR(spec.cidr),
    ...(spec.affinity !== undefined && { affinity: spec.affinity }),
    sequenceNumber: spec.sequenceNumber,
    size: spec.allocations.length,
    free: freeCount(spec),
    isEmpty: isEmptyBlock(spec),
    pool,
  };
}

export interface OwnershipInput {
  readonly affinities: readonly BlockAffinity[];
  /** By `spec.cidr`. */
  readonly blocks: ReadonlyMap<string, BlockFacts>;
  /** Node objects that are missing for the grace. */
  readonly isNodeGone: (node: string) => boolean;
  readonly log: SightingLog;
  readonly graceMs: number;
}

/**
 * What is wrong with the ownership of blocks: claims of deleted nodes, claims that a crash left half made or half given
 * up, more empty blocks than a node needs, empty blocks without an owner. A block in use is never touched.
 *
 * Source: calico-interop 2.3, 2.9 and 2.10.
 */
export function planOwnership(input: OwnershipInput): OwnershipPlan {
  const { affinities, blocks, isNodeGone, log, graceMs } = input;
  const releases: AffinityRelease[] = [];
  const repairs: AffinityRepair[] = [];
  const sound: { readonly affinity: BlockAffinity; readonly block: BlockFacts }[] = [];
  const claimed = new Set<string>();
  for (const affinity of affinities) {
    const { spec } = affinity;
    // Load balancers' claims are their controller's business.
    if (spec.type === "virtual") continue;
    const block = blocks.get(spec.cidr);
    if (block?.affinity === hostAffinity(spec.node)) claimed.add(spec.cidr);
    const finding = judge(affinity, block, isNodeGone);
    if (finding === "sound" && block !== undefined) sound.push({ affinity, block });
    if (finding === "sound" || finding === "inUse") continue;
    const release = releaseOf(affinity, finding === "unconfirmed" ? "unfinishedRelease" : finding, block);
    const key = `affinity ${release.name} ${finding} ${release.resourceVersion}`;
    // A deleted node has had its grace already.
    if (finding !== "nodeGone" && !log.isOld(key, graceMs)) continue;
    if (finding === "unconfirmed") repairs.push(repairOf(affinity));
    else releases.push(release);
  }
  releases.push(...planSurplus(sound, log, graceMs));
  return { releases, repairs, removals: planRemovals(input, claimed) };
}

type Finding = "sound" | "inUse" | "unconfirmed" | Exclude<AffinityRelease["why"], "surplus">;

function judge({ spec }: BlockAffinity, block: BlockFacts | undefined, isNodeGone: (node: string) => boolean): Finding {
  if (block === undefined) return "noBlock";
  if (block.affinity !== hostAffinity(spec.node)) return "foreignBlock";
  if (isNodeGone(spec.node)) return block.isEmpty ? "nodeGone" : "inUse";
  if (spec.state === "pendingDeletion") return block.isEmpty ? "unfinishedRelease" : "unconfirmed";
  return "sound";
}

/** The last block that a node has in a pool stays, and so does one whose going would make the node claim another. */
function planSurplus(
  sound: readonly { readonly affinity: BlockAffinity; readonly block: BlockFacts }[],
  log: SightingLog,
  graceMs: number,
): readonly AffinityRelease[] {
  const releases: AffinityRelease[] = [];
  const groups = Map.groupBy(sound, ({ affinity, block }) => `${affinity.spec.node} ${block.pool}`);
  for (const group of groups.values()) {
    if (group.length < 2) continue;
    let left = group.length;
    let free = group.reduce((sum, { block }) => sum + block.free, 0);
    for (const { affinity, block } of group) {
      if (!block.isEmpty) continue;
      // The sequence number moves with each write, so an old sighting means: empty all the time.
      const isOld = log.isOld(`surplus ${block.name} ${block.sequenceNumber}`, graceMs);
      if (!isOld || left === 1 || free - block.free < block.size * SPARE_PART) continue;
      left--;
      free -= block.free;
      releases.push(releaseOf(affinity, "surplus", block));
    }
  }
  return releases;
}

function planRemovals(input: OwnershipInput, claimed: ReadonlySet<string>): readonly BlockRemoval[] {
  const removals: BlockRemoval[] = [];
  for (const [cidr, { name, affinity, isEmpty, sequenceNumber }] of input.blocks) {
    if (!isEmpty || claimed.has(cidr)) continue;
    const node = nodeOfAffinity(affinity);
    const why =
      affinity === undefined ? "unowned" : node !== undefined && input.isNodeGone(node) ? "nodeGone" : undefined;
    if (why === undefined) continue;
    if (input.log.isOld(`block ${name} ${why} ${sequenceNumber}`, input.graceMs))
      removals.push({ name, why, sequenceNumber });
  }
  return removals;
}

function releaseOf(
  affinity: BlockAffinity,
  why: AffinityRelease["why"],
  block: BlockFacts | undefined,
): AffinityRelease {
  const isOwned = block !== undefined && why !== "foreignBlock";
  return { ...repairOf(affinity), why, ...(isOwned && { sequenceNumber: block.sequenceNumber }) };
}

function repairOf({ metadata, spec }: BlockAffinity): AffinityRepair {
  const { name, resourceVersion = "" } = metadata;
  return { name, node: spec.node, cidr: spec.cidr, resourceVersion };
}
