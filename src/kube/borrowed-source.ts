// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { IPPool } from "../crds/ip-pool.ts";
import type { IPReservation, Reservation } from "../crds/ip-reservation.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import { DEFAULT_IPAM_CONFIG, IPAM_CONFIG_NAME, type IPAMConfig } from "../crds/ipam-config.ts";
import { blockName } from "../crds/names.ts";
import { type BorrowedBlock, borrowedOf, borrowsOf, canBorrow, sameBorrowed } from "../felix/calc/borrowed.ts";
import type { Source, SourceChange } from "../felix/ports.ts";
import type { Clock } from "../lib/clock.ts";
import { type Backoff, backoffMs } from "../lib/retry.ts";
import { parseCIDR } from "../net/cidr.ts";
import type { KubeClient } from "./api.ts";
import { AskedBlocks } from "./asked-blocks.ts";
import { type Change, Informer } from "./informer.ts";

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
/** A page is in memory as a whole: reading 5,120 blocks peaks 90 MB lower than with 500. */
const PAGE_SIZE = 100;
/** A reason to watch reaches all nodes at once; their first lists are spread over this time. Units: milliseconds. */
const WATCH_SPREAD_MS = 30_000;
/** How long there must have been no reason before a watch ends: a pool at the brink goes to and fro. Units: milliseconds. */
const CALM_MS = 600_000;
/** A node's hint reaches all nodes at once; their reads are spread over this time. Units: milliseconds. */
const HINT_SPREAD_MS = 1000;

/**
 * Blocks of which others than their owner have addresses, found as cheaply as the cluster's state allows: what is watched
 * must not grow with pods, and only blocks say who has borrowed what.
 *
 * - While borrowing can happen (a pool is almost full, or addresses are reserved for certain pods), or something is borrowed, blocks are watched, and all but the borrowed addresses forgotten.
 * - Otherwise a block is read by itself when a node's annotation says that it has an address of it (`borrow-hints.ts`), and
 *   when its BlockAffinity is deleted, since its pods lose their route with that claim.
 * - And all are listed on a slow timer, page by page: not everybody who borrows says so, such as Calico's plugin.
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
  readonly #onRead = Promise.withResolvers<void>();
  /** All blocks have been read once. */
  #isRead = false;
  #running: Promise<void> | undefined;
  /** Present while blocks are watched. */
  #informer: Blocks | undefined;
  /** Blocks whose claim has gone, or of which a node says that it borrows. */
  readonly #asked: AskedBlocks;
  /** What nodes say, by their names. */
  readonly #hints = new Map<string, readonly string[]>();
  /** Ends the wait for the next turn. */
  #nap = new AbortController();
  /** The next turn is not to be waited for, but for so long. Units: milliseconds. */
  #hurryMs: number | undefined;
  #isClusterChanged = true;
  #canBorrow = false;
  #listDueMs = 0;
  #failures = 0;
  /** When the watch begins, given a reason; undefined: the next reason decides. */
  #watchDueMs: number | undefined = 0;
  #lastReasonMs = 0;

  constructor(options: BorrowedSourceOptions) {
    this.#options = options;
    const { client, onError } = options;
    const onRead = (name: string, block: IPAMBlock | undefined): void =>
      // The answer may be older than what the informer has heard meanwhile.
      this.#isWatching ? undefined : this.#set(name, block && borrowedOf(block));
    this.#asked = new AskedBlocks({ client, onError, onRead });
    this.synced = this.#onRead.promise;
  }

  /** Idempotent. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when no handler will be called any more. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#nap.abort();
    await this.#running;
    await this.#informer?.stop();
  }

  list(): Iterable<BorrowedBlock> {
    return this.#blocks.values();
  }

  /**
   * Blocks are watched now, by the agents of all nodes alike, since any node may have to borrow at any moment: nobody
   * needs to be told who does.
   */
  get isExpected(): boolean {
    return this.#canBorrow;
  }

  /** Reads a block at once, of which this node has just taken an address that was another's. */
  noteBorrowed(name: string): void {
    if (this.#isWatching) return;
    this.#asked.ask(name);
    this.#hurry(0);
  }

  onChange(handler: (change: SourceChange<BorrowedBlock>) => void): () => void {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  async #run(): Promise<void> {
    const { random, nodes, pools, affinities, ipamConfigs, reservations, onError } = this.#options;
    const known = [nodes, pools, affinities, ipamConfigs, reservations];
    const { signal } = this.#abort;
    const changed = (): void => {
      this.#isClusterChanged = true;
    };
    const stops = [
      nodes.onChange((change) => {
        changed();
        this.#noteHints(change);
      }),
      pools.onChange(changed),
      ipamConfigs.onChange(changed),
      reservations.onChange(changed),
      affinities.onChange((change) => {
        changed();
        if (change.type === "deleted") this.#asked.ask(blockName(parseCIDR(change.old.spec.cidr)));
      }),
    ];
    let waitMs = TURN_MS * random();
    while (!signal.aborted) {
      await this.#wait(waitMs);
      waitMs = TURN_MS;
      // What the cluster is like must be known before it can be judged.
      if (signal.aborted || !known.every((informer) => informer.hasSynced)) continue;
      await this.#turn(signal).catch((error: unknown) => {
        if (!signal.aborted) onError(error);
      });
    }
    for (const stop of stops) stop();
  }

  /** Waits for the next turn, or for as long as somebody in a hurry says. */
  async #wait(ms: number): Promise<void> {
    if (this.#hurryMs === undefined) await this.#sleep(ms);
    const hurryMs = this.#hurryMs;
    this.#hurryMs = undefined;
    if (hurryMs !== undefined) await this.#sleep(hurryMs);
  }

  async #sleep(ms: number): Promise<void> {
    this.#nap = new AbortController();
    if (!this.#abort.signal.aborted) await this.#options.clock.sleep(ms, this.#nap.signal).catch(() => {});
  }

  #hurry(ms: number): void {
    this.#hurryMs = Math.min(ms, this.#hurryMs ?? ms);
    this.#nap.abort("hurry");
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    this.#judge();
    await this.#asked.read(signal, () => this.#isWatching);
    const nowMs = clock.nowMs();
    if (this.#hasReason) this.#lastReasonMs = nowMs;
    if (this.#informer !== undefined) {
      if (nowMs - this.#lastReasonMs >= CALM_MS) await this.#endWatch();
      return;
    }
    this.#watchDueMs = this.#hasReason ? (this.#watchDueMs ?? nowMs + WATCH_SPREAD_MS * random()) : undefined;
    this.#askHinted();
    if (this.#watchDueMs !== undefined && nowMs >= this.#watchDueMs) this.#beginWatch();
    else if (nowMs >= this.#listDueMs && (await this.#list(signal)) && this.#hasReason) this.#beginWatch();
  }

  get #isWatching(): boolean {
    return this.#informer?.hasSynced === true;
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

  /** What a node says to borrow from, it has just begun to, or has given back. */
  #noteHints({ key, old, new: node }: Change<Node>): void {
    const [before, after] = [old, node].map((known) => (known === undefined ? [] : borrowsOf(known)));
    if (after === undefined || after.length === 0) this.#hints.delete(key);
    else this.#hints.set(key, after);
    const changed = new Set(before).symmetricDifference(new Set(after));
    if (changed.size === 0 || this.#isWatching) return;
    for (const name of changed) this.#asked.ask(name);
    if (this.#isRead) this.#hurry(HINT_SPREAD_MS * this.#options.random());
  }

  /** Until the watch has begun, hints tell only of a block's first borrowed address. */
  #askHinted(): void {
    for (const name of new Set([...this.#hints.values()].flat())) if (this.#blocks.has(name)) this.#asked.ask(name);
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
    this.#noteRead();
    return true;
  }

  #noteRead(): void {
    this.#isRead = true;
    this.#onRead.resolve();
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
      this.#noteRead();
    });
    informer.start();
  }

  async #endWatch(): Promise<void> {
    await this.#informer?.stop();
    this.#informer = undefined;
    this.#watchDueMs = undefined;
    this.#planList();
  }

  #set(name: string, next: BorrowedBlock | undefined): void {
    if (sameBorrowed(this.#blocks.get(name), next)) return;
    if (next === undefined) this.#blocks.delete(name);
    else this.#blocks.set(name, next);
    for (const handler of this.#handlers) handler({ key: name, new: next });
  }
}
