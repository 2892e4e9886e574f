// SPDX-License-Identifier: Apache-2.0
import { describeError } from "../lib/errors.ts";
import { stringifyJSON } from "../lib/json.ts";
import type { Entry, StoreEvent } from "./entry.ts";
import { internal, StatusError } from "./errors.ts";
import { EventLog } from "./event-log.ts";
import type { ApiObject } from "./model.ts";
import type { Persistence } from "./persistence.ts";
import { SortedMap } from "./sorted-map.ts";

/** What a write may do; it sees its own changes and those of writes before it that are not on disk yet. */
export interface Transaction {
  get(resource: string, key: string): Entry | undefined;
  list(resource: string, prefix?: string): Entry[];
  /** Gives the object its resourceVersion and stages it; the object is the store's from now on. */
  put(resource: string, key: string, object: ApiObject): Entry;
  /** Stages the removal; the result is the last state, with the resourceVersion of the removal. */
  remove(entry: Entry): Entry;
}

interface Batch {
  readonly changes: StoreEvent[];
  readonly done: Promise<void>;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * All objects, in memory, and behind them the disk.
 *
 * Invariants: readers and watchers see only what is on disk; writers see the newest staged state. One counter numbers
 * every change of every object, and changes become visible in its order. Writes that come in the same turn of the event
 * loop share one transaction and one sync: while a sync runs, requests gather in their sockets and form the next turn.
 */
export class Store {
  readonly log: EventLog;
  readonly #persistence: Persistence;
  readonly #committed = new Map<string, SortedMap<Entry>>();
  readonly #staged = new Map<string, Entry | undefined>();
  #revision: number;
  #stagedRevision: number;
  #batch: Batch | undefined;
  #isClosed = false;

  constructor(persistence: Persistence, historyLength: number) {
    this.#persistence = persistence;
    const { entries, revision } = persistence.load();
    for (const entry of entries) this.#place(entry.resource).set(entry.key, entry);
    this.#revision = revision;
    this.#stagedRevision = revision;
    this.log = new EventLog(historyLength, revision);
  }

  /** The newest number that readers can see. */
  get revision(): number {
    return this.#revision;
  }

  get(resource: string, key: string): Entry | undefined {
    return this.#committed.get(resource)?.get(key);
  }

  /** All entries of a resource whose key begins with the prefix, in the order of keys. */
  list(resource: string, prefix = ""): readonly Entry[] {
    return this.#committed.get(resource)?.range(prefix) ?? [];
  }

  /**
   * Runs a write and answers when it is on disk. A refusal is answered after the changes that it was judged by are
   * visible, so that a client which reads again after a conflict does not see the old state.
   *
   * Atomic: all changes of one call, or none. Errors: what `change` throws; StatusError 500 when the disk refuses.
   */
  async write<T>(change: (transaction: Transaction) => T): Promise<T> {
    if (this.#isClosed) throw new StatusError(503, "ServiceUnavailable", "the server is shutting down");
    const transaction = new StagedTransaction(this, this.#stagedRevision);
    let result: T;
    try {
      result = change(transaction);
    } catch (error) {
      await this.#batch?.done;
      throw error;
    }
    if (transaction.changes.length === 0) {
      await this.#batch?.done;
      return result;
    }
    const batch = this.#openBatch();
    this.#stagedRevision = transaction.revision;
    for (const event of transaction.changes) {
      batch.changes.push(event);
      this.#staged.set(
        stagedKey(event.entry.resource, event.entry.key),
        event.type === "DELETED" ? undefined : event.entry,
      );
    }
    await batch.done;
    return result;
  }

  staged(resource: string, key: string): Entry | undefined {
    const id = stagedKey(resource, key);
    return this.#staged.has(id) ? this.#staged.get(id) : this.get(resource, key);
  }

  stagedList(resource: string, prefix: string, own: readonly StoreEvent[]): Entry[] {
    const entries = new Map(this.list(resource, prefix).map((entry) => [entry.key, entry]));
    for (const event of [...(this.#batch?.changes ?? []), ...own]) {
      const { entry } = event;
      if (entry.resource !== resource || !entry.key.startsWith(prefix)) continue;
      if (event.type === "DELETED") entries.delete(entry.key);
      else entries.set(entry.key, entry);
    }
    return [...entries.values()];
  }

  /** Writes out what is staged and closes the disk. */
  close(): void {
    if (this.#isClosed) return;
    this.#flush();
    this.#isClosed = true;
    this.#persistence.close(this.#revision);
  }

  #openBatch(): Batch {
    if (this.#batch === undefined) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      promise.catch(() => undefined);
      this.#batch = { changes: [], done: promise, resolve, reject };
      // setImmediate runs after all sockets that have data were read: whatever arrived meanwhile is in the same batch.
      setImmediate(() => this.#flush());
    }
    return this.#batch;
  }

  #flush(): void {
    const batch = this.#batch;
    if (batch === undefined) return;
    this.#batch = undefined;
    this.#staged.clear();
    try {
      this.#persistence.commit(batch.changes, this.#stagedRevision);
    } catch (error) {
      this.#stagedRevision = this.#revision;
      batch.reject(internal(`cannot store the change: ${describeError(error)}`, error));
      return;
    }
    for (const { type, entry } of batch.changes) {
      const place = this.#place(entry.resource);
      if (type === "DELETED") place.delete(entry.key);
      else place.set(entry.key, entry);
    }
    this.#revision = this.#stagedRevision;
    this.log.append(batch.changes);
    batch.resolve();
  }

  #place(resource: string): SortedMap<Entry> {
    const place = this.#committed.get(resource) ?? new SortedMap<Entry>();
    this.#committed.set(resource, place);
    return place;
  }
}

function stagedKey(resource: string, key: string): string {
  return `${resource} ${key}`;
}

class StagedTransaction implements Transaction {
  readonly changes: StoreEvent[] = [];
  revision: number;
  readonly #store: Store;

  constructor(store: Store, revision: number) {
    this.#store = store;
    this.revision = revision;
  }

  get(resource: string, key: string): Entry | undefined {
    const own = this.changes.findLast((c) => c.entry.key === key && c.entry.resource === resource);
    if (own === undefined) return this.#store.staged(resource, key);
    return own.type === "DELETED" ? undefined : own.entry;
  }

  list(resource: string, prefix = ""): Entry[] {
    return this.#store.stagedList(resource, prefix, this.changes);
  }

  put(resource: string, key: string, object: ApiObject): Entry {
    const previous = this.get(resource, key);
    const entry = this.#number(resource, key, object);
    this.changes.push({ type: previous === undefined ? "ADDED" : "MODIFIED", entry, previous });
    return entry;
  }

  remove(previous: Entry): Entry {
    const object = { ...previous.object, metadata: { ...previous.object.metadata } };
    const entry = this.#number(previous.resource, previous.key, object);
    this.changes.push({ type: "DELETED", entry, previous });
    return entry;
  }

  #number(resource: string, key: string, object: ApiObject): Entry {
    const revision = ++this.revision;
    object.metadata.resourceVersion = String(revision);
    return { resource, key, revision, object, text: stringifyJSON(object) };
  }
}
