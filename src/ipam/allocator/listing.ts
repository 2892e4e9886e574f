// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { type CIDR, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { freeCount } from "../block.ts";
import { KnownBlocks } from "../candidates.ts";
import { damageOf } from "../check-block.ts";
import { thaw } from "../cooldown.ts";
import type { IPAMSources } from "../ports.ts";
import type { CommitTools } from "./group-commit.ts";
import { isIdle } from "./takeover.ts";

/** No node lists all blocks of the cluster more often than this, whatever it is short of. */
export const MIN_LIST_MS = 5_000;

/** What is kept of a block that somebody without room may use. */
export interface ListedBlock {
  readonly cidr: CIDR;
  readonly affinity: string | undefined;
  readonly sequenceNumber: bigint;
  /** Addresses that can be had out of it, without the reserved ones. At least one. */
  readonly free: number;
  readonly isIdle: boolean;
  readonly claimedAt: string | undefined;
}

/** What all blocks came to when they were last read. */
export interface Listing {
  /** When the reading began. Units: Unix milliseconds. */
  readonly atMs: number;
  /** Sound blocks with something free, by CIDR. Whoever finds one to be otherwise by now deletes it here. */
  readonly roomy: Map<string, ListedBlock>;
  /** Blocks that the sources do not know, such as those without a claim. */
  readonly unknown: readonly CIDR[];
}

export interface ListTools extends CommitTools {
  readonly sources: IPAMSources;
}

/**
 * Reads all blocks of the cluster, page by page, and keeps of each the few things that matter to somebody who has no room:
 * whole blocks of a large cluster are hundreds of megabytes.
 */
export class BlockLister {
  readonly #tools: ListTools;
  #last: Listing | undefined;
  #endedAtMs = Number.NEGATIVE_INFINITY;
  #running: Promise<Listing> | undefined;

  constructor(tools: ListTools) {
    this.#tools = tools;
  }

  get last(): Listing | undefined {
    return this.#last;
  }

  /** The last listing, if it is younger than that, or a new one, which all share who ask meanwhile. Errors: `Datastore`. */
  async recent(maxAgeMs: number): Promise<Listing> {
    if (this.#last !== undefined && this.#tools.clock.nowMs() - this.#endedAtMs < maxAgeMs) return this.#last;
    this.#running ??= this.#list().finally(() => {
      this.#running = undefined;
    });
    return await this.#running;
  }

  async #list(): Promise<Listing> {
    const { store, clock, sources } = this.#tools;
    const atMs = clock.nowMs();
    const roomy = new Map<string, ListedBlock>();
    const all: CIDR[] = [];
    for await (const page of store.pages("block")) {
      for (const block of page) {
        if (block.spec.deleted) continue;
        const cidr = parseCIDR(block.spec.cidr);
        all.push(cidr);
        const listed = this.#summarize(block, cidr);
        if (listed !== undefined) roomy.set(formatCIDR(cidr), listed);
      }
    }
    const known = new KnownBlocks(await sources.knownBlocks());
    const unknown = all.filter((cidr) => known.overlap(cidr)?.prefixLength !== cidr.prefixLength);
    this.#endedAtMs = clock.nowMs();
    this.#last = { atMs, roomy, unknown };
    return this.#last;
  }

  #summarize(block: IPAMBlock, cidr: CIDR): ListedBlock | undefined {
    const { clock, cooldown, reservations } = this.#tools;
    const { spec } = block;
    if (damageOf(spec).length > 0) return undefined;
    const free = freeCount(thaw(spec, clock.nowMs(), cooldown().ipCooldownMs), reservations().of(cidr));
    if (free === 0) return undefined;
    const { affinity, affinityClaimTime: claimedAt, sequenceNumber } = spec;
    return { cidr, affinity, sequenceNumber, free, isIdle: isIdle(block), claimedAt };
  }
}
