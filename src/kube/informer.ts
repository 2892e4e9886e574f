// SPDX-License-Identifier: Apache-2.0
import { InvalidObjectError } from "../crds/errors.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import type { Clock } from "../lib/clock.ts";
import { type Backoff, backoffMs } from "../lib/retry.ts";
import type { KubeClient } from "./api.ts";
import { GoneError } from "./errors.ts";
import { parseObject } from "./replies.ts";

/** A difference between two states of the store. */
export type Change<P> =
  | { readonly type: "added"; readonly key: string; readonly old: undefined; readonly new: P }
  | { readonly type: "modified"; readonly key: string; readonly old: P; readonly new: P }
  | { readonly type: "deleted"; readonly key: string; readonly old: P; readonly new: undefined };

export interface InformerOptions<T extends KubeObject, P> {
  readonly client: KubeClient;
  readonly resource: Resource<T>;
  /** What is kept of an object: the less, the cheaper are ten thousand of them. It may throw: see `onError`. */
  readonly project: (object: T) => P;
  readonly clock: Clock;
  readonly random: () => number;
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** True for two projections that mean the same: no change is told then. Without it every new version is a change. */
  readonly equal?: (a: P, b: P) => boolean;
  /** Hears of every failure, none of which stops the informer: calls, broken objects, handlers that throw. */
  readonly onError?: (error: unknown) => void;
  /** Objects in one answer of the server. */
  readonly pageSize?: number;
}

interface Entry<P> {
  readonly version: string;
  readonly value: P;
}

const BACKOFF: Backoff = { baseMs: 500, maxMs: 30_000 };
/** Larger pages cost memory and save little: 10,000 pods peak at 125 MB with this, at 180 with 500. */
const PAGE_SIZE = 100;
/** A watch is asked to end after 5 to 10 minutes, so that they do not all end together. Units: seconds. */
const WATCH_SECONDS = 300;
/** A watch that is silent for this much longer than it should live is dead, whatever the connection says. */
const SILENCE_GRACE_MS = 30_000;
/** A watch that lived this long was a good one. */
const GOOD_WATCH_MS = 10_000;

/**
 * Keeps a copy of what the API server has of one resource, and tells of every change.
 *
 * Invariants: the store is always a state that the server had, or one on the way from one to the next; handlers hear of
 * each difference exactly once, also of those that a re-list finds; `synced` is fulfilled when the first list is in the
 * store and its handlers have been called. The store is changed synchronously, so a handler sees it as the change left it.
 *
 * Hazards: a list may take several pages, and a watch from its version only follows the last page. A version that the
 * server has forgotten (410) means a new list, whose differences stand for the events that were missed. A watch can die
 * without the connection breaking, hence the limit on silence. An object that cannot be parsed keeps its last good state,
 * since an unreadable object is not a deleted one.
 */
export class Informer<T extends KubeObject, P> {
  readonly synced: Promise<void>;
  readonly #options: InformerOptions<T, P>;
  readonly #entries = new Map<string, Entry<P>>();
  readonly #handlers = new Set<(change: Change<P>) => void>();
  readonly #abort = new AbortController();
  readonly #rawResource: Resource<KubeObject>;
  #fulfilSynced: () => void = () => {};
  #hasSynced = false;
  #running: Promise<void> | undefined;
  /** Where the next watch goes on; empty before a list and after 410. */
  #version = "";
  /** The present watch has brought something. */
  #heard = false;

  constructor(options: InformerOptions<T, P>) {
    this.#options = options;
    // Objects are parsed here and not by the client, since a broken one must be known by its key.
    const { group, version, kind, plural, namespaced } = options.resource;
    this.#rawResource = { group, version, kind, plural, namespaced };
    this.synced = new Promise((resolve) => {
      this.#fulfilSynced = resolve;
    });
  }

  /** Begins to list and watch. Idempotent. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends the watch and resolves when no handler will be called any more. The store stays readable. */
  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** @param key `namespace/name`, or the name alone where there are no namespaces. */
  get(key: string): P | undefined {
    return this.#entries.get(key)?.value;
  }

  *list(): IterableIterator<P> {
    for (const { value } of this.#entries.values()) yield value;
  }

  keys(): IterableIterator<string> {
    return this.#entries.keys();
  }

  /** Calls the handler with each change from now on. Returns what takes it off again. */
  onChange(handler: (change: Change<P>) => void): () => void {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  async #run(): Promise<void> {
    const { clock, random } = this.#options;
    const { signal } = this.#abort;
    let failures = 0;
    while (!signal.aborted) {
      const startMs = clock.nowMs();
      this.#heard = false;
      try {
        if (this.#version === "") await this.#relist(signal);
        await this.#watch(signal);
        // A server that ends each watch at once must not be asked without a pause.
        failures = this.#isGoodWatch(startMs) ? 0 : failures + 1;
      } catch (error) {
        if (signal.aborted) return;
        const isGone = error instanceof GoneError;
        if (isGone) this.#version = "";
        this.#report(error);
        failures = this.#isGoodWatch(startMs) ? 1 : failures + 1;
        // The first 410 is no failure: the answer to it is a list, at once.
        if (isGone && failures === 1) continue;
      }
      if (failures === 0) continue;
      await clock.sleep(backoffMs(BACKOFF, failures, random()), signal).catch(() => {});
    }
  }

  async #relist(signal: AbortSignal): Promise<void> {
    const { client, pageSize = PAGE_SIZE } = this.#options;
    const missing = new Set(this.#entries.keys());
    const found: [string, Entry<P>][] = [];
    let version = "";
    for await (const page of client.listPages(this.#rawResource, { ...this.#selection(), limit: pageSize, signal })) {
      version = page.resourceVersion;
      for (const error of page.invalid) this.#report(error);
      for (const raw of page.items) {
        const key = keyOf(raw);
        missing.delete(key);
        const entry = this.#entryOf(key, raw);
        // Told only when all pages are here: a list that fails half-way must leave no trace.
        if (entry !== undefined) found.push([key, entry]);
      }
    }
    if (signal.aborted) return;
    for (const key of missing) this.#remove(key);
    for (const [key, entry] of found) this.#set(key, entry);
    this.#version = version;
    if (this.#hasSynced) return;
    this.#hasSynced = true;
    this.#fulfilSynced();
  }

  #isGoodWatch(startMs: number): boolean {
    return this.#heard || this.#options.clock.nowMs() - startMs >= GOOD_WATCH_MS;
  }

  /** Watches until the server ends it cleanly, or it falls silent. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { client, clock, random } = this.#options;
    const timeoutSeconds = Math.round(WATCH_SECONDS * (1 + random()));
    const silenceMs = timeoutSeconds * 1000 + SILENCE_GRACE_MS;
    const ended = new AbortController();
    let heardMs = clock.nowMs();
    const silence = (async (): Promise<void> => {
      for (let leftMs = silenceMs; leftMs > 0; leftMs = heardMs + silenceMs - clock.nowMs())
        await clock.sleep(leftMs, AbortSignal.any([signal, ended.signal]));
      this.#report(new Error(`The watch of ${this.#options.resource.plural} fell silent: watching anew`));
      ended.abort();
    })().catch(() => {});
    try {
      const stop = AbortSignal.any([signal, ended.signal]);
      const options = { ...this.#selection(), resourceVersion: this.#version, timeoutSeconds, signal: stop };
      for await (const event of client.watch(this.#rawResource, options)) {
        heardMs = clock.nowMs();
        this.#heard = true;
        if (event.type === "BOOKMARK") this.#version = event.resourceVersion;
        else if (event.type === "INVALID") this.#report(event.error);
        else this.#apply(event.type, event.object);
      }
    } finally {
      ended.abort();
      await silence;
    }
  }

  #apply(type: "ADDED" | "MODIFIED" | "DELETED", raw: KubeObject): void {
    const key = keyOf(raw);
    if (type === "DELETED") this.#remove(key);
    else {
      const entry = this.#entryOf(key, raw);
      if (entry !== undefined) this.#set(key, entry);
    }
    this.#version = raw.metadata.resourceVersion ?? this.#version;
  }

  #selection(): { namespace?: string; labelSelector?: string; fieldSelector?: string } {
    const { namespace, labelSelector, fieldSelector } = this.#options;
    return {
      ...(namespace === undefined ? {} : { namespace }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
    };
  }

  #entryOf(key: string, raw: KubeObject): Entry<P> | undefined {
    const version = raw.metadata.resourceVersion ?? "";
    const old = this.#entries.get(key);
    // A re-list brings mostly what is known: nothing to parse then.
    if (old !== undefined && version !== "" && old.version === version) return old;
    try {
      return { version, value: this.#options.project(parseObject(this.#options.resource, raw)) };
    } catch (error) {
      this.#report(error instanceof InvalidObjectError ? error : new Error(`Cannot use ${key}`, { cause: error }));
      return undefined;
    }
  }

  #set(key: string, entry: Entry<P>): void {
    const old = this.#entries.get(key);
    if (old === entry) return;
    this.#entries.set(key, entry);
    if (old === undefined) this.#tell({ type: "added", key, old: undefined, new: entry.value });
    else if (!this.#options.equal?.(old.value, entry.value))
      this.#tell({ type: "modified", key, old: old.value, new: entry.value });
  }

  #remove(key: string): void {
    const old = this.#entries.get(key);
    if (old === undefined) return;
    this.#entries.delete(key);
    this.#tell({ type: "deleted", key, old: old.value, new: undefined });
  }

  #tell(change: Change<P>): void {
    for (const handler of this.#handlers) {
      try {
        handler(change);
      } catch (error) {
        this.#report(error);
      }
    }
  }

  #report(error: unknown): void {
    this.#options.onError?.(error);
  }
}

/** `namespace/name`, or the name alone for an object of the whole cluster. */
export function keyOf(object: KubeObject): string {
  const { namespace, name } = object.metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}
