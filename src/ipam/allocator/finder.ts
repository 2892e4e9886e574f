// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { blockName } from "../../crds/names.ts";
import { blockOf, type CIDR, cidrCovers, formatCIDR, hostCIDR, parseCIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";
import { hostAffinity } from "../affinity.ts";
import { blockCandidates, coveringPool, KnownBlocks } from "../candidates.ts";
import { damageOf } from "../check-block.ts";
import { coolingCount } from "../cooldown.ts";
import { IPAMError } from "../errors.ts";
import { isInPools } from "../pools.ts";
import type { IPAMSettings, IPAMSources } from "../ports.ts";
import { DEFAULT_BLOCK_LIMIT, type SearchTally, type ShortageReason, shortageError } from "../shortage.ts";
import { type ClaimTools, claimBlock, loadAffineBlock } from "./claims.ts";
import { Elsewhere } from "./elsewhere.ts";
import { BlockCommitter, type CommitTools } from "./group-commit.ts";
import { mayMove, mayTakeOver, takeOverBlock } from "./takeover.ts";
import { giveUpStrays } from "./upkeep.ts";

export interface FinderTools extends CommitTools, ClaimTools {
  readonly sources: IPAMSources;
  /** Called for each block that has become this node's, or was read and found to be. */
  readonly onOwned: (committer: BlockCommitter) => void;
  /** A failure that nobody waits for. */
  readonly onBackgroundError: (error: unknown) => void;
}

/** What a look for a block of one's own has come to. */
type Found =
  | { readonly kind: "owned" }
  | { readonly kind: "short"; readonly reason: ShortageReason; readonly blocks?: readonly IPAMBlock[] };
type Limit = Extract<ShortageReason, { kind: "limit" }>;

const OWNED: Found = { kind: "owned" };
/** A damaged block is looked at again after this time. */
const BROKEN_PAUSE_MS = 30_000;
/** Candidates looked at before others get a turn. */
const CANDIDATES_A_TURN = 4096;

/** The blocks that this process knows, and the ways in which it comes by another one. */
export class BlockFinder {
  readonly #tools: FinderTools;
  readonly #committers = new Map<string, BlockCommitter>();
  /** Answers of `ownIn`, until a block comes or goes. */
  #own = new WeakMap<readonly EffectiveIPPool[], readonly BlockCommitter[]>();
  /** Blocks being read or claimed right now, so that parallel claims reach for different ones. */
  readonly #busy = new Map<string, { readonly cidr: CIDR; readonly end: Promise<void>; readonly isLoad: boolean }>();
  /** Blocks found to be somebody else's, which the sources may not know yet. */
  #foreign: readonly CIDR[] = [];
  /** Damaged blocks, and until when they are left alone. */
  readonly #broken = new Map<string, { readonly message: string; readonly untilMs: number }>();
  readonly #elsewhere: Elsewhere;

  constructor(tools: FinderTools) {
    this.#tools = tools;
    this.#elsewhere = new Elsewhere(tools);
  }

  committer(cidr: CIDR): BlockCommitter {
    const key = formatCIDR(cidr);
    const onOwnerChange = (): unknown => (this.#own = new WeakMap());
    const found = this.#committers.get(key) ?? new BlockCommitter(this.#tools, cidr, onOwnerChange);
    this.#committers.set(key, found);
    return found;
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
    return this.#elsewhere.lendersAmong(this.#committers.values(), pools);
  }

  noteBroken(cidr: CIDR, error: IPAMError): void {
    const key = formatCIDR(cidr);
    if (this.#broken.get(key)?.message !== error.message) this.#tools.onBackgroundError(error);
    this.#broken.set(key, { message: error.message, untilMs: this.#tools.clock.nowMs() + BROKEN_PAUSE_MS });
  }

  /**
   * One more block with room in these pools: an affine one that was not read yet, a new one, or an empty one of another
   * node; or, when there is none and borrowing is allowed, blocks of others with room (`lendersIn`).
   *
   * Errors: IPAMError `NoAddress`, `BlockLimit`, `Overlap`, `Datastore`. Source: calico-interop 2.2, steps 3 to 6.
   */
  async find(pools: readonly EffectiveIPPool[]): Promise<"owned" | "lenders"> {
    const { sources } = this.#tools;
    if (await this.#loadNext(pools)) return "owned";
    await giveUpStrays(this.#tools, (cidr) => this.committer(cidr).adopt(undefined));
    const settings = await sources.settings();
    const found = await this.#claimNew(pools, settings, true);
    if (found.kind === "owned" || (await this.#refreshFull(pools))) return "owned";
    // Requests with other pools may be claiming what there is.
    const others = [...this.#busy.values()].filter(({ cidr }) => isInPools(cidr, pools)).map(({ end }) => end);
    if (others.length > 0) {
      await Promise.race(others);
      return "owned";
    }
    const { reason, blocks } = found;
    // A limit, and the refusal to claim at all, are the last word; only a full pool lets nodes borrow.
    const mayBorrow = reason.kind === "exhausted" && !settings.strictAffinity;
    if (mayBorrow) this.#elsewhere.adoptLenders(blocks ?? [], pools, (cidr) => this.committer(cidr));
    if (mayBorrow && this.lendersIn(pools).length > 0) return "lenders";
    const survey = await this.#elsewhere.survey(pools, blocks);
    const { nodeName } = this.#tools;
    const own = this.ownIn(pools);
    const cooling = own.reduce((sum, { block }) => sum + (block === undefined ? 0 : coolingCount(block.spec)), 0);
    throw shortageError({ nodeName, pools, owned: own.length, reason, cooling, ...survey });
  }

  /** The same for nobody in particular: takes nothing from anybody, and borrows nothing. */
  async findEarly(pools: readonly EffectiveIPPool[]): Promise<void> {
    if (await this.#loadNext(pools)) return;
    const found = await this.#claimNew(pools, await this.#tools.sources.settings(), false);
    if (found.kind === "owned" || (await this.#refreshFull(pools))) return;
    const { nodeName } = this.#tools;
    throw shortageError({ nodeName, pools, owned: this.ownIn(pools).length, reason: found.reason });
  }

  /** Why no new block could be claimed in these pools, as far as is known; undefined when one could. Claims nothing. */
  async shortageIn(pools: readonly EffectiveIPPool[]): Promise<ShortageReason | undefined> {
    const settings = await this.#tools.sources.settings();
    if (!settings.autoAllocateBlocks) return { kind: "forbidden" };
    const tally = await this.#search(pools, settings, "look");
    if (!("kind" in tally)) return exhausted(tally, settings).reason;
    return tally.kind === "short" ? tally.reason : undefined;
  }

  /**
   * The block that holds an address, ours or not; claimed for this node when nobody has it. Undefined when it changed
   * hands meanwhile: try again. Errors: IPAMError `Overlap`, `BrokenObject`, `Datastore`.
   */
  async holderOf(ip: IP, pool: EffectiveIPPool): Promise<BlockCommitter | undefined> {
    const { sources, store } = this.#tools;
    const known = this.#known(await sources.knownBlocks());
    // A block of another size than the pool's has the address as well as any.
    const cidr = known.overlap(hostCIDR(ip)) ?? blockOf(ip, pool.blockSize);
    const committer = this.committer(cidr);
    if (committer.isOwn && committer.block !== undefined) return committer;
    const busy = this.#busy.get(formatCIDR(cidr));
    if (busy !== undefined) {
      await busy.end;
      return undefined;
    }
    if (await this.#exclusively(cidr, () => loadAffineBlock(this.#tools, cidr))) return committer;
    const block = await store.get("block", blockName(cidr));
    if (block !== undefined) {
      const isMoved = mayMove(block) && (await this.#exclusively(cidr, () => takeOverBlock(this.#tools, block)));
      if (!isMoved) committer.adopt(block);
      return committer;
    }
    const other = known.overlap(cidr);
    if (other !== undefined && formatCIDR(other) !== formatCIDR(cidr)) {
      const what = `Cannot claim block ${formatCIDR(cidr)} of IPPool ${pool.name}: it overlaps block ${formatCIDR(other)}`;
      throw new IPAMError("Overlap", `${what}; ask for another address, or remove the old block`);
    }
    return (await this.#exclusively(cidr, () => claimBlock(this.#tools, cidr))) ? committer : undefined;
  }

  /** The block of one of our affinities, when it was just read and found to be ours. */
  async load(affinity: BlockAffinity, pools: readonly EffectiveIPPool[]): Promise<BlockCommitter | undefined> {
    const cidr = parseCIDR(affinity.spec.cidr);
    if (!isInPools(cidr, pools) || this.committer(cidr).isOwn || this.#isLeftAlone(cidr)) return undefined;
    // Wholly reserved: nothing to be had.
    if (this.#tools.reservations().covers(cidr)) return undefined;
    const isLoaded = await this.#exclusively(cidr, () => loadAffineBlock(this.#tools, cidr, affinity), true);
    return isLoaded ? this.committer(cidr) : undefined;
  }

  /** Reads the affine blocks that were not read yet, until one has room. */
  async #loadNext(pools: readonly EffectiveIPPool[]): Promise<boolean> {
    for (const affinity of await this.#tools.sources.ownAffinities()) {
      const cidr = parseCIDR(affinity.spec.cidr);
      const busy = this.#busy.get(formatCIDR(cidr));
      // Somebody reads it right now, as at an agent's start. To reach for another would claim a block too many.
      const others = busy?.isLoad && isInPools(cidr, pools) ? busy.end.then(() => this.committer(cidr)) : undefined;
      const committer = await (others ?? this.load(affinity, pools));
      if (committer !== undefined && committer.free > 0) return true;
    }
    return false;
  }

  async #claimNew(pools: readonly EffectiveIPPool[], settings: IPAMSettings, isNeeded: boolean): Promise<Found> {
    if (!settings.autoAllocateBlocks) return { kind: "short", reason: { kind: "forbidden" } };
    const hadForeign = this.#foreign.length > 0;
    let tally = await this.#search(pools, settings);
    if ("kind" in tally) return tally;
    if (!isNeeded && !hadForeign) return exhausted(tally, settings);
    // What we found to be somebody else's may have been given up since.
    const blocks = await this.#listBlocks();
    if (hadForeign) tally = await this.#search(pools, settings);
    if ("kind" in tally) return tally;
    if (!isNeeded) return exhausted(tally, settings);
    return (await this.#takeListed(pools, settings, blocks)) ?? { ...exhausted(tally, settings), blocks };
  }

  async #search(
    pools: readonly EffectiveIPPool[],
    settings: IPAMSettings,
    what: "claim" | "look" = "claim",
  ): Promise<Found | SearchTally> {
    const { sources, nodeName, turn } = this.#tools;
    const all = await sources.pools();
    const own = await sources.ownAffinities();
    let known = this.#known(await sources.knownBlocks());
    const tally = { taken: 0, overlapped: 0, reserved: 0 };
    const reservations = this.#tools.reservations();
    const passOver = (candidate: CIDR): CIDR | undefined => {
      const reserved = reservations.widest(candidate);
      if (reserved !== undefined) tally.reserved++;
      return reserved;
    };
    let seen = 0;
    for (const pool of pools) {
      for (const cidr of blockCandidates(pool, nodeName, passOver)) {
        if (++seen % CANDIDATES_A_TURN === 0) await turn();
        const other = known.overlap(cidr);
        const isTaken = other?.prefixLength === cidr.prefixLength || this.#busy.has(formatCIDR(cidr));
        if (isTaken) tally.taken++;
        else if (other !== undefined || coveringPool(cidr, pool, all) !== undefined) tally.overlapped++;
        else if (reservations.covers(cidr)) tally.reserved++;
        else {
          const limit = this.#limit(pools, settings, own);
          if (limit !== undefined) return { kind: "short", reason: limit };
          if (what === "look") return OWNED;
          if (await this.#exclusively(cidr, () => claimBlock(this.#tools, cidr))) return OWNED;
          // Somebody's block that the sources did not know. There may be more, so look once at all that there are.
          tally.taken++;
          await this.#listBlocks();
          this.#foreign = [...this.#foreign, cidr];
          known = this.#known(await sources.knownBlocks());
        }
      }
    }
    return this.#limited(pools, settings, own) ?? tally;
  }

  /** A node at its limit hears of the limit, whether or not there would be a block. */
  #limited(
    pools: readonly EffectiveIPPool[],
    settings: IPAMSettings,
    own: readonly BlockAffinity[],
  ): Found | undefined {
    const reason = this.#limit(pools, settings, own);
    return reason && { kind: "short", reason };
  }

  /** Set when the node has as many blocks as it may, those included that are just being claimed. */
  #limit(
    pools: readonly EffectiveIPPool[],
    { maxBlocksPerHost }: IPAMSettings,
    own: readonly BlockAffinity[],
  ): Limit | undefined {
    const limit = maxBlocksPerHost > 0 ? maxBlocksPerHost : DEFAULT_BLOCK_LIMIT;
    const claimed = own.map(({ spec }) => parseCIDR(spec.cidr));
    const busy = [...this.#busy.values()].map(({ cidr }) => cidr);
    const held = [...claimed, ...busy, ...this.ownIn(pools).map(({ cidr }) => cidr)];
    const owned = new Set(held.filter((cidr) => isInPools(cidr, pools)).map(formatCIDR)).size;
    return owned < limit ? undefined : { kind: "limit", owned, limit, maxBlocksPerHost };
  }

  /** Blocks that are ours without an affinity, and empty ones of others. */
  async #takeListed(
    pools: readonly EffectiveIPPool[],
    settings: IPAMSettings,
    blocks: readonly IPAMBlock[],
  ): Promise<Found | undefined> {
    const { clock, nodeName, sources } = this.#tools;
    const inPools = blocks.filter(
      (block) => isInPools(parseCIDR(block.spec.cidr), pools) && damageOf(block.spec).length === 0,
    );
    for (const { spec } of inPools) {
      const cidr = parseCIDR(spec.cidr);
      if (spec.affinity !== hostAffinity(nodeName) || this.committer(cidr).isOwn || this.#isLeftAlone(cidr)) continue;
      const isLoaded = await this.#exclusively(cidr, () => loadAffineBlock(this.#tools, cidr));
      if (isLoaded && this.committer(cidr).free > 0) return OWNED;
    }
    const own = await sources.ownAffinities();
    for (const block of this.#elsewhere.inOwnOrder(inPools)) {
      const cidr = parseCIDR(block.spec.cidr);
      if (block.spec.affinity === hostAffinity(nodeName) || !mayTakeOver(block, clock.nowMs())) continue;
      if (!pools.some((pool) => pool.blockSize === cidr.prefixLength && cidrCovers(pool.cidr, cidr))) continue;
      if (this.#elsewhere.freeOf(block) === 0) continue;
      const limited = this.#limited(pools, settings, own);
      if (limited !== undefined) return limited;
      if (await this.#exclusively(cidr, () => takeOverBlock(this.#tools, block))) return OWNED;
    }
    return undefined;
  }

  #known(blocks: readonly CIDR[]): KnownBlocks {
    const known = new KnownBlocks(blocks);
    for (const cidr of this.#foreign) known.add(cidr);
    for (const { cidr, isOwn } of this.#committers.values()) if (isOwn) known.add(cidr);
    return known;
  }

  async #listBlocks(): Promise<readonly IPAMBlock[]> {
    const blocks = await this.#tools.store.list("block");
    this.#foreign = blocks.filter(({ spec }) => !spec.deleted).map((block) => parseCIDR(block.spec.cidr));
    return blocks;
  }

  /** Full by what we saw last; a collector may have given addresses back since. */
  async #refreshFull(pools: readonly EffectiveIPPool[]): Promise<boolean> {
    const full = this.ownIn(pools).filter((committer) => committer.free <= 0);
    for (const committer of full) {
      try {
        await committer.refresh();
      } catch (error) {
        this.#noteIfBroken(committer.cidr, error);
        committer.adopt(undefined);
      }
    }
    return full.some((committer) => committer.free > 0);
  }

  #isLeftAlone(cidr: CIDR): boolean {
    return (this.#broken.get(formatCIDR(cidr))?.untilMs ?? 0) > this.#tools.clock.nowMs();
  }

  /** One damaged object must not keep the node from its other blocks. */
  #noteIfBroken(cidr: CIDR, error: unknown): void {
    if (!(error instanceof IPAMError) || error.code !== "BrokenObject") throw error;
    this.noteBroken(cidr, error);
  }

  /**
   * True when the block is this node's now. A block that another claim is busy with counts as not.
   *
   * @param isLoad it is believed to be ours
   */
  async #exclusively(cidr: CIDR, fn: () => ReturnType<typeof claimBlock>, isLoad: boolean = false): Promise<boolean> {
    const key = formatCIDR(cidr);
    if (this.#busy.has(key)) return false;
    const { promise: end, resolve } = Promise.withResolvers<void>();
    this.#busy.set(key, { cidr, end, isLoad });
    try {
      const block = await fn();
      if (block === undefined) return false;
      const committer = this.committer(cidr);
      committer.adopt(block);
      this.#tools.onOwned(committer);
      return true;
    } catch (error) {
      this.#noteIfBroken(cidr, error);
      return false;
    } finally {
      this.#busy.delete(key);
      resolve();
    }
  }
}

function exhausted(tally: SearchTally, { strictAffinity }: IPAMSettings): Extract<Found, { kind: "short" }> {
  return { kind: "short", reason: { kind: "exhausted", tally, strictAffinity } };
}
