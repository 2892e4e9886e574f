// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import type { AddressManager } from "../../cni/ports.ts";
import type { IPAMBlockStatus } from "../../crds/ipam-block.ts";
import { blockName } from "../../crds/names.ts";
import type { Clock } from "../../lib/clock.ts";
import { type CIDR, formatCIDR, ordinalOf, parseCIDR } from "../../net/cidr.ts";
import type { Family } from "../../net/ip.ts";
import type { ReleaseOp } from "../batch.ts";
import { ordinalsOfHandle } from "../block.ts";
import { checkBlock } from "../check-block.ts";
import { IPAMError } from "../errors.ts";
import { type HandleBlocks, settleBlocks } from "../handle.ts";
import { checkHandleID } from "../handle-id.ts";
import type { IPAMSettings, IPAMSources, IPAMStore } from "../ports.ts";
import type { Allocation, AssignRequest } from "../types.ts";
import { Assignment } from "./assignment.ts";
import { allOf } from "./attempts.ts";
import { checkedStore } from "./checked-store.ts";
import { loadAffineBlock } from "./claims.ts";
import { contradictionTo } from "./contradiction.ts";
import type { BlockCommitter } from "./group-commit.ts";
import { HandleWriter } from "./handles.ts";
import { BlockStatusWriter } from "./status.ts";
import { BlockSupply, type SupplyTools } from "./supply.ts";
import { labelOwned } from "./upkeep.ts";

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
  /**
   * How long a resident process does not give an address again that it has seen being released, while there are others;
   * 0: it does. Units: milliseconds, 30,000 by default.
   */
  readonly cooldownMs?: number;
  /** Hears of each block of somebody else out of which an address was taken. */
  readonly onBorrowed?: (block: CIDR) => void;
  /** Failures of background work: claims in advance and statuses. */
  readonly onBackgroundError?: (error: unknown) => void;
}

export interface Allocator extends AddressManager {
  /** Reads this node's blocks, or claims the first, for the families that have pools; then an ADD needs no read. */
  warmUp(families: readonly Family[]): Promise<void>;
  /**
   * Reads this node's blocks again every few minutes until the signal aborts: a peer's write shows in no write of ours, and
   * the status that an auditor reads would stay behind it. Frees what has cooled down in them. Never rejects.
   */
  refreshPeriodically(signal: AbortSignal): Promise<void>;
  /**
   * To be called when an affinity of this node has gone, whoever deleted it. Without it no other node routes to the block; so
   * if the block is still ours, it gets a new one. Never rejects.
   */
  restoreClaim(cidr: CIDR): Promise<void>;
  /** Statuses of blocks as last seen, for metrics and reports. */
  blockStatuses(): ReadonlyMap<string, IPAMBlockStatus>;
  /** Ends background work. */
  close(): void;
}

const REFRESH_MS = 300_000;
/** Long enough for everybody to have heard of a pod's end, as AWS's plugin has found (its pull request 62). */
const COOLDOWN_MS = 30_000;

/** Assigns and releases a node's addresses. The agent and the standalone plugin both run this. */
export function createAllocator(options: AllocatorOptions): Allocator {
  return new NodeAllocator(options);
}

class NodeAllocator implements Allocator {
  readonly #sources: IPAMSources;
  readonly #nodeName: string;
  readonly #handles: HandleWriter;
  readonly #supply: BlockSupply;
  readonly #statuses: BlockStatusWriter;
  readonly #tools: SupplyTools;
  readonly #onBorrowed: AllocatorOptions["onBorrowed"];
  /** Addresses of own blocks whose records name nobody, as last reported. */
  readonly #nameless = new Map<string, number>();
  /** As last heard. Each call asks before it does anything else. */
  #settings: Pick<IPAMSettings, "ipCooldownMs" | "recordsReleases"> = { ipCooldownMs: 0, recordsReleases: false };

  constructor(options: AllocatorOptions) {
    const { clock, random, nodeName, sources } = options;
    const store = checkedStore(options.store);
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
      reservations: () => this.#supply.reservations,
      rivalOf: (cidr, claim) => this.#supply.rivalOf(cidr, claim),
      cooldown: () => this.#settings,
      cooldownMs: isResident ? (options.cooldownMs ?? COOLDOWN_MS) : 0,
      onBroken: (cidr, error) => this.#supply.noteBroken(cidr, error),
    };
    this.#tools = tools;
    this.#onBorrowed = options.onBorrowed;
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
      const attempt = new Assignment(this.#supply, this.#handles, request, signal);
      const allocations = await attempt.run();
      for (const block of new Set(allocations.map((allocation) => allocation.block))) {
        const committer = this.#supply.committer(block);
        this.#statuses.touch(committer);
        if (!committer.isOwn) this.#onBorrowed?.(block);
      }
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
        [...keys].flatMap((key) => parsedNetwork(key) ?? []).map((block) => ({ block, which })),
        counts,
      );
    });
  }

  async contradiction(allocation: Allocation): Promise<string | undefined> {
    return await contradictionTo(this.#tools.store, allocation);
  }

  async rehearse({ families, pools }: Pick<AssignRequest, "families" | "pools">): Promise<void> {
    await this.#refuseWhileLocked("assign an address");
    for (const family of families)
      await this.#supply.rehearse({ family, ...(pools && { pools }), isForAnyNamespace: true });
  }

  async warmUp(families: readonly Family[]): Promise<void> {
    if (!(await this.#readSettings()).datastoreReady) return;
    await labelOwned(this.#tools);
    await allOf(
      families.map(async (family) => {
        try {
          await this.#supply.loadOwned(family);
          const { committer, count } = await this.#supply.take({ family }, 1);
          committer.unreserve(count);
        } catch (error) {
          // Without a pool, or with a full one, there is nothing to warm; who needs an address will be told.
          if (!(error instanceof IPAMError) || error.code === "Datastore") throw error;
        }
      }),
    );
  }

  async refreshPeriodically(signal: AbortSignal): Promise<void> {
    const { clock, random, onBackgroundError } = this.#tools;
    while (!signal.aborted) {
      // Spread, or a thousand nodes that were started together would ask together for ever.
      await clock.sleep(REFRESH_MS * (0.8 + 0.4 * random()), signal).catch(() => {});
      for (const committer of [...this.#supply.committers()]) {
        if (signal.aborted || !committer.isOwn) continue;
        await this.#refresh(committer).catch(onBackgroundError);
      }
    }
  }

  async restoreClaim(cidr: CIDR): Promise<void> {
    const key = formatCIDR(cidr);
    const own = [...this.#supply.committers()].find(
      (committer) => committer.isOwn && formatCIDR(committer.cidr) === key,
    );
    if (own !== undefined) await this.#refresh(own).catch(this.#tools.onBackgroundError);
  }

  async #refresh(committer: BlockCommitter): Promise<void> {
    // It also puts right what is half done, and the statuses are written.
    if (!(await this.#readSettings()).datastoreReady) return;
    await committer.refresh();
    this.#reportNameless(committer);
    await committer.thaw();
    this.#statuses.touch(committer);
  }

  /** Once for each block and number of them. */
  #reportNameless({ block, cidr }: BlockCommitter): void {
    const findings = block === undefined ? [] : checkBlock(block.spec, this.#tools.clock.nowMs());
    const lost = findings.reduce(
      (n, finding) => n + (finding.kind === "namelessAttribute" ? finding.ordinals.length : 0),
      0,
    );
    const key = formatCIDR(cidr);
    if ((this.#nameless.get(key) ?? 0) === lost) return;
    this.#nameless.set(key, lost);
    if (lost === 0) return;
    const what = `IPAMBlock ${blockName(cidr)} (${key}) has ${lost} ${lost === 1 ? "address" : "addresses"} that nobody holds and nobody will free`;
    const why = "a Calico up to 3.32 or an old CRD has dropped their releasedAt";
    const step = "set ipCooldownSeconds of IPAMConfig default to 0 until all are newer; gingham ipam check names them";
    this.#tools.onBackgroundError(new IPAMError("BrokenObject", `${what}: ${why}; ${step}`));
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

  async #readSettings(): Promise<IPAMSettings> {
    const settings = this.#sources.settings();
    const read = settings instanceof Promise ? await settings : settings;
    this.#settings = read;
    return read;
  }

  async #refuseWhileLocked(what: string): Promise<void> {
    if ((await this.#readSettings()).datastoreReady) return;
    const why = "ClusterInformation default has datastoreReady false: somebody migrates the datastore";
    throw new IPAMError("NotReady", `Cannot ${what} on node ${this.#nodeName}: ${why}; try again when it is unlocked`);
  }
}

/** Undefined for what no block can be called, and a broken writer has put into a handle. */
function parsedNetwork(text: string): CIDR | undefined {
  try {
    return parseCIDR(text);
  } catch {
    return undefined;
  }
}
