// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { cidrCovers, parseCIDR } from "../../net/cidr.ts";
import { hostAffinity } from "../affinity.ts";
import { damageOf } from "../check-block.ts";
import { IPAMError } from "../errors.ts";
import { isInPools } from "../pools.ts";
import { type ShortageReason, shortageError } from "../shortage.ts";
import { Elsewhere } from "./elsewhere.ts";
import type { BlockFinder, FinderTools } from "./finder.ts";
import { mayTakeOver } from "./takeover.ts";

/**
 * Whoever asks for a node's state asks every few seconds, so while nothing can be claimed all blocks are listed no more
 * often than this. A pool that is added, and an address that comes free in an own block, show at once.
 */
const REMEMBER_MS = 60_000;

/** Answers whether an address could be had, as `BlockFinder.find` would find it, but claims and takes nothing. */
export class Rehearsal {
  readonly #tools: FinderTools;
  readonly #finder: BlockFinder;
  readonly #elsewhere: Elsewhere;
  /** What the last list of all blocks said, by choice of pools. */
  readonly #verdicts = new Map<string, { readonly atMs: number; readonly error: IPAMError | undefined }>();

  constructor(tools: FinderTools, finder: BlockFinder) {
    this.#tools = tools;
    this.#finder = finder;
    this.#elsewhere = new Elsewhere(tools);
  }

  /** Errors: IPAMError `NoAddress`, `BlockLimit`, `Overlap`; of the sources. */
  async run(pools: readonly EffectiveIPPool[]): Promise<void> {
    if (this.#finder.ownIn(pools).some(({ free }) => free > 0)) return;
    const reason = await this.#finder.shortageIn(pools);
    if (reason === undefined) return;
    const key = pools.map(({ name }) => name).join(" ");
    const last = this.#verdicts.get(key);
    const isFresh = last !== undefined && this.#tools.clock.nowMs() - last.atMs < REMEMBER_MS;
    const error = isFresh ? last.error : await this.#judge(pools, reason, key);
    if (error !== undefined) throw error;
  }

  async #judge(pools: readonly EffectiveIPPool[], reason: ShortageReason, key: string): Promise<IPAMError | undefined> {
    const { store, clock, nodeName } = this.#tools;
    let blocks: readonly IPAMBlock[];
    try {
      blocks = await store.list("block");
    } catch (error) {
      // Who asks whether the API server answers must ask something else.
      if (error instanceof IPAMError && error.code === "Datastore") return undefined;
      throw error;
    }
    const { elsewhere } = await this.#elsewhere.survey(pools, blocks);
    const mayLook = reason.kind === "exhausted";
    const canBorrow = mayLook && !reason.strictAffinity && (elsewhere?.addresses ?? 0) > 0;
    const hasBlock = blocks.some((block) => this.#isUsable(block, pools, mayLook));
    const owned = this.#finder.ownIn(pools).length;
    const error =
      canBorrow || hasBlock
        ? undefined
        : shortageError({ nodeName, pools, owned, reason, ...(elsewhere && { elsewhere }) });
    this.#verdicts.set(key, { atMs: clock.nowMs(), error });
    return error;
  }

  /** A block with room that is this node's, or may become so. */
  #isUsable(block: IPAMBlock, pools: readonly EffectiveIPPool[], mayTake: boolean): boolean {
    const { clock, nodeName } = this.#tools;
    const cidr = parseCIDR(block.spec.cidr);
    if (!isInPools(cidr, pools) || this.#elsewhere.freeOf(block) === 0 || damageOf(block.spec).length > 0) return false;
    if (block.spec.affinity === hostAffinity(nodeName)) return true;
    const fits = pools.some((pool) => pool.blockSize === cidr.prefixLength && cidrCovers(pool.cidr, cidr));
    return mayTake && fits && mayTakeOver(block, clock.nowMs());
  }
}
