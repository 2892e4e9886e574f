// SPDX-License-Identifier: Apache-2.0

import { InvalidObjectError } from "../crds/errors.ts";
import { ownerOf } from "../ipam/gc/addresses.ts";
import { Census, poolNameOf, sightingKey } from "../ipam/gc/census.ts";
import type { CollectionPlan, HandleRelease, HeldAddress, Leak, Sightings } from "../ipam/gc/types.ts";
import { isGone, verdictOf } from "../ipam/gc/verdict.ts";
import type { IPAMStore } from "../ipam/ports.ts";
import { deleteOrphanHandle, type ReleaseTools, releaseAddresses, thawBlock } from "../ipam/release.ts";
import { finishTombstone, releaseAffinity, removeBlock, repairAffinity } from "../ipam/release-affinity.ts";
import { aborted } from "../lib/aborted.ts";
import type { Clock } from "../lib/clock.ts";
import { formatIP } from "../net/ip.ts";
import { createPace, pacedStore } from "./paced-store.ts";
import type { ClusterSource, CollectorSettings, Freed, Needed, Reporter } from "./ports.ts";

export interface CollectorOptions {
  readonly source: ClusterSource;
  readonly store: IPAMStore;
  readonly reporter: Reporter;
  readonly clock: Clock;
  /** From 0 (included) to 1. */
  readonly random: () => number;
  /** Say what would be freed, and free nothing. */
  readonly isDryRun: boolean;
  /** Requests of releasing. */
  readonly requestsPerSecond: number;
  /** A handle without addresses must look so for at least this long: longer than any ADD may take. */
  readonly minHandleGraceMs?: number;
}

/** How long a node must be missing when `leakGracePeriod` is 0, which is about leaks alone. */
const DEFAULT_GRACE_MS = 15 * 60_000;
/** A runtime gives up an ADD after 4 minutes at most; Calico's plugin ends itself after 90 s. */
const MIN_HANDLE_GRACE_MS = 10 * 60_000;
const MAX_PERIOD_MS = 5 * 60_000;
const MIN_PERIOD_MS = 1000;
/** After a pass that failed, or freed something: empty blocks of a deleted node are seen by the next one. Settings are read as often. */
const SOON_MS = 10_000;
/** How long the datastore counts as unlocked after it was seen to be, while things are freed. Units: milliseconds. */
const LOCK_CHECK_MS = 1000;
/** Addresses between two looks at the live API. */
const BATCH = 512;

/** Frees what nobody uses, pass by pass. What it remembers of the last pass is all the state there is. */
export class Collector {
  readonly #options: CollectorOptions;
  #sightings: Sightings = new Map();
  /** When the API server itself was first asked and said: leaked. By sighting. Units: Unix milliseconds. */
  #proofs: Sightings = new Map();
  #isNudged = false;

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  /** A node is gone: look soon, so that its grace begins now and not with the next period. */
  nudge(): void {
    this.#isNudged = true;
  }

  /** Passes until the signal aborts. A pass that fails is told and tried again. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { source, reporter, clock } = this.#options;
    await Promise.race([source.synced, aborted(signal)]);
    let [lastMs, hasMore, periodMs] = [Number.NEGATIVE_INFINITY, false, MIN_PERIOD_MS];
    while (!signal.aborted) {
      try {
        // Read more often than used, so that who shortens the grace need not wait for the end of the longer one.
        const settings = await source.settings(signal);
        periodMs = periodOf(settings);
        const nowMs = clock.nowMs();
        if (nowMs >= lastMs + (hasMore || this.#isNudged ? Math.min(SOON_MS, periodMs) : periodMs)) {
          lastMs = nowMs;
          // Stands when the pass fails.
          hasMore = true;
          this.#isNudged = false;
          hasMore = (await this.pass(settings, signal)) > 0;
        }
      } catch (error) {
        if (!signal.aborted) reporter.failed("look at the cluster's addresses", error);
      }
      await clock.sleep(Math.min(SOON_MS, periodMs), signal).catch(() => {});
    }
  }

  /** One look, and the releases that follow from it. @returns how many things were freed */
  async pass(settings: CollectorSettings, signal: AbortSignal): Promise<number> {
    const { reporter, isDryRun } = this.#options;
    if (!settings.datastoreReady) {
      // What was seen before a migration says nothing about what comes after it.
      this.#sightings = new Map();
      this.#proofs = new Map();
      reporter.skipped("ClusterInformation default has datastoreReady false");
      return 0;
    }
    const plan = await this.#look(settings, signal);
    this.#sightings = plan.sightings;
    reporter.census(plan, settings);
    if (isDryRun) {
      await reporter.freed(describePlan(plan, settings), true);
      return 0;
    }
    const freeing = new Freeing(this.#options, settings, signal);
    const { proofs, refuted } = await freeing.addresses(plan.addresses, this.#proofs, graceOf(settings) / 2);
    this.#proofs = proofs;
    this.#sightings = new Map([...plan.sightings].filter(([key]) => !refuted.has(key)));
    await freeing.objects(plan);
    return freeing.count;
  }

  async #look(settings: CollectorSettings, signal: AbortSignal): Promise<CollectionPlan> {
    const { source, clock, minHandleGraceMs = MIN_HANDLE_GRACE_MS } = this.#options;
    const graceMs = graceOf(settings);
    const census = new Census({
      before: this.#sightings,
      nowMs: clock.nowMs(),
      graceMs,
      handleGraceMs: Math.max(graceMs, minHandleGraceMs),
      collectsLeaks: settings.leakGraceMs > 0,
      view: source.view,
      pools: settings.pools,
    });
    // Blocks first: then the pods of `view`, and whatever is asked live later, are younger than the blocks.
    for await (const block of source.blocks(signal)) {
      if (block instanceof InvalidObjectError) census.addUnreadable(block.objectName);
      else census.addBlock(block);
    }
    for await (const handle of source.handles(signal)) census.addHandle(handle);
    for await (const affinity of source.affinities(signal)) census.addAffinity(affinity);
    return census.finish();
  }
}

/** The releases of one pass. One that fails is told, and the others go on. */
class Freeing {
  count = 0;
  readonly #options: CollectorOptions;
  readonly #settings: CollectorSettings;
  readonly #signal: AbortSignal;
  readonly #tools: ReleaseTools;
  #isLocked = false;
  #unlockedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: CollectorOptions, settings: CollectorSettings, signal: AbortSignal) {
    const { clock, random, requestsPerSecond } = options;
    this.#options = options;
    this.#settings = settings;
    this.#signal = signal;
    const store = pacedStore(options.store, createPace(clock, requestsPerSecond), signal);
    this.#tools = { store, clock, random };
  }

  /**
   * Asks the API server about each handle that looks leaked. It must say so twice: what is watched may be old for any
   * length of time, and a pod that went a moment ago may have a sandbox of which its node has not yet spoken.
   *
   * @param apartMs between the two
   * @returns when the API server first said so, and the sightings that it called wrong
   */
  async addresses(
    releases: readonly HandleRelease[],
    before: Sightings,
    apartMs: number,
  ): Promise<{ readonly proofs: Sightings; readonly refuted: ReadonlySet<string> }> {
    const { source, clock } = this.#options;
    const proofs = new Map<string, number>();
    const refuted = new Set<string>();
    for (const batch of batchesOf(releases)) {
      this.#signal.throwIfAborted();
      if (await this.#checkLock()) break;
      const view = await source.look(neededBy(batch), this.#signal);
      const nowMs = clock.nowMs();
      const due: Leak[] = [];
      for (const { leaks, isDue } of batch) {
        const keys = leaks.map(({ address }) => sightingKey(address));
        if (!leaks.every(({ address }) => verdictOf(address, ownerOf(address), view).kind === "leak")) {
          for (const key of keys) refuted.add(key);
          continue;
        }
        for (const key of keys) proofs.set(key, before.get(key) ?? nowMs);
        if (isDue && keys.every((key) => nowMs - (before.get(key) ?? nowMs) >= apartMs)) due.push(...leaks);
      }
      await this.#release(due);
    }
    return { proofs, refuted };
  }

  async #release(leaks: readonly Leak[]): Promise<void> {
    if (leaks.length === 0) return;
    const addresses = leaks.map(({ address }) => address);
    const { freed, errors } = await releaseAddresses(this.#tools, addresses);
    for (const error of errors) if (!this.#signal.aborted) this.#options.reporter.failed("release addresses", error);
    const done = new Set(freed);
    await this.#tell(
      leaks.filter(({ address }) => done.has(address)).map((leak) => addressFreed(leak, this.#settings)),
    );
  }

  async objects(plan: CollectionPlan): Promise<void> {
    const { store } = this.#tools;
    const nodes = new Set(plan.releases.filter(({ why }) => why === "nodeGone").map(({ node }) => node));
    const view = await this.#options.source.look({ nodes, pods: new Set() }, this.#signal);
    const releases = plan.releases.filter(({ why, node }) => why !== "nodeGone" || isGone(node, view));
    const things = describePlan({ ...plan, addresses: [], releases }, this.#settings);
    const tasks: readonly (() => Promise<boolean>)[] = [
      ...plan.handles.map((orphan) => () => deleteOrphanHandle(this.#tools, orphan)),
      ...releases.map((release) => () => releaseAffinity(store, release)),
      ...plan.removals.map((removal) => () => removeBlock(store, removal)),
      ...plan.tombstones.map((tombstone) => () => finishTombstone(store, tombstone)),
    ];
    const freed: Freed[] = [];
    for (const [i, task] of tasks.entries()) {
      const thing = things[i];
      if (thing !== undefined && (await this.#try(`free ${thing.kind} ${thing.what}`, task))) freed.push(thing);
    }
    for (const name of plan.cold)
      if (await this.#try(`free cooled down addresses of block ${name}`, () => thawBlock(this.#tools, name)))
        this.count++;
    for (const repair of plan.repairs)
      await this.#try(`confirm affinity ${repair.name}`, () => repairAffinity(store, repair));
    await this.#tell(freed);
  }

  async #try(what: string, task: () => Promise<boolean>): Promise<boolean> {
    this.#signal.throwIfAborted();
    try {
      return !(await this.#checkLock()) && (await task());
    } catch (error) {
      if (this.#signal.aborted) throw error;
      this.#options.reporter.failed(what, error);
      return false;
    }
  }

  /** A pass may take minutes, and a migration may begin in the middle of it. @returns whether it has */
  async #checkLock(): Promise<boolean> {
    const { source, clock } = this.#options;
    const nowMs = clock.nowMs();
    if (this.#isLocked || nowMs - this.#unlockedAtMs < LOCK_CHECK_MS) return this.#isLocked;
    this.#isLocked = !(await source.settings(this.#signal)).datastoreReady;
    this.#unlockedAtMs = nowMs;
    return this.#isLocked;
  }

  async #tell(things: readonly Freed[]): Promise<void> {
    this.count += things.length;
    if (things.length > 0) await this.#options.reporter.freed(things, false);
  }
}

/** Twice in a grace, so that two looks lie in it. Source: calico-interop 2.10. */
function periodOf({ leakGraceMs }: CollectorSettings): number {
  if (leakGraceMs === 0) return MAX_PERIOD_MS;
  return Math.min(MAX_PERIOD_MS, Math.max(MIN_PERIOD_MS, leakGraceMs / 2));
}

/** Handles stay whole; the addresses of one block come together, so that they share a write. */
function batchesOf(releases: readonly HandleRelease[]): readonly (readonly HandleRelease[])[] {
  const keyOf = ({ leaks }: HandleRelease): string => {
    const block = leaks[0]?.address.block;
    return block === undefined ? "" : `${block.network}/${block.prefixLength}`;
  };
  const sorted = [...Map.groupBy(releases, keyOf).values()].flat();
  const batches: HandleRelease[][] = [];
  let size = BATCH;
  for (const release of sorted) {
    if (size >= BATCH) {
      batches.push([]);
      size = 0;
    }
    batches.at(-1)?.push(release);
    size += release.leaks.length;
  }
  return batches;
}

function neededBy(releases: readonly HandleRelease[]): Needed {
  const nodes = new Set<string>();
  const pods = new Set<string>();
  for (const { leaks } of releases) {
    for (const { owner } of leaks) {
      nodes.add(owner.node);
      if (owner.kind === "pod") pods.add(`${owner.namespace}/${owner.pod}`);
    }
  }
  return { nodes, pods };
}

function graceOf({ leakGraceMs }: CollectorSettings): number {
  return leakGraceMs === 0 ? DEFAULT_GRACE_MS : leakGraceMs;
}

/** In the order in which `Freeing` works: addresses, handles, affinities, blocks, tombstones. */
function describePlan(plan: CollectionPlan, settings: CollectorSettings): readonly Freed[] {
  const other = { node: "", pool: "" };
  return [
    ...plan.addresses
      .filter(({ isDue }) => isDue)
      .flatMap(({ leaks }) => leaks)
      .map((leak) => addressFreed(leak, settings)),
    ...plan.handles.map(({ name }) => ({ ...other, kind: "handle" as const, what: name, why: "noAddresses" })),
    ...plan.releases.map(({ name, node, why }) => ({ ...other, kind: "affinity" as const, what: name, node, why })),
    ...plan.removals.map(({ name, why }) => ({ ...other, kind: "block" as const, what: name, why })),
    ...plan.tombstones.map(({ kind, name }) => ({
      ...other,
      kind: "tombstone" as const,
      what: `${kind} ${name}`,
      why: "unfinishedDeletion",
    })),
  ];
}

function addressFreed({ address, owner, why }: Leak, { pools }: CollectorSettings): Freed {
  return {
    kind: "address",
    what: formatIP(address.ip),
    node: owner.node,
    pool: poolNameOf(address.block, pools),
    why: `${why}: ${ownerText(address, owner)}`,
  };
}

function ownerText(address: HeldAddress, owner: Leak["owner"]): string {
  return owner.kind === "pod" ? `pod ${owner.namespace}/${owner.pod}` : `handle ${address.handleID}`;
}
