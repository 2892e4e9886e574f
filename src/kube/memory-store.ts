// SPDX-License-Identifier: Apache-2.0
import { deepEqual } from "../apiserver/model.ts";
import { parseJSON, stringifyJSON } from "../lib/json.ts";
import { type CallTarget, kubeErrorOf, RequestError } from "./errors.ts";

/** An object as text; `key` is `resource/namespace/name`. */
export interface StoredObject {
  readonly key: string;
  readonly text: string;
}

/** A change of an object, with the text before it. */
export interface StoredChange extends StoredObject {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly oldText: string | undefined;
}

interface Bookmark {
  readonly type: "BOOKMARK";
  readonly resourceVersion: string;
}

type Change = StoredChange | Bookmark;
type Logged = { readonly version: number; readonly change: StoredChange };

interface Meta {
  name: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  finalizers?: readonly string[];
  [field: string]: unknown;
}
type Stored = { metadata: Meta; [field: string]: unknown };

/** What a write may change. A status of Kubernetes' own kinds comes with labels and annotations, a custom resource's alone. */
export type WrittenPart = "all" | "notStatus" | "status" | "statusAndMetadata";

const NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

interface Watcher {
  readonly prefix: string;
  push(change: Change): void;
  end(error?: Error): void;
}

/** The rules of an API server's storage over a map: versions, preconditions, finalizers, a log of changes. */
export class MemoryStore {
  readonly #now: () => number;
  readonly #objects = new Map<string, string>();
  readonly #watchers = new Set<Watcher>();
  #log: Logged[] = [];
  #version = 1;
  #oldest = 1;
  #uids = 0;

  /** @param now Unix time in milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  get resourceVersion(): string {
    return String(this.#version);
  }

  read(target: CallTarget, key: string): StoredObject {
    const text = this.#objects.get(key);
    if (text === undefined) throw kubeErrorOf(target, { status: 404, reason: "NotFound", message: "not found" });
    return { key, text };
  }

  scan(resource: string): StoredObject[] {
    const found = [...this.#objects].filter(([key]) => key.startsWith(`${resource}/`));
    return found.map(([key, text]) => ({ key, text })).sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  create(target: CallTarget, key: string, raw: unknown, options: { readonly dropStatus: boolean }): StoredObject {
    const object = raw as Stored; // the client has checked that it has metadata
    const { name } = object.metadata;
    if (typeof name !== "string" || name.length > 253 || !NAME.test(name)) {
      const causes = [{ reason: "FieldValueInvalid", field: "metadata.name", message: "not an RFC 1123 subdomain" }];
      throw kubeErrorOf(target, { status: 422, reason: "Invalid", message: "metadata.name is invalid", causes });
    }
    if (object.metadata.resourceVersion)
      throw new RequestError(target, { status: 400, message: "resourceVersion must not be set on create" });
    if (this.#objects.has(key))
      throw kubeErrorOf(target, { status: 409, reason: "AlreadyExists", message: `"${name}" already exists` });
    const metadata: Meta = {
      ...object.metadata,
      uid: object.metadata.uid ?? `00000000-0000-4000-8000-${String(++this.#uids).padStart(12, "0")}`,
      generation: 1,
      creationTimestamp: object.metadata.creationTimestamp ?? this.#timestamp(),
    };
    const { status, ...rest } = object;
    return this.#put("ADDED", key, {
      ...rest,
      ...(options.dropStatus || status === undefined ? {} : { status }),
      metadata,
    });
  }

  update(
    target: CallTarget,
    key: string,
    raw: unknown,
    options: { readonly part: WrittenPart; readonly needsVersion: boolean },
  ): StoredObject {
    const given = raw as Stored; // as in create
    const old = parseJSON(this.read(target, key).text) as Stored; // written by create or update
    const version = given.metadata.resourceVersion;
    if (version === undefined && options.needsVersion) {
      const causes = [{ reason: "FieldValueInvalid", field: "metadata.resourceVersion", message: "must be specified" }];
      throw kubeErrorOf(target, {
        status: 422,
        reason: "Invalid",
        message: "metadata.resourceVersion is missing",
        causes,
      });
    }
    checkPreconditions(target, old.metadata, {
      ...(given.metadata.uid === undefined ? {} : { uid: given.metadata.uid }),
      ...(version === undefined ? {} : { resourceVersion: version }),
    });
    const next = merged(old, given, options.part);
    if (!deepEqual(next.spec, old["spec"])) next.object.metadata.generation = (old.metadata.generation ?? 0) + 1;
    if (deepEqual(next.object, old)) return this.read(target, key);
    if (next.object.metadata.deletionTimestamp !== undefined && !next.object.metadata.finalizers?.length) {
      this.#remove(key, next.object);
      return { key, text: stringifyJSON(next.object) };
    }
    return this.#put("MODIFIED", key, next.object);
  }

  delete(
    target: CallTarget,
    key: string,
    preconditions: { readonly uid?: string; readonly resourceVersion?: string },
  ): void {
    const old = parseJSON(this.read(target, key).text) as Stored; // written by create or update
    checkPreconditions(target, old.metadata, preconditions);
    if (!old.metadata.finalizers?.length) this.#remove(key, old);
    else if (old.metadata.deletionTimestamp === undefined)
      this.#put("MODIFIED", key, { ...old, metadata: { ...old.metadata, deletionTimestamp: this.#timestamp() } });
  }

  async *watch(
    target: CallTarget,
    from: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Change, void, undefined> {
    const prefix = `${target.resource}/`;
    const queue: Change[] = [];
    if (from === "" || from === "0") {
      for (const stored of this.scan(target.resource)) queue.push({ type: "ADDED", ...stored, oldText: undefined });
    } else {
      if (Number(from) < this.#oldest)
        throw kubeErrorOf(target, { status: 410, reason: "Expired", message: `too old resource version: ${from}` });
      for (const { version, change } of this.#log) {
        if (version > Number(from) && change.key.startsWith(prefix)) queue.push(change);
      }
    }
    let wake = (): void => {};
    let ended = false;
    let failure: Error | undefined;
    const watcher: Watcher = {
      prefix,
      push: (change) => {
        queue.push(change);
        wake();
      },
      end: (error) => {
        failure = error;
        ended = true;
        wake();
      },
    };
    const aborted = (): void => watcher.end();
    signal?.addEventListener("abort", aborted);
    this.#watchers.add(watcher);
    try {
      while (!signal?.aborted) {
        const change = queue.shift();
        if (change !== undefined) yield change;
        else if (failure !== undefined) throw failure;
        else if (ended) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      this.#watchers.delete(watcher);
      signal?.removeEventListener("abort", aborted);
    }
  }

  compact(): void {
    this.#log = [];
    this.#oldest = ++this.#version;
  }

  sendBookmark(resource: string): void {
    this.#emit(`${resource}/`, { type: "BOOKMARK", resourceVersion: this.resourceVersion });
  }

  endWatches(error?: Error): void {
    for (const watcher of this.#watchers) watcher.end(error);
  }

  #put(type: "ADDED" | "MODIFIED", key: string, object: Stored): StoredObject {
    const oldText = this.#objects.get(key);
    object.metadata.resourceVersion = String(++this.#version);
    const text = stringifyJSON(object);
    this.#objects.set(key, text);
    this.#record({ type, key, text, oldText });
    return { key, text };
  }

  #remove(key: string, object: Stored): void {
    const oldText = this.#objects.get(key);
    this.#objects.delete(key);
    const text = stringifyJSON({
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(++this.#version) },
    });
    this.#record({ type: "DELETED", key, text, oldText });
  }

  #record(change: StoredChange): void {
    this.#log.push({ version: this.#version, change });
    this.#emit(change.key, change);
  }

  #emit(key: string, change: Change): void {
    for (const watcher of this.#watchers) if (key.startsWith(watcher.prefix)) watcher.push(change);
  }

  #timestamp(): string {
    return new Date(this.#now()).toISOString().replace(/\.\d+Z$/, "Z");
  }
}

/** What is stored after a write: a status write changes nothing of the spec, and other writes leave the status alone. */
function merged(old: Stored, given: Stored, part: WrittenPart): { object: Stored; spec: unknown } {
  const { uid, creationTimestamp, resourceVersion, generation, deletionTimestamp } = old.metadata;
  const kept = { uid, creationTimestamp, resourceVersion, generation, deletionTimestamp };
  const metadata = Object.fromEntries(
    Object.entries({ ...given.metadata, ...kept }).filter(([, value]) => value !== undefined),
  ) as Meta; // the name is in given.metadata
  const { status, ...rest } = given;
  if (part === "status" || part === "statusAndMetadata") {
    const object = { ...old, metadata: part === "status" ? { ...old.metadata } : metadata, status };
    return { object, spec: old["spec"] };
  }
  const keep = part === "all" ? status : old["status"];
  return { object: { ...rest, ...(keep === undefined ? {} : { status: keep }), metadata }, spec: given["spec"] };
}

function checkPreconditions(
  target: CallTarget,
  actual: Meta,
  wanted: { readonly uid?: string; readonly resourceVersion?: string },
): void {
  for (const field of ["uid", "resourceVersion"] as const) {
    if (wanted[field] === undefined || wanted[field] === actual[field]) continue;
    const message = `the precondition ${field} is ${wanted[field]}, the object's is ${actual[field]}`;
    throw kubeErrorOf(target, { status: 409, reason: "Conflict", message });
  }
}
