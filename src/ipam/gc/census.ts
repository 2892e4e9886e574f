// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import type { IPAMHandle } from "../../crds/ipam-handle.ts";
import { blockNameOf } from "../../crds/names.ts";
import { type CIDR, cidrCovers, cidrFamily, parseCIDR } from "../../net/cidr.ts";
import { nodeOfAffinity } from "../affinity.ts";
import { damageOf } from "../check-block.ts";
import { MAX_IP_COOLDOWN_MS, thaw } from "../cooldown.ts";
import { withoutTail } from "../handle-id.ts";
import { assignmentKey, heldAddresses, ownerOf } from "./addresses.ts";
import { type BlockFacts, blockFacts, NO_POOL, planOwnership } from "./ownership.ts";
import { SightingLog } from "./sightings.ts";
import type {
  ClusterView,
  CollectionPlan,
  HandleRelease,
  HeldAddress,
  Leak,
  LeftTombstone,
  OrphanHandle,
  PoolTally,
  Sightings,
} from "./types.ts";
import { isGone, verdictOf } from "./verdict.ts";

export interface CensusOptions {
  /** The sightings of the census before; empty for the first. */
  readonly before: Sightings;
  readonly nowMs: number;
  /** How long something must look leaked before it is freed. */
  readonly graceMs: number;
  /**
   * The same for handles without addresses, which look just like an ADD between its two writes: longer than any ADD can
   * take.
   */
  readonly handleGraceMs: number;
  /** False: only what deleted nodes left behind is freed (`leakGracePeriod` is 0). */
  readonly collectsLeaks: boolean;
  readonly view: ClusterView;
  readonly pools: readonly { readonly name: string; readonly cidr: CIDR }[];
}

/**
 * One look at all addresses of the cluster. Feed it every block first, then handles and affinities in any order, page by
 * page: what it keeps is small. `view` must be of a moment after the block was read; then a pod that it does not have
 * cannot have got the address since.
 *
 * Pure but for its own state: it reads no clock and calls nobody.
 */
export class Census {
  readonly #options: CensusOptions;
  readonly #log: SightingLog;
  readonly #blocks = new Map<string, BlockFacts>();
  readonly #affinities: BlockAffinity[] = [];
  readonly #orphans: OrphanHandle[] = [];
  readonly #tombstones: LeftTombstone[] = [];
  readonly #cold: string[] = [];
  readonly #damaged: string[] = [];
  readonly #unreadable = new Set<string>();
  /** Those, and damaged ones: they may hold whatever a handle counts in them, though they do not say so. */
  readonly #doubtful = new Set<string>();
  /** Handles that some block names. */
  readonly #named = new Set<string>();
  /** Handles of which an address is in use, or not leaked for long enough. */
  readonly #spared = new Set<string>();
  /** Handles of which an address has looked leaked for a part of the grace only. */
  readonly #young = new Set<string>();
  readonly #leaks = new Map<string, Leak[]>();
  /** Addresses by node, tunnels and unknown owners left out. */
  readonly #heldBy = new Map<string, number>();
  readonly #tallies = new Map<string, { -readonly [K in keyof PoolTally]: PoolTally[K] }>();

  constructor(options: CensusOptions) {
    this.#options = options;
    this.#log = new SightingLog(options.before, options.nowMs);
  }

  addBlock(block: IPAMBlock): void {
    const { spec, metadata } = block;
    for (const { handle_id: handleID } of spec.attributes)
      if (handleID !== undefined) this.#named.add(withoutTail(handleID));
    if (spec.deleted) {
      this.#addTombstone("block", metadata.name, metadata.resourceVersion);
      return;
    }
    const facts = blockFacts(block, poolNameOf(parseCIDR(spec.cidr), this.#options.pools));
    if (damageOf(spec).length > 0) {
      this.#damaged.push(metadata.name);
      this.#doubtful.add(metadata.name);
      for (const { handle_id: handleID } of spec.attributes)
        if (handleID !== undefined) this.#spared.add(withoutTail(handleID));
      // Full and in use, as far as its owner's claim is concerned.
      this.#blocks.set(spec.cidr, { ...facts, isEmpty: false, free: 0 });
      return;
    }
    if (thaw(spec, this.#options.nowMs, MAX_IP_COOLDOWN_MS) !== spec) this.#cold.push(metadata.name);
    this.#blocks.set(spec.cidr, facts);
    const blockNode = nodeOfAffinity(spec.affinity);
    if (blockNode !== undefined) this.#tally(facts.pool, blockNode).blocks++;
    for (const address of heldAddresses(spec)) this.#addAddress(address, facts.pool, blockNode);
  }

  /** A block that is there, and of which nobody can tell whom it names. */
  addUnreadable(name: string): void {
    this.#unreadable.add(name);
    this.#doubtful.add(name);
    this.#damaged.push(name);
  }

  addHandle({ metadata, spec }: IPAMHandle): void {
    if (spec.deleted) {
      this.#addTombstone("handle", metadata.name, metadata.resourceVersion);
      return;
    }
    if (this.#named.has(withoutTail(spec.handleID)) || !this.#options.collectsLeaks) return;
    if (Object.keys(spec.block).some((cidr) => this.#doubtful.has(blockNameOf(cidr)))) return;
    const { name, resourceVersion = "" } = metadata;
    if (this.#log.isOld(`handle ${name} ${resourceVersion}`, this.#options.handleGraceMs))
      this.#orphans.push({ name, handleID: spec.handleID, resourceVersion });
  }

  addAffinity(affinity: BlockAffinity): void {
    const { metadata, spec } = affinity;
    if (spec.deleted === "true") this.#addTombstone("affinity", metadata.name, metadata.resourceVersion);
    else if (!this.#unreadable.has(blockNameOf(spec.cidr))) this.#affinities.push(affinity);
  }

  /** What all of it comes to. */
  finish(): CollectionPlan {
    const { graceMs } = this.#options;
    const ownership = planOwnership({
      affinities: this.#affinities,
      blocks: this.#blocks,
      isNodeGone: (node) => this.#isNodeGone(node),
      log: this.#log,
      graceMs,
    });
    return {
      addresses: this.#planAddresses(),
      handles: this.#orphans,
      ...ownership,
      tombstones: this.#tombstones,
      cold: this.#cold,
      damaged: this.#damaged,
      tallies: [...this.#tallies.values()],
      sightings: this.#log.sightings,
    };
  }

  #addAddress(address: HeldAddress, pool: string, blockNode: string | undefined): void {
    const { view, graceMs, collectsLeaks } = this.#options;
    const owner = ownerOf(address);
    const node = "node" in owner ? (owner.node ?? "") : "";
    const tally = this.#tally(pool, node);
    tally.inUse++;
    if (node !== "" && node !== blockNode) tally.borrowed++;
    if (owner.kind === "pod" || owner.kind === "attachment")
      this.#heldBy.set(owner.node, (this.#heldBy.get(owner.node) ?? 0) + 1);
    const verdict = verdictOf(address, owner, view);
    const id = withoutTail(address.handleID);
    // Only owners with a node are ever judged a leak.
    if (verdict.kind === "keep" || !("node" in owner) || owner.node === undefined) {
      this.#spared.add(id);
      return;
    }
    tally.candidates++;
    const isMeant = this.#isNodeGone(owner.node) || collectsLeaks;
    const ageMs = this.#log.ageMs(sightingKey(address));
    if (ageMs === undefined || ageMs < graceMs / 2 || !isMeant) {
      this.#spared.add(id);
      return;
    }
    if (ageMs < graceMs) this.#young.add(id);
    const leaks = this.#leaks.get(id) ?? [];
    leaks.push({ address, owner: { ...owner, node: owner.node }, why: verdict.why });
    this.#leaks.set(id, leaks);
  }

  /** All addresses of a handle or none; a tunnel's last of all that its node had. */
  #planAddresses(): readonly HandleRelease[] {
    const releases: HandleRelease[] = [];
    for (const [id, leaks] of this.#leaks) {
      if (this.#spared.has(id)) continue;
      const tunnel = leaks.find(({ owner }) => owner.kind === "tunnel");
      if (tunnel !== undefined && (this.#heldBy.get(tunnel.owner.node) ?? 0) > 0) continue;
      releases.push({ handleID: leaks[0]?.address.handleID ?? id, leaks, isDue: !this.#young.has(id) });
    }
    return releases;
  }

  #isNodeGone(node: string): boolean {
    return isGone(node, this.#options.view) && this.#log.isOld(`node ${node}`, this.#options.graceMs);
  }

  #addTombstone(kind: LeftTombstone["kind"], name: string, resourceVersion = ""): void {
    if (this.#log.isOld(`tombstone ${kind} ${name} ${resourceVersion}`, this.#options.graceMs))
      this.#tombstones.push({ kind, name });
  }

  #tally(pool: string, node: string): { -readonly [K in keyof PoolTally]: PoolTally[K] } {
    const key = `${pool} ${node}`;
    const tally = this.#tallies.get(key) ?? { pool, node, inUse: 0, borrowed: 0, blocks: 0, candidates: 0 };
    this.#tallies.set(key, tally);
    return tally;
  }
}

/** Under which an address that looks leaked is noted in the sightings. */
export function sightingKey(address: HeldAddress): string {
  return `address ${assignmentKey(address)}`;
}

/** The pool that a block lies in. */
export function poolNameOf(block: CIDR, pools: CensusOptions["pools"]): string {
  const pool = pools.find(({ cidr }) => cidrFamily(cidr) === cidrFamily(block) && cidrCovers(cidr, block));
  return pool?.name ?? NO_POOL;
}
