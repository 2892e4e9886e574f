// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import { InvalidObjectError } from "../crds/errors.ts";
import type { IPPool } from "../crds/ip-pool.ts";
import type { IPReservation, Reservation } from "../crds/ip-reservation.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import { DEFAULT_IPAM_CONFIG, IPAM_CONFIG_NAME, type IPAMConfig } from "../crds/ipam-config.ts";
import { blockName } from "../crds/names.ts";
import { type BorrowedBlock, borrowedOf, canBorrow, sameBorrowed } from "../felix/calc/borrowed.ts";
import type { Source, SourceChange } from "../felix/ports.ts";
import type { Clock } from "../lib/clock.ts";
import { type Backoff, backoffMs } from "../lib/retry.ts";
import { parseCIDR } from "../net/cidr.ts";
import type { KubeClient } from "./api.ts";
import { NotFoundError } from "./errors.ts";
import { Informer } from "./informer.ts";

export interface BorrowedSourceOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: () => number;
  /** Hears of every failure; none ends the work. */
  readonly onError: (error: unknown) => void;
  /** Started and stopped by their owner. */
  readonly nodes: Informer<Node, Node>;
  readonly pools: Informer<IPPool, IPPool>;
  readonly affinities: Informer<BlockAffinity, BlockAffinity>;
  readonly ipamConfigs: Informer<IPAMConfig, IPAMConfig>;
  readonly reservations: Informer<IPReservation, Reservation>;
}

type Blocks = Informer<IPAMBlock, BorrowedBlock | undefined>;

/** Between two looks at whether something is to be done: none of them costs a request by itself. Units: milliseconds. */
const TURN_MS = 5000;
/** Between two listings, give or take a fifth. Units: milliseconds. */
const LIST_EVERY_MS = 300_000;
const LIST_BACKOFF: Backoff = { baseMs: 5000, maxMs: LIST_EVERY_MS };
const PAGE_SIZE = 500;
/** A reason to watch reaches all nodes at once; their first lists are spread over this time. Units: milliseconds. */
const WATCH_SPREAD_MS = 30_000;
/** How long there must have been no reason before a watch ends: a pool at the brink goes to and fro. Units: milliseconds. */
const CALM_MS = 600_000;
/** Single blocks read in one turn. */
const READS_A_TURN = 20;

/**
 * Blocks of which others than their owner have addresses, found as cheaply as the cluster's state allows: what is watched
 * must not grow with pods, and only blocks say who has borrowed what.
 *
 * - While borrowing can happen (a pool is almost full, or addresses are reserved for certain pods), or something is borrowed, blocks are watched, and all but the borrowed addresses forgotten.
 * - Otherwise they are listed on a slow timer, page by page. That finds what somebody took by asking for one address.
 * - A block whose BlockAffinity is deleted is read by itself, since its pods lose their route with that claim.
 *
 * Invariants: `list` is what the last complete reading said of each block; a failed listing changes nothing. One loop does
 * all reading, and nothing but the informer writes once it is in sync. `synced` is fulfilled by the first complete reading.
 */
export class BorrowedSource implements Source<BorrowedBlock> {
  readonly synced: Promise<void>;
  readonly #options: BorrowedSourceOptions;
  readonly #blocks = new Map<string, BorrowedBlock>();
  readonly #handlers = new Set<(change: SourceChange<BorrowedBlock>) => void>();
  readonly #abort = new AbortController();
  #fulfilSynced: () => void = () => {};
  #running: Promise<void> | undefined;
  /** Present while blocks are watched. */
  #informer: Blocks | undefined;
  /** Names of blocks whose claim has gone. */
  readonly #unclaimed = new Set<string>();
  #isClusterChanged = true;
  #canBorrow = false;
  #listDueMs = 0;
  #failures = 0;
  /** When the watch begins, given a reason; undefined: the next reason decides. */
  #watchDueMs: number | undefined = 0;
  #lastReasonMs = 0;

  constructor(options: BorrowedSourceOptions) {
    this.#options = options;
    this.synced = new Promise((resolve) => {
      this.#fulfilSynced = resolve;
    });
  }

  /** Idempotent. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when no handler will be called any more. */
  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    await this.#informer?.stop();
  }

  list(): Iterable<BorrowedBlock> {
    return this.#blocks.values();
  }

  onChange(handler: (change: SourceChange<BorrowedBlock>) => void): () => void {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  async #run(): Promise<void> {
    const { clock, random, nodes, pools, affinities, ipamConfigs, reservations, onError } = this.#options;
    const known = [nodes, pools, affinities, ipamConfigs, reservations];
    const { signal } = this.#abort;
    const changed = (): void => {
      this.#isClusterChanged = true;
    };
    const stops = [
      nodes.onChange(changed),
      pools.onChange(changed),
      ipamConfigs.onChange(changed),
      reservations.onChange(changed),
      affinities.onChange((change) => {
        changed();
        if (change.type === "deleted") this.#unclaimed.add(blockName(parseCIDR(change.old.spec.cidr)));
      }),
    ];
    let waitMs = TURN_MS * random();
    while (!signal.aborted) {
      await clock.sleep(waitMs, signal).catch(() => {});
      waitMs = TURN_MS;
      // What the cluster is like must be known before it can be judged.
      if (signal.aborted || !known.every((informer) => informer.hasSynced)) continue;
      await this.#turn(signal).catch((error: unknown) => {
        if (!signal.aborted) onError(error);
      });
    }
    for (const stop of stops) stop();
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    this.#judge();
    await this.#readUnclaimed(signal);
    const nowMs = clock.nowMs();
    if (this.#hasReason) this.#lastReasonMs = nowMs;
    if (this.#informer !== undefined) {
      if (nowMs - this.#lastReasonMs >= CALM_MS) await this.#endWatch();
      return;
    }
    this.#watchDueMs = this.#hasReason ? (this.#watchDueMs ?? nowMs + WATCH_SPREAD_MS * random()) : undefined;
    if (this.#watchDueMs !== undefined && nowMs >= this.#watchDueMs) this.#beginWatch();
    else if (nowMs >= this.#listDueMs && (await this.#list(signal)) && this.#hasReason) this.#beginWatch();
  }

  get #hasReason(): boolean {
    return this.#canBorrow || this.#blocks.size > 0;
  }

  /** Looks at all pools and claims, so only when one of them has changed. */
  #judge(): void {
    if (!this.#isClusterChanged) return;
    this.#isClusterChanged = false;
    const { nodes, pools, affinities, ipamConfigs, reservations } = this.#options;
    const { strictAffinity } = ipamConfigs.get(IPAM_CONFIG_NAME)?.spec ?? DEFAULT_IPAM_CONFIG;
    this.#canBorrow = canBorrow({
      strictAffinity,
      nodes: nodes.size,
      pools: pools.list(),
      affinities: affinities.list(),
      fixed: [...reservations.list()].flatMap(({ owner, networks }) => (owner === undefined ? [] : networks)),
    });
  }

  /** Most of these blocks have gone together with their claim; one that pods still use has no route from now on. */
  async #readUnclaimed(signal: AbortSignal): Promise<void> {
    const { client, onError } = this.#options;
    for (const name of [...this.#unclaimed].slice(0, READS_A_TURN)) {
      if (this.#informer?.hasSynced === true) break;
      this.#unclaimed.delete(name);
      try {
        const block = await client.get(IPAM_BLOCKS, name, { signal });
        this.#setUnwatched(name, borrowedOf(block));
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof NotFoundError) this.#setUnwatched(name, undefined);
        else {
          onError(error);
          if (error instanceof InvalidObjectError) continue;
          // The server is away, most likely: the others would wait as long for nothing.
          this.#unclaimed.add(name);
          break;
        }
      }
    }
    if (this.#informer?.hasSynced === true) this.#unclaimed.clear();
  }

  /** Returns whether all blocks were read. */
  async #list(signal: AbortSignal): Promise<boolean> {
    const { client, clock, random, onError } = this.#options;
    const found = new Map<string, BorrowedBlock>();
    const broken = new Set<string>();
    try {
      for await (const page of client.listPages(IPAM_BLOCKS, { limit: PAGE_SIZE, signal })) {
        for (const error of page.invalid) {
          onError(error);
          broken.add(error.objectName);
        }
        for (const block of page.items) {
          const borrowed = borrowedOf(block);
          if (borrowed !== undefined) found.set(borrowed.name, borrowed);
        }
      }
    } catch (error) {
      if (!signal.aborted) onError(error);
      this.#listDueMs = clock.nowMs() + backoffMs(LIST_BACKOFF, ++this.#failures, random());
      return false;
    }
    this.#failures = 0;
    this.#planList();
    // A block that cannot be read keeps its last good state: it is not an empty one.
    for (const name of [...this.#blocks.keys()]) if (!found.has(name) && !broken.has(name)) this.#set(name, undefined);
    for (const [name, borrowed] of found) this.#set(name, borrowed);
    this.#fulfilSynced();
    return true;
  }

  #planList(): void {
    const { clock, random } = this.#options;
    this.#listDueMs = clock.nowMs() + LIST_EVERY_MS * (0.8 + 0.4 * random());
  }

  #beginWatch(): void {
    const { client, clock, random, onError } = this.#options;
    const informer: Blocks = new Informer({
      client,
      resource: IPAM_BLOCKS,
      project: borrowedOf,
      equal: sameBorrowed,
      clock,
      random,
      onError,
      pageSize: PAGE_SIZE,
    });
    informer.onChange(({ key, new: borrowed }) => this.#set(key, borrowed));
    this.#informer = informer;
    void informer.synced.then(() => {
      for (const name of [...this.#blocks.keys()]) if (informer.get(name) === undefined) this.#set(name, undefined);
      this.#fulfilSynced();
    });
    informer.start();
  }

  async #endWatch(): Promise<void> {
    await this.#informer?.stop();
    this.#informer = undefined;
    this.#watchDueMs = undefined;
    this.#planList();
  }

  /** What an answer says that may be older than what the informer has heard meanwhile. */
  #setUnwatched(name: string, next: BorrowedBlock | undefined): void {
    if (this.#informer?.hasSynced !== true) this.#set(name, next);
  }

  #set(name: string, next: BorrowedBlock | undefined): void {
    if (sameBorrowed(this.#blocks.get(name), next)) return;
    if (next === undefined) this.#blocks.delete(name);
    else this.#blocks.set(name, next);
    for (const handler of this.#handlers) handler({ key: name, new: next });
  }
}
