// SPDX-License-Identifier: Apache-2.0
import { parseFieldSelector, parseLabelSelector } from "../apiserver/selector.ts";
import { InvalidObjectError } from "../crds/errors.ts";
import { KINDS } from "../crds/kinds.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import type { Clock } from "../lib/clock.ts";
import { parseJSON, stringifyJSON } from "../lib/json.ts";
import type { CallOptions, KubeClient, ListOptions, ListResult, PatchType, WatchEvent, WatchOptions } from "./api.ts";
import { type CallTarget, kubeErrorOf, RequestError, resourceName } from "./errors.ts";
import { applyJSONPatch, applyMergePatch, applyStrategicPatch } from "./memory-patch.ts";
import { MemoryStore, type StoredChange, type WrittenPart } from "./memory-store.ts";

/** One call of the client under test, as `calls` records it and `onCall` sees it. */
export interface MemoryCall {
  readonly verb: "get" | "list" | "watch" | "create" | "update" | "patch" | "delete";
  readonly resource: Resource<KubeObject>;
  readonly name?: string;
  readonly subresource?: "status";
  /** What is written by create and update. */
  readonly object?: KubeObject;
}

/** What `onCall` can do to a call: fail it before it happens, or let it happen and lose the answer. */
export type Fault = { readonly kind: "fail" | "loseAnswer"; readonly error: Error };

export type OnCall = (call: MemoryCall) => Fault | undefined | Promise<Fault | undefined>;

export interface MemoryClientOptions {
  /** Source of creation times; without one every object is as old as time. */
  readonly clock?: Clock;
}

type ByName = CallOptions & { readonly subresource?: "status" };
type Preconditions = { readonly uid?: string; readonly resourceVersion?: string };

const HAS_STATUS = new Set([
  "namespaces",
  "nodes",
  "pods",
  ...KINDS.filter((kind) => kind.statusSubresource).map((kind) => resourceName(kind.resource)),
]);

/**
 * A KubeClient over maps, for tests: resourceVersions, compare-and-swap, preconditions, finalizers, the status
 * subresource, selectors and watch behave as an API server's do; there is no schema and no server-side apply.
 *
 * Objects are kept as text, so that nobody shares memory with the store. It passes `client.contract.ts`, which real
 * servers pass, too. For tests: `calls` to count, `onCall` to inject faults and to hold calls, `seed`, `compact`,
 * `sendBookmark`, `endWatches`.
 */
export class MemoryClient implements KubeClient {
  readonly calls: MemoryCall[] = [];
  onCall: OnCall | undefined;
  readonly #store: MemoryStore;

  constructor(options: MemoryClientOptions = {}) {
    this.#store = new MemoryStore(() => options.clock?.nowMs() ?? 0);
  }

  async get<T extends KubeObject>(resource: Resource<T>, name: string, options: CallOptions = {}): Promise<T> {
    const target = targetOf("get", resource, name, options);
    return await this.#call({ verb: "get", resource, name }, options, () =>
      parse(resource, this.#store.read(target, keyOf(resource, name, target)).text),
    );
  }

  async list<T extends KubeObject>(resource: Resource<T>, options: ListOptions = {}): Promise<ListResult<T>> {
    const items: T[] = [];
    const invalid: InvalidObjectError[] = [];
    let resourceVersion = "";
    for await (const page of this.listPages(resource, options)) {
      items.push(...page.items);
      invalid.push(...page.invalid);
      resourceVersion = page.resourceVersion;
    }
    return { items, invalid, resourceVersion };
  }

  async *listPages<T extends KubeObject>(
    resource: Resource<T>,
    options: ListOptions = {},
  ): AsyncGenerator<ListResult<T>, void, undefined> {
    const matches = matcherOf("list", resource, options);
    const call: MemoryCall = { verb: "list", resource };
    const { found, resourceVersion } = await this.#call(call, options, () => ({
      found: this.#store.scan(resourceName(resource)).filter((stored) => matches(parseJSON(stored.text))),
      resourceVersion: this.#store.resourceVersion,
    }));
    const size = options.limit ?? Math.max(1, found.length);
    for (let at = 0; at === 0 || at < found.length; at += size) {
      if (at > 0) await this.#call(call, options, () => undefined);
      const page = found.slice(at, at + size).map((stored) => parseOrError(resource, stored.text));
      yield {
        items: page.filter((item) => !(item instanceof InvalidObjectError)) as T[], // what is no error is a T
        invalid: page.filter((item) => item instanceof InvalidObjectError),
        resourceVersion,
      };
    }
  }

  async *watch<T extends KubeObject>(
    resource: Resource<T>,
    options: WatchOptions,
  ): AsyncGenerator<WatchEvent<T>, void, undefined> {
    const matches = matcherOf("watch", resource, options);
    const target = targetOf("watch", resource, undefined, options);
    await this.#call({ verb: "watch", resource }, {}, () => undefined);
    for await (const change of this.#store.watch(target, options.resourceVersion, options.signal)) {
      if (change.type === "BOOKMARK") {
        yield { type: "BOOKMARK", resourceVersion: change.resourceVersion };
        continue;
      }
      const type = seenAs(change, matches);
      if (type === undefined) continue;
      const object = parseOrError(resource, change.text);
      if (object instanceof InvalidObjectError) yield { type: "INVALID", error: object };
      else yield { type, object };
    }
  }

  async create<T extends KubeObject>(resource: Resource<T>, object: T, options: CallOptions = {}): Promise<T> {
    const name = object.metadata.name;
    const target = targetOf("create", resource, name, options, object);
    return await this.#call({ verb: "create", resource, name, object }, options, () => {
      const stored = this.#store.create(target, keyOf(resource, name, target), jsonOf(resource, object, target), {
        // A kubelet registers its node together with the status; other kinds lose theirs.
        dropStatus: HAS_STATUS.has(resourceName(resource)) && resource.plural !== "nodes",
      });
      return parse(resource, stored.text);
    });
  }

  async update<T extends KubeObject>(resource: Resource<T>, object: T, options: ByName = {}): Promise<T> {
    const name = object.metadata.name;
    const target = targetOf("update", resource, name, options, object);
    const call: MemoryCall = { verb: "update", resource, name, object, ...sub(options) };
    return await this.#call(call, options, () => {
      const key = keyOf(resource, name, target);
      const stored = this.#store.update(target, key, jsonOf(resource, object, target), {
        part: partOf(resource, target, options),
        // Custom resources cannot be overwritten blindly; Kubernetes' own kinds mostly can.
        needsVersion: resource.group !== "",
      });
      return parse(resource, stored.text);
    });
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    patch: { readonly type: PatchType; readonly body: unknown },
    options: ByName = {},
  ): Promise<T> {
    const target = targetOf("patch", resource, name, options);
    return await this.#call({ verb: "patch", resource, name, ...sub(options) }, options, () => {
      const key = keyOf(resource, name, target);
      const old = parseJSON(this.#store.read(target, key).text);
      const changed = patched(target, old, patch);
      const part = partOf(resource, target, options);
      return parse(resource, this.#store.update(target, key, changed, { part, needsVersion: false }).text);
    });
  }

  async delete<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    options: CallOptions & { readonly preconditions?: Preconditions } = {},
  ): Promise<void> {
    const target = targetOf("delete", resource, name, options);
    await this.#call({ verb: "delete", resource, name }, options, () =>
      this.#store.delete(target, keyOf(resource, name, target), options.preconditions ?? {}),
    );
  }

  /** Stores an object, status and all, past every check and hook, as if it had been there before. */
  seed<T extends KubeObject>(resource: Resource<T>, object: T): T {
    const target = targetOf("create", resource, object.metadata.name, {}, object);
    const key = keyOf(resource, object.metadata.name, target);
    return parse(
      resource,
      this.#store.create(target, key, jsonOf(resource, object, target), { dropStatus: false }).text,
    );
  }

  /** Forgets all changes so far: watches from an older resourceVersion get 410. */
  compact(): void {
    this.#store.compact();
  }

  /** Sends every open watch of a resource a bookmark. */
  sendBookmark(resource: Resource<KubeObject>): void {
    this.#store.sendBookmark(resourceName(resource));
  }

  /** Ends all open watches, cleanly or with an error. */
  endWatches(error?: Error): void {
    this.#store.endWatches(error);
  }

  async #call<R>(call: MemoryCall, options: CallOptions, act: () => R): Promise<R> {
    options.signal?.throwIfAborted();
    this.calls.push(call);
    const fault = await this.onCall?.(call);
    options.signal?.throwIfAborted();
    if (fault?.kind === "fail") throw fault.error;
    const result = act();
    if (fault?.kind === "loseAnswer") throw fault.error;
    return result;
  }
}

function sub(options: ByName): { readonly subresource?: "status" } {
  return options.subresource === undefined ? {} : { subresource: options.subresource };
}

function targetOf(
  verb: string,
  resource: Resource<KubeObject>,
  objectName: string | undefined,
  options: CallOptions,
  object?: KubeObject,
): CallTarget {
  const namespace = options.namespace ?? object?.metadata.namespace;
  return {
    verb,
    resource: resourceName(resource),
    ...(objectName === undefined ? {} : { objectName }),
    ...(resource.namespaced && namespace !== undefined ? { namespace } : {}),
  };
}

function keyOf(resource: Resource<KubeObject>, name: string, target: CallTarget): string {
  if (resource.namespaced && target.namespace === undefined)
    throw new RequestError(target, { status: 400, message: "a namespace is needed" });
  return `${resourceName(resource)}/${target.namespace ?? ""}/${name}`;
}

function jsonOf(resource: Resource<KubeObject>, object: KubeObject, target: CallTarget): unknown {
  const { namespace } = target;
  const metadata = namespace === undefined ? object.metadata : { ...object.metadata, namespace };
  const apiVersion = resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
  return parseJSON(stringifyJSON({ ...object, apiVersion, kind: resource.kind, metadata }));
}

function parse<T extends KubeObject>(resource: Resource<T>, text: string): T {
  const raw = parseJSON(text);
  // Without a parse the type is the caller's claim, as the port says.
  return resource.parse ? resource.parse(raw) : (raw as T);
}

function parseOrError<T extends KubeObject>(resource: Resource<T>, text: string): T | InvalidObjectError {
  try {
    return parse(resource, text);
  } catch (error) {
    if (error instanceof InvalidObjectError) return error;
    throw error;
  }
}

function partOf(resource: Resource<KubeObject>, target: CallTarget, options: ByName): WrittenPart {
  const hasStatus = HAS_STATUS.has(resourceName(resource));
  if (options.subresource === undefined) return hasStatus ? "notStatus" : "all";
  if (!hasStatus) throw kubeErrorOf(target, { status: 404, message: "the kind has no status subresource" });
  return resource.group === "" ? "statusAndMetadata" : "status";
}

function patched(target: CallTarget, old: unknown, patch: { type: PatchType; body: unknown }): unknown {
  try {
    if (patch.type === "merge") return applyMergePatch(old, patch.body);
    if (patch.type === "strategic") return applyStrategicPatch(old, patch.body);
    if (patch.type === "json") return applyJSONPatch(old, patch.body);
  } catch (cause) {
    throw kubeErrorOf(target, { status: 422, reason: "Invalid", message: String(cause) }, { cause });
  }
  throw new RequestError(target, { status: 415, message: "the memory client has no server-side apply" });
}

type Matches = (object: unknown) => boolean;

function matcherOf(
  verb: string,
  resource: Resource<KubeObject>,
  options: CallOptions & { readonly labelSelector?: string; readonly fieldSelector?: string },
): Matches {
  const kind = KINDS.find((k) => resourceName(k.resource) === resourceName(resource));
  const paths = ["metadata.name", "metadata.namespace", ...(kind?.selectableFields ?? []).map((p) => p.slice(1))];
  if (resource.group === "" && resource.plural === "pods") paths.push("spec.nodeName", "status.phase", "status.podIP");
  const fields = new Map(paths.map((path) => [path, (object: object) => textAt(object, path)]));
  try {
    const labels = parseLabelSelector(options.labelSelector ?? "");
    const selected = parseFieldSelector(options.fieldSelector ?? "", fields, resource.kind);
    return (raw) => {
      // Only what `create` and `seed` stored comes here: objects with metadata.
      const object = raw as Parameters<NonNullable<typeof labels>>[0];
      const inNamespace = options.namespace === undefined || object.metadata.namespace === options.namespace;
      return inNamespace && (labels?.(object) ?? true) && (selected?.matches(object) ?? true);
    };
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new RequestError(targetOf(verb, resource, undefined, options), { status: 400, message }, { cause });
  }
}

function textAt(object: object, path: string): string {
  let value: unknown = object;
  for (const part of path.split("."))
    value = typeof value === "object" && value !== null ? Reflect.get(value, part) : undefined;
  return typeof value === "string" ? value : "";
}

/** How a watch with selectors sees a change: an object that stops matching is deleted, as far as it is concerned. */
function seenAs(change: StoredChange, matches: Matches): "ADDED" | "MODIFIED" | "DELETED" | undefined {
  const is = matches(parseJSON(change.text));
  if (change.type === "ADDED") return is ? "ADDED" : undefined;
  const was = change.oldText !== undefined && matches(parseJSON(change.oldText));
  if (change.type === "DELETED") return was ? "DELETED" : undefined;
  if (was) return is ? "MODIFIED" : "DELETED";
  return is ? "ADDED" : undefined;
}
