// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { type CIDR, cidrsOverlap, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { blockCandidates, coveringPool, KnownBlocks } from "../candidates.ts";
import { isInPools } from "../pools.ts";
import type { IPAMSettings } from "../ports.ts";
import { DEFAULT_BLOCK_LIMIT, type SearchTally, type ShortageReason } from "../shortage.ts";
import type { BlockTable } from "./block-table.ts";
import { type ClaimTools, claimBlock } from "./claims.ts";
import { type BlockLister, type Listing, type ListTools, MIN_LIST_MS } from "./listing.ts";
import { OddBlocks } from "./odd-blocks.ts";

export interface SearchTools extends ListTools, ClaimTools {}

/** Candidates looked at before others get a turn. */
const CANDIDATES_A_TURN = 4096;
/**
 * Claims that may be lost in one search before all blocks are listed. One is lost now and then to a node that was faster
 * by a moment, at the price of some six requests; several in a row are blocks that only a listing shows.
 */
const MAX_LOST = 4;

/** Somebody else had the block: look for another one. */
const LOST = Symbol("lost");

type Tally = { -readonly [K in keyof SearchTally]: SearchTally[K] };
type Limit = Extract<ShortageReason, { kind: "limit" }>;

/** Looks for a block that nobody has, and claims it. */
export class BlockSearch {
  readonly #tools: SearchTools;
  readonly #table: BlockTable;
  readonly #lister: BlockLister;
  readonly #odd: OddBlocks;
  /** Claims that somebody else had, whom the sources may not know yet. A listing puts them right. */
  #lost: readonly { readonly cidr: CIDR; readonly atMs: number }[] = [];
  /** By which the last search passed over blocks that the sources do not know. */
  #passedOverBy: Listing | "lost" | undefined;

  constructor(tools: SearchTools, table: BlockTable, lister: BlockLister) {
    this.#tools = tools;
    this.#table = table;
    this.#lister = lister;
    this.#odd = new OddBlocks(tools);
  }

  /** Claims a new block in these pools. Undefined when one was, else why not. */
  async claim(pools: readonly EffectiveIPPool[], settings: IPAMSettings): Promise<ShortageReason | undefined> {
    return await this.#search(pools, settings, true);
  }

  /** Why no new block could be claimed in these pools, as far as is known; undefined when one could. Claims nothing. */
  async look(pools: readonly EffectiveIPPool[], settings: IPAMSettings): Promise<ShortageReason | undefined> {
    return await this.#search(pools, settings, false);
  }

  /** The last search passed over blocks that may have been given up since, as a newer listing would show. */
  isOutdatedBy(listing: Listing): boolean {
    return this.#passedOverBy !== undefined && this.#passedOverBy !== listing;
  }

  /**
   * All networks that cannot be claimed. A block that is missing here costs a failed claim if it is of the same size, and
   * else would have its addresses given twice; so those are looked for first. Errors: IPAMError `Datastore`.
   */
  async taken(): Promise<KnownBlocks> {
    await this.#odd.look();
    return await this.#known();
  }

  /** The same, as far as is known already. */
  async #known(): Promise<KnownBlocks> {
    const known = new KnownBlocks(await this.#tools.sources.knownBlocks());
    for (const cidr of [...this.#foreign(), ...this.#odd.cidrs]) known.add(cidr);
    for (const { cidr, isOwn } of this.#table.committers()) if (isOwn) known.add(cidr);
    return known;
  }

  /** See `ClaimTools`. */
  async rivalOf(cidr: CIDR, claim: BlockAffinity): Promise<CIDR | undefined> {
    await this.#odd.look();
    const others = [...(await this.#tools.sources.knownBlocks(claim)), ...this.#odd.cidrs];
    return others.find((other) => other.prefixLength !== cidr.prefixLength && cidrsOverlap(other, cidr));
  }

  /** Set when the node has as many blocks as it may, those included that are just being claimed. */
  limit(
    pools: readonly EffectiveIPPool[],
    { maxBlocksPerHost }: IPAMSettings,
    own: readonly BlockAffinity[],
  ): Limit | undefined {
    const limit = maxBlocksPerHost > 0 ? maxBlocksPerHost : DEFAULT_BLOCK_LIMIT;
    const claimed = own.map(({ spec }) => parseCIDR(spec.cidr));
    const held = [...claimed, ...this.#table.busy, ...this.#table.ownIn(pools).map(({ cidr }) => cidr)];
    const owned = new Set(held.filter((cidr) => isInPools(cidr, pools)).map(formatCIDR)).size;
    return owned < limit ? undefined : { kind: "limit", owned, limit, maxBlocksPerHost };
  }

  #foreign(): readonly CIDR[] {
    const { last } = this.#lister;
    if (last !== undefined) this.#lost = this.#lost.filter(({ atMs }) => atMs >= last.atMs);
    const foreign = [...(last?.unknown ?? []), ...this.#lost.map(({ cidr }) => cidr)];
    this.#passedOverBy = foreign.length === 0 ? undefined : this.#lost.length > 0 ? "lost" : last;
    return foreign;
  }

  async #search(
    pools: readonly EffectiveIPPool[],
    settings: IPAMSettings,
    mayClaim: boolean,
  ): Promise<ShortageReason | undefined> {
    if (!settings.autoAllocateBlocks) return { kind: "forbidden" };
    for (let lost = 0; ; lost++) {
      if (lost > 0 && lost % MAX_LOST === 0) await this.#lister.recent(MIN_LIST_MS);
      const outcome = await this.#walk(pools, settings, mayClaim, lost);
      if (outcome !== LOST) return outcome;
    }
  }

  /** @param lost claims so far. After each one the walk starts elsewhere: whoever was faster goes on from there, too. */
  async #walk(
    pools: readonly EffectiveIPPool[],
    settings: IPAMSettings,
    mayClaim: boolean,
    lost: number,
  ): Promise<ShortageReason | undefined | typeof LOST> {
    const { sources, nodeName, turn, clock } = this.#tools;
    const all = await sources.pools();
    const own = await sources.ownAffinities();
    const known = mayClaim ? await this.taken() : await this.#known();
    const tally: Tally = { taken: 0, overlapped: 0, reserved: 0 };
    const reservations = this.#tools.reservations();
    const passOver = (candidate: CIDR): CIDR | undefined => {
      const reserved = reservations.widest(candidate);
      if (reserved !== undefined) tally.reserved++;
      return reserved;
    };
    let seen = 0;
    for (const pool of pools) {
      for (const cidr of blockCandidates(pool, lost === 0 ? nodeName : `${nodeName} ${lost}`, passOver)) {
        if (++seen % CANDIDATES_A_TURN === 0) await turn();
        const other = known.overlap(cidr);
        const isTaken = other?.prefixLength === cidr.prefixLength || this.#table.isBusy(cidr);
        const by = isTaken ? undefined : (other ?? coveringPool(cidr, pool, all));
        if (isTaken) tally.taken++;
        else if (by !== undefined) {
          tally.overlapped++;
          tally.overlap ??= { candidate: cidr, by };
        } else if (reservations.covers(cidr)) tally.reserved++;
        else {
          const limit = this.limit(pools, settings, own);
          if (limit !== undefined || !mayClaim) return limit;
          if (await this.#table.own(cidr, () => claimBlock(this.#tools, cidr))) return undefined;
          this.#lost = [...this.#lost, { cidr, atMs: clock.nowMs() }];
          return LOST;
        }
      }
    }
    // A node at its limit hears of the limit, whether or not there would be a block.
    const { strictAffinity } = settings;
    return this.limit(pools, settings, own) ?? { kind: "exhausted", tally, strictAffinity };
  }
}
