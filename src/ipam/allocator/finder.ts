// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { type Backoff, backoffMs } from "../../lib/retry.ts";
import { formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { hostAffinity } from "../affinity.ts";
import { coolingCount } from "../cooldown.ts";
import { isInPools } from "../pools.ts";
import type { IPAMSettings } from "../ports.ts";
import { type ShortageReason, shortageError } from "../shortage.ts";
import type { BlockTable, TableTools } from "./block-table.ts";
import { loadAffineBlock } from "./claims.ts";
import { freeElsewhere, idleIn, lendersIn } from "./elsewhere.ts";
import type { BlockCommitter } from "./group-commit.ts";
import { BlockLister, type Listing, MIN_LIST_MS } from "./listing.ts";
import { BlockSearch, type SearchTools } from "./search.ts";
import { takeOverBlock } from "./takeover.ts";
import { giveUpStrays } from "./upkeep.ts";

export interface FinderTools extends TableTools, SearchTools {}

/** Between two listings, after one that found nothing and then more: a full pool has nothing new to show. */
const LIST_BACKOFF: Backoff = { baseMs: 2 * MIN_LIST_MS, maxMs: 60_000 };

/** Listings of all blocks in a row that had nothing for a choice of pools. */
interface Misses {
  readonly count: number;
  readonly listing: Listing;
  /** How old a listing may be for these pools. Units: milliseconds. */
  readonly maxAgeMs: number;
}

/** The ways in which this node comes by a block with room. */
export class BlockFinder {
  readonly search: BlockSearch;
  readonly #tools: FinderTools;
  readonly #table: BlockTable;
  readonly #lister: BlockLister;
  /** Reads of affine blocks that are under way. Who did not wait for one would claim a block too many at an agent's start. */
  readonly #loads = new Map<string, Promise<boolean>>();
  /** By choice of pools. */
  readonly #misses = new Map<string, Misses>();

  constructor(tools: FinderTools, table: BlockTable) {
    this.#tools = tools;
    this.#table = table;
    this.#lister = new BlockLister(tools);
    this.search = new BlockSearch(tools, table, this.#lister);
  }

  /** What all blocks came to when they were last read, which is no longer ago than this. Errors: IPAMError `Datastore`. */
  async listing(maxAgeMs: number): Promise<Listing> {
    return await this.#lister.recent(maxAgeMs);
  }

  /**
   * One more block with room in these pools: an affine one that was not read yet, a new one, or an empty one of another
   * node; or, when there is none and borrowing is allowed, a block of another node with room (`BlockTable.lendersIn`).
   *
   * Errors: IPAMError `NoAddress`, `BlockLimit`, `Overlap`, `Datastore`. Source: calico-interop 2.2, steps 3 to 6.
   */
  async find(pools: readonly EffectiveIPPool[]): Promise<"owned" | "lender"> {
    const key = pools.map(({ name }) => name).join(" ");
    const { sources, nodeName } = this.#tools;
    if (await this.#loadNext(pools)) return "owned";
    await giveUpStrays(this.#tools, (cidr) => this.#table.committer(cidr).adopt(undefined));
    const settings = await sources.settings();
    const claimed = await this.search.claim(pools, settings);
    if (claimed === undefined) return "owned";
    const listing = await this.#listFor(key, claimed);
    const reason = listing && (await this.#claimListed(pools, settings, claimed, listing));
    const isOwned = listing !== undefined && reason === undefined;
    // Requests with other pools may be claiming what there is.
    const others = isOwned ? [] : this.#table.endsIn(pools);
    if (others.length > 0) await Promise.race(others);
    const mayBorrow = reason?.kind === "exhausted" && !settings.strictAffinity;
    const isLent = listing !== undefined && mayBorrow && others.length === 0 && (await this.#borrow(pools, listing));
    if (isOwned || isLent || others.length > 0) {
      this.#misses.delete(key);
      return isLent ? "lender" : "owned";
    }
    if (listing !== undefined) this.#noteMiss(key, listing);
    const own = this.#table.ownIn(pools);
    const cooling = own.reduce((sum, { block }) => sum + (block === undefined ? 0 : coolingCount(block.spec)), 0);
    const elsewhere = listing && freeElsewhere(listing, pools, nodeName);
    const told = { nodeName, pools, owned: own.length, reason: reason ?? claimed, cooling };
    throw shortageError({ ...told, ...(elsewhere && { elsewhere }) });
  }

  /** The same for nobody in particular: lists nothing, takes nothing from anybody, and borrows nothing. */
  async findEarly(pools: readonly EffectiveIPPool[]): Promise<void> {
    if (await this.#loadNext(pools)) return;
    const reason = await this.search.claim(pools, await this.#tools.sources.settings());
    const { nodeName } = this.#tools;
    if (reason !== undefined) throw shortageError({ nodeName, pools, owned: this.#table.ownIn(pools).length, reason });
  }

  /** The block of one of our affinities, when it was just read and found to be ours. */
  async load(affinity: BlockAffinity, pools: readonly EffectiveIPPool[]): Promise<BlockCommitter | undefined> {
    const cidr = parseCIDR(affinity.spec.cidr);
    const committer = this.#table.committer(cidr);
    if (!isInPools(cidr, pools) || committer.isOwn || this.#table.isLeftAlone(cidr)) return undefined;
    // Wholly reserved: nothing to be had.
    if (this.#tools.reservations().covers(cidr)) return undefined;
    const key = formatCIDR(cidr);
    const load =
      this.#loads.get(key) ??
      this.#table
        .own(cidr, () => loadAffineBlock(this.#tools, cidr, affinity))
        .finally(() => {
          this.#loads.delete(key);
        });
    this.#loads.set(key, load);
    return (await load) ? committer : undefined;
  }

  /** Reads the affine blocks that were not read yet, until one has room. */
  async #loadNext(pools: readonly EffectiveIPPool[]): Promise<boolean> {
    for (const affinity of await this.#tools.sources.ownAffinities()) {
      const committer = await this.load(affinity, pools);
      if (committer !== undefined && committer.free > 0) return true;
    }
    return false;
  }

  /** Undefined when it could not be read and is only for people, since there is no getting past the reason anyway. */
  async #listFor(key: string, reason: ShortageReason): Promise<Listing | undefined> {
    try {
      return await this.#lister.recent(this.#misses.get(key)?.maxAgeMs ?? MIN_LIST_MS);
    } catch (error) {
      if (reason.kind === "exhausted") throw error;
      return undefined;
    }
  }

  #noteMiss(key: string, listing: Listing): void {
    const last = this.#misses.get(key);
    if (last?.listing === listing) return;
    const count = (last?.count ?? 0) + 1;
    this.#misses.set(key, { count, listing, maxAgeMs: backoffMs(LIST_BACKOFF, count, this.#tools.random()) });
  }

  /** A block of one's own that the listing shows. Undefined when there was one, else why not. */
  async #claimListed(
    pools: readonly EffectiveIPPool[],
    settings: IPAMSettings,
    claimed: ShortageReason,
    listing: Listing,
  ): Promise<ShortageReason | undefined> {
    if (await this.#useOwn(pools, listing)) return undefined;
    // What we found to be somebody else's may have been given up since.
    const isOutdated = claimed.kind === "exhausted" && this.search.isOutdatedBy(listing);
    const reason = isOutdated ? await this.search.claim(pools, settings) : claimed;
    return reason?.kind === "exhausted" ? await this.#takeOver(pools, settings, reason, listing) : reason;
  }

  /** Blocks of ours in which others have freed something, and those that are ours without an affinity. */
  async #useOwn(pools: readonly EffectiveIPPool[], { roomy }: Listing): Promise<boolean> {
    const own = [...roomy.values()].filter(({ affinity }) => affinity === hostAffinity(this.#tools.nodeName));
    for (const { cidr } of own.filter(({ cidr }) => isInPools(cidr, pools) && !this.#table.isLeftAlone(cidr))) {
      const committer = this.#table.committer(cidr);
      if (!committer.isOwn) await this.#table.own(cidr, () => loadAffineBlock(this.#tools, cidr));
      else if (committer.free <= 0) await this.#refresh(committer);
      if (committer.free > 0) return true;
      roomy.delete(formatCIDR(cidr));
    }
    return false;
  }

  async #refresh(committer: BlockCommitter): Promise<void> {
    try {
      await committer.refresh();
    } catch (error) {
      this.#table.noteIfBroken(committer.cidr, error);
      committer.adopt(undefined);
    }
  }

  /** Takes an empty block of somebody else. Undefined when there was one, else why not. */
  async #takeOver(
    pools: readonly EffectiveIPPool[],
    settings: IPAMSettings,
    reason: ShortageReason,
    listing: Listing,
  ): Promise<ShortageReason | undefined> {
    const { clock, nodeName, sources } = this.#tools;
    const own = await sources.ownAffinities();
    for (const idle of idleIn(listing, pools, nodeName, clock.nowMs())) {
      const { cidr } = idle;
      const limit = this.search.limit(pools, settings, own);
      if (limit !== undefined) return limit;
      if (this.#table.isBusy(cidr)) continue;
      // Ours, or somebody has just begun to use it: the next listing shows it as it is.
      listing.roomy.delete(formatCIDR(cidr));
      if (await this.#table.own(cidr, () => takeOverBlock(this.#tools, idle))) return undefined;
    }
    return reason;
  }

  /** Looks at blocks of others until one has room still. */
  async #borrow(pools: readonly EffectiveIPPool[], listing: Listing): Promise<boolean> {
    if (this.#table.lendersIn(pools).length > 0) return true;
    for (const { cidr } of lendersIn(listing, pools, this.#tools.nodeName)) {
      if (await this.#table.canLend(this.#table.committer(cidr))) return true;
      listing.roomy.delete(formatCIDR(cidr));
    }
    return false;
  }
}
