// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import type { AddressManager } from "../cni/ports.ts";
import type { IPAMBlockStatus } from "../crds/ipam-block.ts";
import type { Clock } from "../lib/clock.ts";
import { type CIDR, cidrFamily, formatCIDR, ipAt, ordinalOf, parseCIDR } from "../net/cidr.ts";
import type { Family } from "../net/ip.ts";
import { hostAffinity } from "./affinity.ts";
import { loadAffineBlock } from "./allocator-claims.ts";
import { HandleWriter } from "./allocator-handles.ts";
import { BlockStatusWriter } from "./allocator-status.ts";
import { BlockSupply, type SupplyTools } from "./allocator-supply.ts";
import type { ReleaseOp } from "./batch.ts";
import { ordinalsOfHandle } from "./block.ts";
import { IPAMError } from "./errors.ts";
import type { BlockCommitter } from "./group-commit.ts";
import { addToBlocks, type HandleBlocks, settleBlocks } from "./handle.ts";
import { checkHandleID } from "./handle-id.ts";
import type { IPAMSources, IPAMStore } from "./ports.ts";
import type { Allocation, AssignRequest } from "./types.ts";

export interface AllocatorOptions {
  readonly store: IPAMStore;
  readonly sources: IPAMSources;
  readonly clock: Clock;
  /** From 0 (included) to 1; spreads retries. */
  readonly random: () => number;
  readonly nodeName: string;
  /**
   * The process lives on: claim blocks before they are needed and fill block statuses. Off where it ends with its request.
   */
  readonly isResident?: boolean;
  /** Failures of background work: claims in advance and statuses. */
  readonly onBackgroundError?: (error: unknown) => void;
}

export interface Allocator extends AddressManager {
  /** Reads this node's blocks, or claims the first, for the families that have pools; then an ADD needs no read. */
  warmUp(families: readonly Family[]): Promise<void>;
  /** Statuses of blocks as last seen, for metrics and reports. */
  blockStatuses(): ReadonlyMap<string, IPAMBlockStatus>;
  /** Ends background work. */
  close(): void;
}

/** Assigns and releases a node's addresses. The agent and the standalone plugin both run this. */
export function createAllocator(options: AllocatorOptions): Allocator {
  return new NodeAllocator(options);
}

const MAX_MOVES = 100;

class NodeAllocator implements Allocator {
  readonly #sources: IPAMSources;
  readonly #nodeName: string;
  readonly #handles: HandleWriter;
  readonly #supply: BlockSupply;
  readonly #statuses: BlockStatusWriter;

  constructor(options: AllocatorOptions) {
    const { store, clock, random, nodeName, sources } = options;
    const onBackgroundError = options.onBackgroundError ?? ((): void => {});
    const isResident = options.isResident ?? false;
    const tools: SupplyTools = {
      store,
      clock,
      random,
      nodeName,
      sources,
      loadOwn: (cidr) => loadAffineBlock(tools, cidr),
      turn: () => turn(),
      hasPrefetch: isResident,
      onOwned: (committer) => this.#statuses.touch(committer),
      onBackgroundError,
    };
    this.#sources = sources;
    this.#nodeName = nodeName;
    this.#handles = new HandleWriter(store, tools);
    this.#supply = new BlockSupply(tools);
    this.#statuses = new BlockStatusWriter({ store, clock, nodeName, isEnabled: isResident, onBackgroundError });
  }

  async assign(request: AssignRequest, signal?: AbortSignal): Promise<readonly Allocation[]> {
    checkHandleID(request.handleID);
    await this.#refuseWhileLocked("assign an address");
    return await this.#handles.withLock(request.handleID, async () => {
      signal?.throwIfAborted();
      const attempt = new Assignment(this.#supply, this.#handles, request, this.#nodeName, signal);
      const allocations = await attempt.run();
      for (const { block } of allocations) this.#statuses.touch(this.#supply.committer(block));
      return allocations;
    });
  }

  async release(allocations: readonly Allocation[], signal?: AbortSignal): Promise<void> {
    await this.#refuseWhileLocked("release an address");
    signal?.throwIfAborted();
    const byHandle = Map.groupBy(allocations, (allocation) => allocation.handleID);
    await allOf(
      [...byHandle].map(([handleID, held]) =>
        this.#handles.withLock(handleID, async () => {
          const counts = await this.#handles.blocksOf(handleID);
          const byBlock = Map.groupBy(held, (allocation) => formatCIDR(allocation.block));
          await this.#releaseFrom(
            handleID,
            [...byBlock].map(([key, inBlock]) => {
              const block = parseCIDR(key);
              const ordinals = inBlock.map((a) => ({
                ordinal: ordinalOf(block, a.ip),
                sequenceNumber: a.sequenceNumber,
              }));
              return { block, which: { ordinals } };
            }),
            counts,
          );
        }),
      ),
    );
  }

  async releaseByHandle(handleID: string, signal?: AbortSignal): Promise<void> {
    checkHandleID(handleID);
    await this.#refuseWhileLocked("release a handle");
    await this.#handles.withLock(handleID, async () => {
      signal?.throwIfAborted();
      const counts = await this.#handles.blocksOf(handleID);
      const keys = new Set(Object.keys(counts));
      // The blocks are the truth: one of ours that says so counts even when the handle is gone.
      for (const { cidr, block } of this.#supply.committers())
        if (block && ordinalsOfHandle(block.spec, handleID).length > 0) keys.add(formatCIDR(cidr));
      const which = { node: this.#nodeName };
      await this.#releaseFrom(
        handleID,
        [...keys].map((key) => ({ block: parseCIDR(key), which })),
        counts,
      );
    });
  }

  async warmUp(families: readonly Family[]): Promise<void> {
    await allOf(
      families.map(async (family) => {
        try {
          (await this.#supply.take({ family })).unreserve();
        } catch (error) {
          // Without a pool, or with a full one, there is nothing to warm; who needs an address will be told.
          if (!(error instanceof IPAMError) || error.code === "Datastore") throw error;
        }
      }),
    );
  }

  blockStatuses(): ReadonlyMap<string, IPAMBlockStatus> {
    return this.#statuses.current(this.#supply.committers());
  }

  close(): void {
    this.#statuses.close();
  }

  /** The blocks first, then the handle, whose counts become just what the blocks say. */
  async #releaseFrom(
    handleID: string,
    parts: readonly { readonly block: CIDR; readonly which: ReleaseOp["which"] }[],
    counts: HandleBlocks,
  ): Promise<void> {
    const actual = new Map<string, number>();
    try {
      await allOf(
        parts.map(async ({ block, which }) => {
          const committer = this.#supply.committer(block);
          const counted = counts[formatCIDR(block)] ?? 0;
          const result = await committer.submit({ kind: "release", handleID, counted, which });
          if (result.kind === "released") actual.set(formatCIDR(block), result.remaining);
          this.#statuses.touch(committer);
        }),
      );
    } finally {
      // Nobody else counts up this handle: calls of one attachment come one at a time, and its handle is its own.
      if (actual.size > 0) await this.#handles.change(handleID, (blocks) => settleBlocks(blocks, actual));
    }
  }

  async #refuseWhileLocked(what: string): Promise<void> {
    if ((await this.#sources.settings()).datastoreReady) return;
    const why = "ClusterInformation default has datastoreReady false: somebody migrates the datastore";
    throw new IPAMError("NotReady", `Cannot ${what} on node ${this.#nodeName}: ${why}; try again when it is unlocked`);
  }
}

/** One ADD: every family or none. Handle first, then the blocks; undone in the other order. */
class Assignment {
  readonly #supply: BlockSupply;
  readonly #handles: HandleWriter;
  readonly #request: AssignRequest;
  readonly #nodeName: string;
  readonly #signal: AbortSignal | undefined;
  readonly #done = new Map<Family, Allocation>();
  /** Blocks in which the handle's count is one ahead because of us. */
  readonly #counted = new Set<string>();
  /** Blocks that may hold an address which we cannot name, or whose count nobody knows: the count must stay. */
  readonly #uncertain = new Set<string>();

  constructor(
    supply: BlockSupply,
    handles: HandleWriter,
    request: AssignRequest,
    nodeName: string,
    signal: AbortSignal | undefined,
  ) {
    this.#supply = supply;
    this.#handles = handles;
    this.#request = request;
    this.#nodeName = nodeName;
    this.#signal = signal;
  }

  async run(): Promise<readonly Allocation[]> {
    try {
      for (let move = 0; move < MAX_MOVES; move++) {
        const missing = this.#request.families.filter((family) => !this.#done.has(family));
        if (missing.length === 0) break;
        await this.#round(missing);
      }
      this.#signal?.throwIfAborted();
      return this.#request.families.map((family) => this.#done.get(family) ?? this.#gaveUp(family));
    } catch (error) {
      throw await this.#undo(error);
    }
  }

  async #round(missing: readonly Family[]): Promise<void> {
    const blocks = await this.#takeAll(missing);
    let unsubmitted = blocks;
    try {
      const keys = new Set(blocks.map((block) => formatCIDR(block.cidr)));
      await this.#count(keys);
      this.#signal?.throwIfAborted();
      unsubmitted = [];
      await allOf(blocks.map((block) => this.#assignFrom(block)));
    } finally {
      for (const block of unsubmitted) block.unreserve();
    }
  }

  async #takeAll(families: readonly Family[]): Promise<readonly BlockCommitter[]> {
    const { pools } = this.#request;
    const taken: BlockCommitter[] = [];
    try {
      await allOf(
        families.map(async (family) => {
          taken.push(await this.#supply.take({ family, ...(pools && { pools }) }, this.#signal));
        }),
      );
      return taken;
    } catch (error) {
      for (const block of taken) block.unreserve();
      throw error;
    }
  }

  /** Counts new blocks up and, in the same write, blocks down that turned out to be full or not ours. */
  async #count(keys: ReadonlySet<string>): Promise<void> {
    const held = new Set([...this.#done.values()].map(({ block }) => formatCIDR(block)));
    const left = [...this.#counted].filter((key) => !keys.has(key) && !held.has(key));
    const added = [...keys].filter((key) => !this.#counted.has(key));
    const isFirst = this.#counted.size === 0;
    const { handleID } = this.#request;
    try {
      await this.#handles.change(handleID, (blocks) => addToBlocks(addToBlocks(blocks, added, 1), left, -1), isFirst);
    } catch (error) {
      // Perhaps counted, perhaps not: a count that is too high is harmless, one that is too low loses an address.
      if (mayHold(error)) for (const key of [...added, ...left]) this.#uncertain.add(key);
      throw error;
    }
    for (const key of added) this.#counted.add(key);
    for (const key of left) this.#counted.delete(key);
  }

  async #assignFrom(committer: BlockCommitter): Promise<void> {
    const { handleID, attributes } = this.#request;
    const key = formatCIDR(committer.cidr);
    try {
      const affinity = hostAffinity(this.#nodeName);
      const result = await committer.submit({ kind: "assign", handleID, attributes, affinity }, this.#signal);
      // Full or not ours by now: the next round moves on to another block.
      if (result.kind !== "assigned") return;
      const { cidr } = committer;
      const ip = ipAt(cidr, result.ordinal);
      this.#done.set(cidrFamily(cidr), { ip, handleID, block: cidr, sequenceNumber: result.sequenceNumber });
    } catch (error) {
      if (mayHold(error)) this.#uncertain.add(key);
      throw error;
    }
  }

  /** Gives back what was taken. The error to report: the first one, or a stronger one when not all could be undone. */
  async #undo(error: unknown): Promise<unknown> {
    const { handleID } = this.#request;
    let isClean = this.#uncertain.size === 0;
    for (const { block, ip, sequenceNumber } of this.#done.values()) {
      const which = { ordinals: [{ ordinal: ordinalOf(block, ip), sequenceNumber }] };
      try {
        await this.#supply.committer(block).submit({ kind: "release", handleID, counted: 0, which });
      } catch {
        // The handle keeps its count for this block, so that a later release finds the address.
        this.#uncertain.add(formatCIDR(block));
        isClean = false;
      }
    }
    const keys = [...this.#counted].filter((key) => !this.#uncertain.has(key));
    try {
      if (keys.length > 0) await this.#handles.change(handleID, (blocks) => addToBlocks(blocks, keys, -1));
    } catch {
      isClean = false;
    }
    if (isClean || mayHold(error)) return error;
    const what = `Cannot undo the failed assignment for handle ${handleID}`;
    const step = "release the handle when the API server answers again";
    return new IPAMError("Datastore", `${what}; ${step}`, { cause: error, mayHoldAddresses: true });
  }

  #gaveUp(family: Family): never {
    const { handleID } = this.#request;
    const what = `Cannot assign an IPv${family} address for handle ${handleID}`;
    throw new IPAMError("Contention", `${what}: ${MAX_MOVES} blocks in turn were taken away; try again`);
  }
}

function mayHold(error: unknown): boolean {
  return error instanceof IPAMError && error.mayHoldAddresses;
}

/** Waits for all, also when one fails, so that nothing goes on behind the caller's back; then the first error. */
async function allOf(promises: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(promises);
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
