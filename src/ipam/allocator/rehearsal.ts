// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { hostAffinity } from "../affinity.ts";
import { IPAMError } from "../errors.ts";
import { isInPools } from "../pools.ts";
import { type ShortageReason, shortageError } from "../shortage.ts";
import type { BlockTable } from "./block-table.ts";
import { freeElsewhere, idleIn } from "./elsewhere.ts";
import type { BlockFinder, FinderTools } from "./finder.ts";
import type { Listing } from "./listing.ts";

/**
 * Whoever asks for a node's state asks every few seconds, so while nothing can be claimed all blocks are listed no more
 * often than this. A pool that is added, and an address that comes free in an own block, show at once.
 */
const REMEMBER_MS = 60_000;

/** Answers whether an address could be had, as `BlockFinder.find` would find it, but claims and takes nothing. */
export class Rehearsal {
  readonly #tools: FinderTools;
  readonly #table: BlockTable;
  readonly #finder: BlockFinder;

  constructor(tools: FinderTools, table: BlockTable, finder: BlockFinder) {
    this.#tools = tools;
    this.#table = table;
    this.#finder = finder;
  }

  /** Errors: IPAMError `NoAddress`, `BlockLimit`, `Overlap`; of the sources. */
  async run(pools: readonly EffectiveIPPool[]): Promise<void> {
    const own = this.#table.ownIn(pools);
    if (own.some(({ free }) => free > 0)) return;
    const { sources, nodeName } = this.#tools;
    const reason = await this.#finder.search.look(pools, await sources.settings());
    if (reason === undefined) return;
    let listing: Listing;
    try {
      listing = await this.#finder.listing(REMEMBER_MS);
    } catch (error) {
      // Who asks whether the API server answers must ask something else.
      if (error instanceof IPAMError && error.code === "Datastore") return;
      throw error;
    }
    if (this.#isThere(listing, pools, reason)) return;
    const elsewhere = freeElsewhere(listing, pools, nodeName);
    throw shortageError({ nodeName, pools, owned: own.length, reason, elsewhere });
  }

  /** A block with room that is this node's, or may become so, or may lend. */
  #isThere(listing: Listing, pools: readonly EffectiveIPPool[], reason: ShortageReason): boolean {
    const { clock, nodeName } = this.#tools;
    const { roomy } = listing;
    const isOwn = [...roomy.values()].some(
      ({ affinity, cidr }) => affinity === hostAffinity(nodeName) && isInPools(cidr, pools),
    );
    if (isOwn || reason.kind !== "exhausted") return isOwn;
    const mayBorrow = !reason.strictAffinity && freeElsewhere(listing, pools, nodeName).addresses > 0;
    return mayBorrow || idleIn(listing, pools, nodeName, clock.nowMs()).length > 0;
  }
}
