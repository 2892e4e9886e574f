// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { EffectiveIPPool } from "../crds/ip-pool.ts";
import { blockOf, type CIDR, cidrCovers, cidrFamily, cidrSize, formatCIDR, parseCIDR } from "../net/cidr.ts";
import type { Family } from "../net/ip.ts";
import { type ClaimTools, claimBlock, loadAffineBlock } from "./allocator-claims.ts";
import { blockCandidates, coveringPool, KnownBlocks } from "./candidates.ts";
import { IPAMError } from "./errors.ts";
import { BlockCommitter, type CommitTools } from "./group-commit.ts";
import { type PoolFinding, selectorsInUse, selectPools } from "./pools.ts";
import type { IPAMSources } from "./ports.ts";
import type { PoolNames } from "./types.ts";

export interface SupplyTools extends CommitTools, ClaimTools {
  readonly sources: IPAMSources;
  /** Claim the next block before the last one is full. Off where the process ends with its request. */
  readonly hasPrefetch: boolean;
  /** Called for each block that has become this node's, or was read and found to be. */
  readonly onOwned: (committer: BlockCommitter) => void;
  /** A failure that nobody waits for. */
  readonly onBackgroundError: (error: unknown) => void;
}

/** Out of which blocks a request may be served. */
export interface BlockNeed {
  readonly family: Family;
  readonly pools?: PoolNames;
  readonly namespace?: string;
}

/** Claims for one kind of need at once. */
const PARALLEL_CLAIMS = 4;
/** The next block is claimed when less than this part of a block is free. */
const PREFETCH_PART = 1 / 4;
const PREFETCH_PAUSE_MS = 10_000;
/** Far more blocks than a node has pods for; with still more, a read in the middle of an ADD does no harm. */
const MAX_LOADED_EARLY = 64;

/** The requests of one need that wait for a block, and what is being done about it. */
interface Growth {
  waiting: number;
  running: number;
  /** Settles when a claim ends, either way. */
  progress: PromiseWithResolvers<void>;
  /** No claim in advance before this time, after one has failed. Units: Unix milliseconds. */
  prefetchAfterMs: number;
}

/**
 * The blocks that this process writes, and where an address may come from next: affine blocks with room first, in the
 * order of their CIDRs, then affine blocks not yet read, then new ones.
 *
 * (Limits on blocks of a host go before `#claimNew`; borrowing comes after its `NoAddress`.)
 */
export class BlockSupply {
  readonly #tools: SupplyTools;
  readonly #committers = new Map<string, BlockCommitter>();
  readonly #growths = new Map<string, Growth>();
  /** Blocks being read or claimed right now, so that parallel claims reach for different ones. */
  readonly #busy = new Map<string, { readonly cidr: CIDR; readonly end: Promise<void> }>();
  /** Blocks found to be somebody else's, which the sources may not know yet. */
  #foreign: readonly CIDR[] = [];
  /** Findings about pools that were told already. */
  readonly #reported = new Set<string>();

  constructor(tools: SupplyTools) {
    this.#tools = tools;
  }

  /** The one committer of a block, ours or not. */
  committer(cidr: CIDR): BlockCommitter {
    const key = formatCIDR(cidr);
    const found = this.#committers.get(key) ?? new BlockCommitter(this.#tools, cidr);
    this.#committers.set(key, found);
    return found;
  }

  committers(): Iterable<BlockCommitter> {
    return this.#committers.values();
  }

  /**
   * A block with a free address reserved for the caller. Rejects with the signal's reason, or IPAMError `NoAddress`,
   * `PoolNotFound`, `Overlap`, `Datastore`.
   */
  async take(need: BlockNeed, signal?: AbortSignal): Promise<BlockCommitter> {
    for (;;) {
      signal?.throwIfAborted();
      const pools = await this.#pools(need);
      const committer = this.#reserveIn(pools);
      if (committer !== undefined) {
        this.#prefetch(pools);
        return committer;
      }
      const growth = this.#growth(pools);
      try {
        await this.#grow(pools, growth, signal);
      } catch (error) {
        // Another claim may have brought a block meanwhile, or still may.
        signal?.throwIfAborted();
        const late = this.#reserveIn(pools);
        if (late !== undefined) return late;
        if (growth.running === 0) throw error;
      }
    }
  }

  /** Reads the node's blocks that were not read yet, up to a bound, so that a burst reads none. */
  async loadOwned(family: Family): Promise<void> {
    const pools = await this.#pools({ family });
    for (const affinity of (await this.#tools.sources.ownAffinities()).slice(0, MAX_LOADED_EARLY))
      await this.#load(affinity, pools);
  }

  async #pools(need: BlockNeed): Promise<readonly EffectiveIPPool[]> {
    const { sources, nodeName } = this.#tools;
    const { family, namespace } = need;
    const pools = sources.pools();
    const all = pools instanceof Promise ? await pools : pools;
    const names = need.pools?.[family] ?? [];
    // Labels are asked for only where a selector asks: nearly everywhere all pools are for all.
    const inUse = names.length === 0 && selectorsInUse(all);
    const nodeLabels = inUse && inUse.nodeSelector ? await sources.nodeLabels() : {};
    const hasNamespace = inUse && inUse.namespaceSelector && namespace !== undefined;
    const namespaceLabels = hasNamespace ? await sources.namespaceLabels(namespace) : {};
    const choice = selectPools(all, {
      family,
      names,
      nodeName,
      ...(nodeLabels && { nodeLabels }),
      ...(namespace !== undefined && { namespace }),
      ...(namespaceLabels && { namespaceLabels }),
    });
    for (const finding of choice.findings) this.#report(finding);
    return choice.pools;
  }

  /** Once for each text that cannot be read. */
  #report({ pool, field, error }: PoolFinding): void {
    const what = `IPPool ${pool} is not used: its ${field} cannot be read`;
    if (this.#reported.has(`${what} ${error.message}`)) return;
    this.#reported.add(`${what} ${error.message}`);
    const cause = { cause: error };
    this.#tools.onBackgroundError(
      new IPAMError("InvalidSelector", `${what}; correct it (kubectl edit ippool ${pool})`, cause),
    );
  }

  #inPools(pools: readonly EffectiveIPPool[]): BlockCommitter[] {
    const own = [...this.#committers.values()].filter(({ isOwn, cidr }) => isOwn && isInPools(cidr, pools));
    return own.sort((a, b) => (a.cidr.network < b.cidr.network ? -1 : 1));
  }

  #reserveIn(pools: readonly EffectiveIPPool[]): BlockCommitter | undefined {
    return this.#inPools(pools).find((committer) => committer.reserve());
  }

  /** One for each choice of pools: what one request waits for helps every other with the same choice. */
  #growth(pools: readonly EffectiveIPPool[]): Growth {
    const key = pools.map((pool) => pool.name).join(" ");
    const growth = this.#growths.get(key) ?? { waiting: 0, running: 0, progress: newProgress(), prefetchAfterMs: 0 };
    this.#growths.set(key, growth);
    return growth;
  }

  async #grow(pools: readonly EffectiveIPPool[], growth: Growth, signal?: AbortSignal): Promise<void> {
    growth.waiting++;
    try {
      const size = blockAddresses(pools);
      const wanted = Math.min(PARALLEL_CLAIMS, Math.ceil(growth.waiting / size));
      while (growth.running < wanted) this.#start(pools, growth);
      await untilAborted(growth.progress.promise, signal);
    } finally {
      growth.waiting--;
    }
  }

  #start(pools: readonly EffectiveIPPool[], growth: Growth): void {
    growth.running++;
    const end = (error?: unknown): void => {
      growth.running--;
      const { progress } = growth;
      growth.progress = newProgress();
      if (error === undefined) progress.resolve();
      else progress.reject(error);
    };
    this.#claim(pools).then(() => end(), end);
  }

  #prefetch(pools: readonly EffectiveIPPool[]): void {
    const growth = this.#growth(pools);
    if (!this.#tools.hasPrefetch || growth.running > 0 || this.#tools.clock.nowMs() < growth.prefetchAfterMs) return;
    const free = this.#inPools(pools).reduce((sum, committer) => sum + committer.free, 0);
    if (free >= Math.ceil(blockAddresses(pools) * PREFETCH_PART)) return;
    this.#start(pools, growth);
    growth.progress.promise.catch((error: unknown) => {
      growth.prefetchAfterMs = this.#tools.clock.nowMs() + PREFETCH_PAUSE_MS;
      // An exhausted pool is told to whoever needs an address; being unable to get one early is no news.
      if (!(error instanceof IPAMError && error.code === "NoAddress")) this.#tools.onBackgroundError(error);
    });
  }

  /** One more block with room in these pools. */
  async #claim(pools: readonly EffectiveIPPool[]): Promise<void> {
    if (await this.#loadNext(pools)) return;
    const { sources, nodeName } = this.#tools;
    const mayClaim = (await sources.settings()).autoAllocateBlocks;
    const search = mayClaim ? await this.#claimNew(pools) : "forbidden";
    if (search === "claimed" || (await this.#refreshFull(pools))) return;
    // Requests with other pools may be claiming what there is.
    const others = [...this.#busy.values()].filter(({ cidr }) => isInPools(cidr, pools)).map(({ end }) => end);
    if (others.length > 0) return await Promise.race(others);
    throw exhaustedError({ nodeName, pools, ownCount: this.#inPools(pools).length, search });
  }

  /** Reads the affine blocks that were not read yet, until one has room. */
  async #loadNext(pools: readonly EffectiveIPPool[]): Promise<boolean> {
    for (const affinity of await this.#tools.sources.ownAffinities()) {
      const committer = await this.#load(affinity, pools);
      if (committer !== undefined && committer.free > 0) return true;
    }
    return false;
  }

  /** The block of one of our affinities, when it was just read and found to be ours. */
  async #load(affinity: BlockAffinity, pools: readonly EffectiveIPPool[]): Promise<BlockCommitter | undefined> {
    const cidr = parseCIDR(affinity.spec.cidr);
    if (!isInPools(cidr, pools) || this.committer(cidr).isOwn) return undefined;
    const isLoaded = await this.#exclusively(cidr, () => loadAffineBlock(this.#tools, cidr, affinity));
    return isLoaded ? this.committer(cidr) : undefined;
  }

  async #claimNew(pools: readonly EffectiveIPPool[]): Promise<"claimed" | SearchTally> {
    const first = await this.#search(pools);
    if (first === "claimed" || this.#foreign.length === 0) return first;
    // What we found to be somebody else's may have been given up since.
    this.#foreign = await this.#listBlocks();
    return await this.#search(pools);
  }

  async #search(pools: readonly EffectiveIPPool[]): Promise<"claimed" | SearchTally> {
    const { sources, nodeName } = this.#tools;
    const all = await sources.pools();
    let known = this.#known(await sources.knownBlocks());
    const tally = { taken: 0, overlapped: 0 };
    for (const pool of pools) {
      for (const cidr of blockCandidates(pool, nodeName)) {
        const other = known.overlap(cidr);
        const isTaken = other?.prefixLength === cidr.prefixLength || this.#busy.has(formatCIDR(cidr));
        if (isTaken) tally.taken++;
        else if (other !== undefined || coveringPool(cidr, pool, all) !== undefined) tally.overlapped++;
        else if (await this.#exclusively(cidr, () => claimBlock(this.#tools, cidr))) return "claimed";
        else {
          // Somebody's block that the sources did not know. There may be more, so look once at all that there are.
          tally.taken++;
          this.#foreign = [...(await this.#listBlocks()), cidr];
          known = this.#known(await sources.knownBlocks());
        }
      }
    }
    return tally;
  }

  #known(blocks: readonly CIDR[]): KnownBlocks {
    const known = new KnownBlocks(blocks);
    for (const cidr of this.#foreign) known.add(cidr);
    for (const { cidr, isOwn } of this.#committers.values()) if (isOwn) known.add(cidr);
    return known;
  }

  async #listBlocks(): Promise<readonly CIDR[]> {
    return (await this.#tools.store.list("block")).map((block) => parseCIDR(block.spec.cidr));
  }

  /** Full by what we saw last; a collector may have given addresses back since. */
  async #refreshFull(pools: readonly EffectiveIPPool[]): Promise<boolean> {
    const full = this.#inPools(pools).filter((committer) => committer.free <= 0);
    for (const committer of full) await committer.refresh();
    return full.some((committer) => committer.free > 0);
  }

  /** True when the block is this node's now. A block that another claim is busy with counts as not. */
  async #exclusively(cidr: CIDR, fn: () => ReturnType<typeof claimBlock>): Promise<boolean> {
    const key = formatCIDR(cidr);
    if (this.#busy.has(key)) return false;
    const { promise: end, resolve } = Promise.withResolvers<void>();
    this.#busy.set(key, { cidr, end });
    try {
      const block = await fn();
      if (block === undefined) return false;
      const committer = this.committer(cidr);
      committer.adopt(block);
      this.#tools.onOwned(committer);
      return true;
    } catch (error) {
      // One damaged object must not keep the node from its other blocks.
      if (!(error instanceof IPAMError) || error.code !== "BrokenObject") throw error;
      this.#tools.onBackgroundError(error);
      return false;
    } finally {
      this.#busy.delete(key);
      resolve();
    }
  }
}

function isInPools(cidr: CIDR, pools: readonly EffectiveIPPool[]): boolean {
  return pools.some((pool) => cidrFamily(cidr) === pool.family && cidrCovers(pool.cidr, cidr));
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
async function untilAborted(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return await promise;
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** What became of the blocks that were looked at, when none could be claimed. */
interface SearchTally {
  readonly taken: number;
  /** Neither free nor taken as a whole: a block of another size or another pool has some of their addresses. */
  readonly overlapped: number;
}

function exhaustedError(state: {
  readonly nodeName: string;
  readonly pools: readonly EffectiveIPPool[];
  readonly ownCount: number;
  readonly search: SearchTally | "forbidden";
}): IPAMError {
  const { search } = state;
  const names = state.pools.map((pool) => `${pool.name} (${formatCIDR(pool.cidr)})`).join(", ");
  const has = `No free address in ${names}: node ${state.nodeName} owns ${state.ownCount} of its blocks, all full`;
  if (search === "forbidden") {
    const step = "set autoAllocateBlocks of IPAMConfig default to true, or claim a block for the node";
    return new IPAMError("NoAddress", `${has}, and IPAMConfig forbids to claim more; ${step}`);
  }
  if (search.overlapped > 0) {
    const what = `${has}, ${search.taken} blocks are taken and ${search.overlapped} overlap blocks or pools of another size`;
    return new IPAMError("Overlap", `${what}; remove the IPPool or the old blocks that lie across these addresses`);
  }
  const step = "add an IPPool, or free addresses (kubectl get ipamblocks shows who has them)";
  return new IPAMError("NoAddress", `${has}, and all ${search.taken} blocks are taken; ${step}`);
}
