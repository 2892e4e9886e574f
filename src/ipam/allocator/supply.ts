// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { AllowedUse, EffectiveIPPool } from "../../crds/ip-pool.ts";
import { blockOf, type CIDR, cidrSize, formatCIDR, ordinalOf } from "../../net/cidr.ts";
import { type Family, formatIP, type IP } from "../../net/ip.ts";
import { hostAffinity } from "../affinity.ts";
import { IPAMError, seeAddress } from "../errors.ts";
import { heldAddresses } from "../gc/addresses.ts";
import { poolOfAddress } from "../pools.ts";
import type { Reservations } from "../ports.ts";
import { NO_RESERVATIONS } from "../reservations.ts";
import { BlockTable } from "./block-table.ts";
import { BlockFinder, type FinderTools } from "./finder.ts";
import type { BlockCommitter } from "./group-commit.ts";
import { NamedBlocks } from "./named-blocks.ts";
import { type BlockNeed, PoolChoice } from "./pool-choice.ts";
import { Rehearsal } from "./rehearsal.ts";

export interface SupplyTools extends FinderTools {
  /** Claim the next block before the last one is full. Off where the process ends with its request. */
  readonly hasPrefetch: boolean;
}

/** Places that are kept in a block for an assignment, which must submit or unreserve them. */
export interface Grant {
  readonly committer: BlockCommitter;
  readonly count: number;
  /** The owner that the block must have; absent when this node borrows from it. */
  readonly affinity?: string;
  /** The address was asked for by name, and is of the pool with this name. */
  readonly ordinal?: number;
  readonly pool?: string;
  /** Nothing else is free: the address may be one that was released a moment ago. */
  readonly mayCool?: boolean;
}

/** Claims for one kind of need at once. */
const PARALLEL_CLAIMS = 4;
/** The next block is claimed when less than this part of a block is free. */
const PREFETCH_PART = 1 / 4;
const PREFETCH_PAUSE_MS = 10_000;
/** How long a node borrows from the blocks that it has found, before it looks again whether it can have one of its own. */
const LEND_MS = 5_000;
/** Far more blocks than a node has pods for; with still more, a read in the middle of an ADD does no harm. */
const MAX_LOADED_EARLY = 64;
/** Rounds for an address that is asked for by name, in which its block may change hands. */
const MAX_NAMED_ROUNDS = 10;

/** The requests of one need that wait for a block, and what is being done about it. */
interface Growth {
  /** Addresses that are waited for. */
  waiting: number;
  /** Under way. */
  readonly claims: Set<Promise<void>>;
  /** Settles when a claim ends, either way. A claim in advance that fails resolves: nobody has asked for it. */
  progress: PromiseWithResolvers<void>;
  /** No claim in advance before this time, after one has failed. Units: Unix milliseconds. */
  prefetchAfterMs: number;
  /** Until then addresses are borrowed from known blocks of other nodes. Units: Unix milliseconds. */
  lendUntilMs: number;
}

/**
 * The blocks that this process writes, and where an address may come from next: affine blocks with room first, in the
 * order of their CIDRs, then affine blocks not yet read, then new ones, then empty ones of other nodes, and at last
 * addresses borrowed out of other nodes' blocks. See `BlockFinder` for all but the first.
 */
export class BlockSupply {
  readonly #tools: SupplyTools;
  readonly #growths = new Map<string, Growth>();
  readonly #table: BlockTable;
  readonly #finder: BlockFinder;
  readonly #named: NamedBlocks;
  readonly #rehearsal: Rehearsal;
  readonly #choice: PoolChoice;
  #reservations: Reservations = NO_RESERVATIONS;

  constructor(tools: SupplyTools) {
    this.#tools = tools;
    this.#table = new BlockTable(tools);
    this.#finder = new BlockFinder(tools, this.#table);
    this.#named = new NamedBlocks(tools, this.#table, this.#finder.search);
    this.#rehearsal = new Rehearsal(tools, this.#table, this.#finder);
    this.#choice = new PoolChoice(tools);
  }

  /** What automatic assignment leaves alone, as last read. */
  get reservations(): Reservations {
    return this.#reservations;
  }

  /** The one committer of a block, ours or not. */
  committer(cidr: CIDR): BlockCommitter {
    return this.#table.committer(cidr);
  }

  committers(): Iterable<BlockCommitter> {
    return this.#table.committers();
  }

  /** See `ClaimTools`. */
  async rivalOf(cidr: CIDR, claim: BlockAffinity): Promise<CIDR | undefined> {
    return await this.#finder.search.rivalOf(cidr, claim);
  }

  /** To be called when a block turned out to be damaged. */
  noteBroken(cidr: CIDR, error: IPAMError): void {
    this.#table.noteBroken(cidr, error);
  }

  /**
   * A block with free addresses reserved for the caller: at least one, at most `count`. Rejects with the signal's reason,
   * or IPAMError `NoAddress`, `BlockLimit`, `PoolNotFound`, `Overlap`, `Datastore`.
   */
  async take(need: BlockNeed, count: number, signal?: AbortSignal): Promise<Grant> {
    for (;;) {
      signal?.throwIfAborted();
      const pools = await this.#pools(need);
      const growth = this.#growth(pools);
      const own = this.#reserveIn(pools, count);
      if (own !== undefined) {
        this.#prefetch(pools, growth);
        return own;
      }
      if (this.#tools.clock.nowMs() < growth.lendUntilMs) {
        const borrowed = await this.#borrowIn(pools, count);
        if (borrowed !== undefined) return borrowed;
        growth.lendUntilMs = 0;
        continue;
      }
      try {
        await this.#grow(pools, growth, count, signal);
      } catch (error) {
        // Other claims that are under way may still bring a block. Only these are waited for: new ones would fail, too.
        const others = await untilAborted(Promise.allSettled(growth.claims), signal);
        const late = this.#reserveIn(pools, count);
        if (late !== undefined) return late;
        if (others.every(({ status }) => status === "rejected")) throw error;
      }
    }
  }

  /**
   * The block of an address that is asked for by name, claimed if nobody has it, whatever the block limit.
   *
   * Errors: the signal's reason, or IPAMError `PoolNotFound`, `AddressTaken`, `Overlap`, `Contention`, `Datastore`.
   * Source: calico-interop 2.5.
   */
  async takeNamed(ip: IP, use: AllowedUse | undefined, signal?: AbortSignal): Promise<Grant> {
    const { sources, nodeName } = this.#tools;
    const pool = poolOfAddress(await sources.pools(), ip, use);
    for (let round = 0; round < MAX_NAMED_ROUNDS; round++) {
      signal?.throwIfAborted();
      const committer = await this.#named.holderOf(ip, pool);
      if (committer === undefined) continue;
      const owner = committer.block?.spec.affinity;
      const { strictAffinity } = await sources.settings();
      if (!committer.isOwn && strictAffinity) {
        const where = `in block ${formatCIDR(committer.cidr)} of ${owner ?? "nobody"}`;
        const what = `Address ${formatIP(ip)} of IPPool ${pool.name} is ${where}`;
        const why = `and strictAffinity of IPAMConfig default keeps node ${nodeName} from borrowing it`;
        // A block of one address would come along if that were free. From a larger one there is nothing to be had.
        const [holder] = cidrSize(committer.cidr) === 1 && committer.block ? heldAddresses(committer.block.spec) : [];
        const step = `ask for another address, or set it to false, ${seeAddress(ip)}`;
        throw new IPAMError("AddressTaken", `${what}, ${why}; ${step}`, { ...(holder && { holder }) });
      }
      committer.reserveNamed();
      const grant = { committer, count: 1, ordinal: ordinalOf(committer.cidr, ip), pool: pool.name };
      return committer.isOwn ? { ...grant, affinity: hostAffinity(nodeName) } : grant;
    }
    const what = `Cannot get hold of the block of address ${formatIP(ip)}: it changed hands ${MAX_NAMED_ROUNDS} times`;
    throw new IPAMError("Contention", `${what}; try again`);
  }

  /** Rejects with what `take` would reject with, as far as is known. Takes nothing. */
  async rehearse(need: BlockNeed): Promise<void> {
    await this.#rehearsal.run(await this.#pools(need));
  }

  /** Reads the node's blocks that were not read yet, up to a bound, and what claims depend on, so that a burst reads none. */
  async loadOwned(family: Family): Promise<void> {
    const pools = await this.#pools({ family });
    for (const affinity of (await this.#tools.sources.ownAffinities()).slice(0, MAX_LOADED_EARLY))
      await this.#finder.load(affinity, pools);
    await this.#finder.search.taken();
  }

  async #pools(need: BlockNeed): Promise<readonly EffectiveIPPool[]> {
    const reservations = this.#tools.sources.reservations();
    this.#reservations = reservations instanceof Promise ? await reservations : reservations;
    return await this.#choice.of(need);
  }

  #reserveIn(pools: readonly EffectiveIPPool[], count: number): Grant | undefined {
    const grant = reserveIn(this.#table.ownIn(pools), count);
    return grant && { ...grant, affinity: hostAffinity(this.#tools.nodeName) };
  }

  /** Others fill these blocks, too, so each is looked at before it is counted on. */
  async #borrowIn(pools: readonly EffectiveIPPool[], count: number): Promise<Grant | undefined> {
    for (const lender of this.#table.lendersIn(pools)) {
      const grant = (await this.#table.canLend(lender)) ? reserveIn([lender], count) : undefined;
      if (grant !== undefined) return grant;
    }
    return undefined;
  }

  /** One for each choice of pools: what one request waits for helps every other with the same choice. */
  #growth(pools: readonly EffectiveIPPool[]): Growth {
    const key = pools.map((pool) => pool.name).join(" ");
    const idle = {
      waiting: 0,
      claims: new Set<Promise<void>>(),
      progress: newProgress(),
      prefetchAfterMs: 0,
      lendUntilMs: 0,
    };
    const growth = this.#growths.get(key) ?? idle;
    this.#growths.set(key, growth);
    return growth;
  }

  async #grow(
    pools: readonly EffectiveIPPool[],
    growth: Growth,
    count: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    growth.waiting += count;
    try {
      const wanted = Math.min(PARALLEL_CLAIMS, Math.ceil(growth.waiting / blockAddresses(pools)));
      while (growth.claims.size < wanted) this.#start(pools, growth);
      await untilAborted(growth.progress.promise, signal);
    } finally {
      growth.waiting -= count;
    }
  }

  #start(pools: readonly EffectiveIPPool[], growth: Growth): void {
    const claim = async (): Promise<void> => {
      const found = await this.#finder.find(pools);
      if (found === "lender") growth.lendUntilMs = this.#tools.clock.nowMs() + LEND_MS;
    };
    track(growth, claim());
  }

  #prefetch(pools: readonly EffectiveIPPool[], growth: Growth): void {
    const { hasPrefetch, clock, onBackgroundError } = this.#tools;
    if (!hasPrefetch || growth.claims.size > 0 || clock.nowMs() < growth.prefetchAfterMs) return;
    const free = this.#table.ownIn(pools).reduce((sum, committer) => sum + committer.free, 0);
    if (free >= Math.ceil(blockAddresses(pools) * PREFETCH_PART)) return;
    const claim = this.#finder.findEarly(pools).catch((error: unknown) => {
      growth.prefetchAfterMs = clock.nowMs() + PREFETCH_PAUSE_MS;
      // A shortage is told to whoever needs an address; being unable to get one early is no news.
      const isShortage = error instanceof IPAMError && ["NoAddress", "BlockLimit"].includes(error.code);
      if (!isShortage) onBackgroundError(error);
    });
    track(growth, claim);
  }
}

/**
 * Keeps places in the first block with an address that has rested; when no block has one, in the block with the address
 * that was released first. To cool down is a wish, and no reason to claim another block: how many blocks a node owns
 * depends on how many pods it has at a time, never on how fast they come and go.
 */
function reserveIn(committers: readonly BlockCommitter[], count: number): Grant | undefined {
  let coolest: BlockCommitter | undefined;
  for (const committer of committers) {
    const { rested } = committer;
    if (rested > 0) return { committer, count: committer.reserve(Math.min(count, rested)) };
    const isCooler = coolest === undefined || committer.coolingSinceMs < coolest.coolingSinceMs;
    if (committer.room > 0 && isCooler) coolest = committer;
  }
  return coolest && { committer: coolest, count: coolest.reserve(count), mayCool: true };
}

/** Counts a claim as long as it is under way, and tells those who wait when it ends. */
function track(growth: Growth, claim: Promise<void>): void {
  growth.claims.add(claim);
  const end = (): PromiseWithResolvers<void> => {
    growth.claims.delete(claim);
    const { progress } = growth;
    growth.progress = newProgress();
    return progress;
  };
  claim.then(
    () => end().resolve(),
    (error: unknown) => end().reject(error),
  );
}

/** Addresses of a block of the pool that the next one is likely to come from. */
function blockAddresses(pools: readonly EffectiveIPPool[]): number {
  const [pool] = pools;
  return pool === undefined ? 1 : cidrSize(blockOf(pool.cidr.network, pool.blockSize));
}

function newProgress(): PromiseWithResolvers<void> {
  const progress = Promise.withResolvers<void>();
  // Whoever waits sees the rejection; when nobody does, it must not end the process.
  progress.promise.catch(() => {});
  return progress;
}

/** Waits for the promise, or rejects with the signal's reason when that comes first. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise;
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
