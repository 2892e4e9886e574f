// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock, IPAMBlockStatus } from "../crds/ipam-block.ts";
import { IPAMError } from "./errors.ts";
import type {
  CreateOutcome,
  DeleteOutcome,
  IPAMStore,
  Refused,
  StatusOutcome,
  StoredKind,
  StoredKinds,
  Unknown,
  UpdateOutcome,
} from "./ports.ts";

type Stored = StoredKinds[StoredKind];

/** One request as an API server counts them: a deletion is two. */
export interface StoreRequest {
  readonly verb: "get" | "list" | "create" | "update" | "delete" | "status";
  readonly kind: StoredKind;
  readonly name: string;
  /** A write. */
  readonly isWrite: boolean;
}

/**
 * What a request meets: `lost` loses the answer of a write that is taken, `late` answers before the write is taken
 * some time later, `down` is a server that cannot be reached, `refuse` says no.
 */
export type StoreFault = "conflict" | "lost" | "late" | "down" | "refuse";

export interface MemoryStoreOptions {
  /** Called before each request; it may wait, and may name a fault. */
  readonly onRequest?: (request: StoreRequest) => Promise<StoreFault | undefined> | StoreFault | undefined;
  /** Decides when a `late` write lands. */
  readonly later?: (write: () => void) => void;
  /** False: like a CRD without the status subresource. */
  readonly hasStatus?: boolean;
}

/**
 * IPAMStore over maps, for tests: resourceVersions, compare-and-swap, tombstones, and every way in which a request can
 * go wrong. It passes `store.contract.ts`, which the store over the Kubernetes API passes, too.
 */
export class MemoryStore implements IPAMStore {
  readonly requests: StoreRequest[] = [];
  readonly #objects = new Map<string, Stored>();
  readonly #options: MemoryStoreOptions;
  #version = 0;

  constructor(options: MemoryStoreOptions = {}) {
    this.#options = options;
  }

  async get<K extends StoredKind>(kind: K, name: string): Promise<StoredKinds[K] | undefined> {
    await this.#read({ verb: "get", kind, name, isWrite: false });
    const found = this.peek(kind, name);
    if (found === undefined || !isTombstone(found)) return found;
    await this.#finish(kind, found);
    return undefined;
  }

  async *pages<K extends StoredKind>(kind: K): AsyncGenerator<readonly StoredKinds[K][], void, undefined> {
    await this.#read({ verb: "list", kind, name: "", isWrite: false });
    yield this.all(kind);
  }

  async create<K extends StoredKind>(kind: K, object: StoredKinds[K]): Promise<CreateOutcome<StoredKinds[K]>> {
    const { name } = object.metadata;
    return await this.#write({ verb: "create", kind, name, isWrite: true }, (): CreateOutcome<StoredKinds[K]> => {
      if (this.peek(kind, name) !== undefined) return { kind: "exists" };
      return { kind: "ok", object: this.#put(kind, withoutStatus(object), { uid: `uid-${this.#version + 1}` }) };
    });
  }

  async update<K extends StoredKind>(kind: K, object: StoredKinds[K]): Promise<UpdateOutcome<StoredKinds[K]>> {
    const { name } = object.metadata;
    return await this.#write(
      { verb: "update", kind, name, isWrite: true },
      (): UpdateOutcome<StoredKinds[K]> => {
        const stored = this.peek(kind, name);
        if (stored === undefined) return { kind: "notFound" };
        if (stored.metadata.resourceVersion !== object.metadata.resourceVersion) return { kind: "conflict" };
        const status = kind === "block" ? statusOf(stored) : {};
        return { kind: "ok", object: this.#put(kind, { ...withoutStatus(object), ...status }, {}) };
      },
      { kind: "conflict" },
    );
  }

  async delete<K extends StoredKind>(kind: K, object: StoredKinds[K]): Promise<DeleteOutcome> {
    let marked = object;
    if (!isTombstone(object)) {
      // The mark of each kind has its own type; the kind stays what it is.
      const deleted = kind === "affinity" ? "true" : true;
      const outcome = await this.update(kind, { ...object, spec: { ...object.spec, deleted } } as StoredKinds[K]);
      if (outcome.kind === "notFound") return { kind: "ok" };
      if (outcome.kind !== "ok") return outcome;
      marked = outcome.object;
    }
    return await this.#finish(kind, marked);
  }

  async updateBlockStatus(block: IPAMBlock, status: IPAMBlockStatus): Promise<StatusOutcome> {
    const { name } = block.metadata;
    return await this.#write({ verb: "status", kind: "block", name, isWrite: true }, (): StatusOutcome => {
      const stored = this.peek("block", name);
      if (stored === undefined) return { kind: "notFound" };
      if (this.#options.hasStatus === false) return { kind: "unsupported" };
      if (stored.metadata.resourceVersion !== block.metadata.resourceVersion) return { kind: "conflict" };
      return { kind: "ok", object: this.#put("block", { ...stored, status }, {}) };
    });
  }

  /** What is stored, past every hook. */
  peek<K extends StoredKind>(kind: K, name: string): StoredKinds[K] | undefined {
    // Keys begin with the kind, so what is found is of the kind.
    return this.#objects.get(`${kind}/${name}`) as StoredKinds[K] | undefined;
  }

  /** Everything that is stored, past every hook. */
  all<K extends StoredKind>(kind: K): readonly StoredKinds[K][] {
    const found = [...this.#objects].filter(([key]) => key.startsWith(`${kind}/`)).sort(([a], [b]) => (a < b ? -1 : 1));
    return found.map(([, object]) => object as StoredKinds[K]); // as in peek
  }

  async #finish(kind: StoredKind, object: Stored): Promise<DeleteOutcome> {
    const { name, uid } = object.metadata;
    return await this.#write({ verb: "delete", kind, name, isWrite: true }, (): DeleteOutcome => {
      if (this.peek(kind, name)?.metadata.uid === uid) this.#objects.delete(`${kind}/${name}`);
      return { kind: "ok" };
    });
  }

  #put<K extends StoredKind>(kind: K, object: StoredKinds[K], meta: { readonly uid?: string }): StoredKinds[K] {
    const resourceVersion = String(++this.#version);
    const stored = { ...object, metadata: { ...object.metadata, ...meta, resourceVersion } };
    this.#objects.set(`${kind}/${object.metadata.name}`, stored);
    return stored;
  }

  async #read(request: StoreRequest): Promise<void> {
    this.requests.push(request);
    const fault = await this.#options.onRequest?.(request);
    if (fault === "down" || fault === "lost" || fault === "late") throw unreachable(request);
  }

  async #write<T>(request: StoreRequest, act: () => T, conflict?: T): Promise<T | Unknown | Refused> {
    this.requests.push(request);
    const fault = await this.#options.onRequest?.(request);
    if (fault === undefined) return act();
    if (fault === "conflict") return conflict ?? act();
    if (fault === "refuse") return { kind: "refused", error: new Error("refused by the test"), isBusy: false };
    if (fault === "lost") act();
    if (fault === "late") (this.#options.later ?? setImmediate)(act);
    return { kind: "unknown", error: unreachable(request) };
  }
}

function isTombstone(object: Stored): boolean {
  return object.spec.deleted === true || object.spec.deleted === "true";
}

/** Status has an endpoint of its own, so other writes do not carry it. */
function withoutStatus<T extends Stored>(object: T): T {
  const { status: _status, ...rest } = object as T & { status?: unknown };
  return rest as T; // status is optional in every kind
}

function statusOf(object: Stored): { readonly status?: IPAMBlockStatus } {
  return "status" in object && object.status !== undefined ? { status: object.status } : {};
}

function unreachable(request: StoreRequest): IPAMError {
  return new IPAMError(
    "Datastore",
    `Cannot ${request.verb} ${request.kind} ${request.name}: the test took the server away`,
  );
}
