// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { type CIDR, formatCIDR } from "../../net/cidr.ts";
import { IPAMError } from "../errors.ts";
import { isInPools } from "../pools.ts";
import { isLender } from "./elsewhere.ts";
import { BlockCommitter, type CommitTools } from "./group-commit.ts";

export interface TableTools extends CommitTools {
  /** Called for each block that has become this node's, or was read and found to be. */
  readonly onOwned: (committer: BlockCommitter) => void;
  /** A failure that nobody waits for. */
  readonly onBackgroundError: (error: unknown) => void;
}

/** A damaged block is looked at again after this time. */
const BROKEN_PAUSE_MS = 30_000;

/** Blocks of others that are kept in memory, if no more of them are at work. */
const MAX_FOREIGN = 64;

/** The blocks that this process knows, ours or not, and which of them it is just claiming. */
export class BlockTable {
  readonly #tools: TableTools;
  readonly #committers = new Map<string, BlockCommitter>();
  /** Answers of `ownIn`, until a block comes or goes. */
  #own = new WeakMap<readonly EffectiveIPPool[], readonly BlockCommitter[]>();
  /** Blocks being read or claimed right now, so that parallel claims reach for different ones. */
  readonly #busy = new Map<string, { readonly cidr: CIDR; readonly end: Promise<void> }>();
  /** Damaged blocks, and until when they are left alone. */
  readonly #broken = new Map<string, { readonly message: string; readonly untilMs: number }>();

  constructor(tools: TableTools) {
    this.#tools = tools;
  }

  /** The one committer of a block, ours or not, for as long as somebody works with it. */
  committer(cidr: CIDR): BlockCommitter {
    const key = formatCIDR(cidr);
    const found = this.#committers.get(key);
    if (found !== undefined) return found;
    const committer = new BlockCommitter(this.#tools, cidr, () => (this.#own = new WeakMap()));
    this.#committers.set(key, committer);
    this.#dropForeign();
    return committer;
  }

  /** In a full cluster a node looks at block after block of others, and each is tens of kilobytes. The oldest ones go. */
  #dropForeign(): void {
    const foreign = [...this.#committers].filter(([, { isOwn }]) => !isOwn);
    // One whose addresses cool stays until they have: another one would not know.
    for (const [key, committer] of foreign.slice(0, -MAX_FOREIGN)) if (committer.isIdle) this.#committers.delete(key);
  }

  committers(): Iterable<BlockCommitter> {
    return this.#committers.values();
  }

  /** This node's blocks in these pools, in the order of their networks. */
  ownIn(pools: readonly EffectiveIPPool[]): readonly BlockCommitter[] {
    const known = this.#own.get(pools);
    if (known !== undefined) return known;
    const own = [...this.#committers.values()].filter(({ isOwn, cidr }) => isOwn && isInPools(cidr, pools));
    this.#own.set(
      pools,
      own.sort((a, b) => (a.cidr.network < b.cidr.network ? -1 : 1)),
    );
    return own;
  }

  /** Blocks of others in these pools with something to lend, as last seen. */
  lendersIn(pools: readonly EffectiveIPPool[]): readonly BlockCommitter[] {
    const { nodeName } = this.#tools;
    return [...this.#committers.values()].filter(
      ({ cidr, lendable, block }) =>
        lendable > 0 && block !== undefined && isLender(block.spec.affinity, nodeName) && isInPools(cidr, pools),
    );
  }

  /** Whether a block of somebody else has something to lend, after a look at it. Errors: IPAMError `Datastore`. */
  async canLend(committer: BlockCommitter): Promise<boolean> {
    try {
      await committer.look();
    } catch (error) {
      this.noteIfBroken(committer.cidr, error);
      committer.adopt(undefined);
    }
    return committer.lendable > 0;
  }

  get busy(): readonly CIDR[] {
    return [...this.#busy.values()].map(({ cidr }) => cidr);
  }

  isBusy(cidr: CIDR): boolean {
    return this.#busy.has(formatCIDR(cidr));
  }

  /** Ends of the claims that are under way in these pools. */
  endsIn(pools: readonly EffectiveIPPool[]): readonly Promise<void>[] {
    return [...this.#busy.values()].filter(({ cidr }) => isInPools(cidr, pools)).map(({ end }) => end);
  }

  /** Works on a block as the only one in this process, after the others that do. */
  async alone<T>(cidr: CIDR, fn: () => Promise<T>): Promise<T> {
    const key = formatCIDR(cidr);
    for (let other = this.#busy.get(key); other !== undefined; other = this.#busy.get(key)) await other.end;
    const { promise: end, resolve } = Promise.withResolvers<void>();
    this.#busy.set(key, { cidr, end });
    try {
      return await fn();
    } finally {
      this.#busy.delete(key);
      resolve();
    }
  }

  /**
   * Reads or claims a block with `fn`, which is undefined when it is not ours. True when the block is this node's now; one
   * that another claim is busy with, and a damaged one, count as not.
   */
  async own(cidr: CIDR, fn: () => Promise<IPAMBlock | undefined>): Promise<boolean> {
    if (this.isBusy(cidr)) return false;
    try {
      return await this.alone(cidr, async () => this.adoptOwn(cidr, await fn()));
    } catch (error) {
      this.noteIfBroken(cidr, error);
      return false;
    }
  }

  /** Takes over what a claim came to. True when the block is this node's. */
  adoptOwn(cidr: CIDR, block: IPAMBlock | undefined): boolean {
    if (block === undefined) return false;
    const committer = this.committer(cidr);
    committer.adopt(block);
    this.#tools.onOwned(committer);
    return true;
  }

  isLeftAlone(cidr: CIDR): boolean {
    return (this.#broken.get(formatCIDR(cidr))?.untilMs ?? 0) > this.#tools.clock.nowMs();
  }

  noteBroken(cidr: CIDR, error: IPAMError): void {
    const key = formatCIDR(cidr);
    if (this.#broken.get(key)?.message !== error.message) this.#tools.onBackgroundError(error);
    this.#broken.set(key, { message: error.message, untilMs: this.#tools.clock.nowMs() + BROKEN_PAUSE_MS });
  }

  /** One damaged object must not keep the node from its other blocks. Throws every other error. */
  noteIfBroken(cidr: CIDR, error: unknown): void {
    if (!(error instanceof IPAMError) || error.code !== "BrokenObject") throw error;
    this.noteBroken(cidr, error);
  }
}
