// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { type CIDR, parseCIDR } from "../../net/cidr.ts";
import { hostAffinity, nodeOfAffinity } from "../affinity.ts";
import { freeCount } from "../block.ts";
import { fnv1 } from "../candidates.ts";
import { damageOf } from "../check-block.ts";
import { thaw } from "../cooldown.ts";
import { isInPools } from "../pools.ts";
import type { Shortage } from "../shortage.ts";
import type { BlockCommitter, CommitTools } from "./group-commit.ts";

/** What is free elsewhere, for messages, is counted at most this often. */
const SURVEY_MS = 10_000;
/** Blocks from which a node borrows at a time. */
const MAX_LENDERS = 8;

interface FreeBlock {
  readonly cidr: CIDR;
  readonly free: number;
}

/** Blocks of other nodes: what they could lend, and what is told of them when nothing may be borrowed. */
export class Elsewhere {
  readonly #tools: CommitTools;
  #survey: { readonly atMs: number; readonly free: readonly FreeBlock[] } | undefined;

  constructor(tools: CommitTools) {
    this.#tools = tools;
  }

  /** Those with something to lend, as last seen. */
  lendersAmong(committers: Iterable<BlockCommitter>, pools: readonly EffectiveIPPool[]): readonly BlockCommitter[] {
    const known = [...committers].filter(({ cidr, lendable }) => lendable > 0 && isInPools(cidr, pools));
    return known.filter(({ block }) => block !== undefined && isLender(block));
  }

  /** Shows some of the listed blocks to their committers, so that they can lend. */
  adoptLenders(
    listed: readonly IPAMBlock[],
    pools: readonly EffectiveIPPool[],
    committerOf: (cidr: CIDR) => BlockCommitter,
  ): void {
    const lenders = this.inOwnOrder(listed).filter((block) => this.#canLend(block, pools));
    for (const block of lenders.slice(0, MAX_LENDERS)) {
      const committer = committerOf(parseCIDR(block.spec.cidr));
      if (committer.lendable <= 0) committer.adopt(block);
    }
  }

  /** Addresses that can be had out of a block, without the reserved ones. */
  freeOf({ spec }: IPAMBlock): number {
    const { clock, cooldown, reservations } = this.#tools;
    const thawed = thaw(spec, clock.nowMs(), cooldown().ipCooldownMs);
    return spec.deleted ? 0 : freeCount(thawed, reservations().of(parseCIDR(spec.cidr)));
  }

  /** In an order that differs by node, so that nodes seldom reach for the same block. */
  inOwnOrder(blocks: readonly IPAMBlock[]): readonly IPAMBlock[] {
    const rank = (block: IPAMBlock): number => fnv1(`${block.spec.cidr} ${this.#tools.nodeName}`);
    return [...blocks].sort((a, b) => rank(a) - rank(b));
  }

  /**
   * What others have free in these pools. Absent when it could not be read: the reason of a shortage is known then, and
   * the numbers are only for people.
   *
   * @param listed all blocks, if they were just listed
   */
  async survey(
    pools: readonly EffectiveIPPool[],
    listed: readonly IPAMBlock[] | undefined,
  ): Promise<Pick<Shortage, "elsewhere">> {
    try {
      const free = (await this.#free(listed)).filter(({ cidr }) => isInPools(cidr, pools));
      return { elsewhere: { addresses: free.reduce((n, f) => n + f.free, 0), blocks: free.length } };
    } catch {
      return {};
    }
  }

  async #free(listed: readonly IPAMBlock[] | undefined): Promise<readonly FreeBlock[]> {
    const { clock, store, nodeName } = this.#tools;
    const last = this.#survey;
    if (listed === undefined && last !== undefined && clock.nowMs() - last.atMs < SURVEY_MS) return last.free;
    const blocks = listed ?? (await store.list("block"));
    const others = blocks.filter((block) => block.spec.affinity !== hostAffinity(nodeName) && isLender(block));
    const counted = others.map((block) => ({ cidr: parseCIDR(block.spec.cidr), free: this.freeOf(block) }));
    const free = counted.filter((block) => block.free > 0);
    this.#survey = { atMs: clock.nowMs(), free };
    return free;
  }

  #canLend(block: IPAMBlock, pools: readonly EffectiveIPPool[]): boolean {
    const isOther = block.spec.affinity !== hostAffinity(this.#tools.nodeName) && isLender(block);
    if (!isOther || !isInPools(parseCIDR(block.spec.cidr), pools)) return false;
    return this.freeOf(block) > 0 && damageOf(block.spec).length === 0;
  }
}

/** Nodes lend, and so do blocks without an owner; virtual owners, such as load balancers, do not. */
function isLender({ spec }: IPAMBlock): boolean {
  return !spec.deleted && (spec.affinity === undefined || nodeOfAffinity(spec.affinity) !== undefined);
}
