// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import type { Clock } from "../../lib/clock.ts";
import { type CIDR, cidrsOverlap, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import type { IPAMSources, IPAMStore } from "../ports.ts";

/** How old the last look may be when it has found something: it may be gone by now. Units: milliseconds. */
const MAX_AGE_MS = 60_000;

/**
 * Blocks whose size is not what their pool is cut into, whether or not anybody claims them.
 *
 * Claims show nearly all blocks, and creating one that is there already fails, so only these can have their addresses given
 * twice: a pool that is deleted (`calicoctl delete ippool`) leaves blocks in use without a claim, and may be made again with
 * another block size. Everybody cuts blocks as a pool says, so an odd one is older than its pool: one look at all blocks is
 * enough until a pool changes, and while there are none, the last.
 */
export class OddBlocks {
  readonly #tools: { readonly store: IPAMStore; readonly sources: IPAMSources; readonly clock: Clock };
  #last: { readonly shape: string; readonly atMs: number; readonly cidrs: readonly CIDR[] } | undefined;
  #running: Promise<void> | undefined;

  constructor(tools: { readonly store: IPAMStore; readonly sources: IPAMSources; readonly clock: Clock }) {
    this.#tools = tools;
  }

  /** As of the last look. */
  get cidrs(): readonly CIDR[] {
    return this.#last?.cidrs ?? [];
  }

  /** Looks, unless that is known of the pools as they are now. Who asks meanwhile shares the look. Errors: `Datastore`. */
  async look(): Promise<void> {
    if (this.#tools.sources.knowsAllBlocks) return;
    while (!this.#isFresh(await this.#tools.sources.pools())) {
      this.#running ??= this.#read().finally(() => {
        this.#running = undefined;
      });
      await this.#running;
    }
  }

  #isFresh(pools: readonly EffectiveIPPool[]): boolean {
    if (this.#last?.shape !== shapeOf(pools)) return false;
    return this.#last.cidrs.length === 0 || this.#tools.clock.nowMs() - this.#last.atMs < MAX_AGE_MS;
  }

  async #read(): Promise<void> {
    const { store, sources, clock } = this.#tools;
    const pools = await sources.pools();
    const cidrs: CIDR[] = [];
    for await (const page of store.pages("block")) {
      for (const { spec } of page) {
        const cidr = parseCIDR(spec.cidr);
        const isOdd = pools.some((pool) => pool.blockSize !== cidr.prefixLength && cidrsOverlap(pool.cidr, cidr));
        if (isOdd && !spec.deleted) cidrs.push(cidr);
      }
    }
    this.#last = { shape: shapeOf(pools), atMs: clock.nowMs(), cidrs };
  }
}

/** All that decides which blocks a pool is cut into. */
function shapeOf(pools: readonly EffectiveIPPool[]): string {
  const shapes = pools.map(({ cidr, blockSize }) => `${formatCIDR(cidr)} ${blockSize}`);
  return shapes.sort().join();
}
