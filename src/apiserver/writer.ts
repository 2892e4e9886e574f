// SPDX-License-Identifier: Apache-2.0
import { randomInt, randomUUID } from "node:crypto";
import { stringifyJSON } from "../lib/json.ts";
import { applyPatch, type PatchBody } from "./apply.ts";
import { crdTarget, isCRD } from "./crd.ts";
import type { Entry } from "./entry.ts";
import { alreadyExists, badRequest, forbidden, type Named, notFound, StatusError } from "./errors.ts";
import {
  beginLife,
  checkDelete,
  checkFinalizers,
  compare,
  continueLife,
  type DeleteOptions,
  type FieldValidation,
  isFinished,
  timestamp,
  toApiObject,
  validate,
} from "./lifecycle.ts";
import { adoptManagers, type Manager, recordManager } from "./managed-fields.ts";
import { type ApiObject, clone } from "./model.ts";
import { type Registry, type ResourceDef, storageKey } from "./resource.ts";
import type { Store, Transaction } from "./store.ts";

/** What every write says besides its body. */
export interface WriteContext {
  readonly def: ResourceDef;
  readonly namespace: string;
  /** Empty only for a create, where the body may name the object. */
  readonly name: string;
  readonly subresource: "" | "status";
  readonly dryRun: boolean;
  readonly fieldValidation: FieldValidation;
  readonly manager: Manager;
  /** Refuses by what is stored, such as "not a pod of your node". @throws StatusError 403 */
  readonly admit: (stored: ApiObject | undefined) => void;
}

export interface WriteResult {
  readonly status: 200 | 201;
  readonly entry: Entry;
  readonly warnings: readonly string[];
  /** The object is gone; `entry` is its last state. */
  readonly isRemoved: boolean;
}

const NAMESPACES: Named = { group: "", plural: "namespaces", kind: "Namespace" };

/** Every change of an object goes through here: what a write means, in one transaction of the store. */
export class Writer {
  readonly #store: Store;
  readonly #registry: Registry;
  readonly #nowMs: () => number;

  constructor(store: Store, registry: Registry, nowMs: () => number) {
    this.#store = store;
    this.#registry = registry;
    this.#nowMs = nowMs;
  }

  create(context: WriteContext, body: unknown): Promise<WriteResult> {
    const object = toApiObject(body, context.def, context.namespace, context.name);
    return this.#store.write((tx) => this.#create(tx, context, object));
  }

  update(context: WriteContext, body: unknown): Promise<WriteResult> {
    const object = toApiObject(body, context.def, context.namespace, context.name);
    return this.#store.write((tx) => this.#update(tx, context, () => object));
  }

  /** A server-side apply creates what is not there; the other patches need an object. */
  patch(context: WriteContext, patch: PatchBody): Promise<WriteResult> {
    const { def, namespace, name, manager, subresource } = context;
    const isApply = patch.type === "apply";
    const patched = (stored: ApiObject | undefined): ApiObject =>
      toApiObject(applyPatch(def, stored, patch, { manager, subresource, time: this.#time() }), def, namespace, name);
    return this.#store.write((tx) => {
      const isThere = tx.get(storageKey(def), keyOf(context, name)) !== undefined;
      if (isApply && !isThere && subresource === "") return this.#create(tx, context, patched(undefined), isApply);
      return this.#update(tx, context, patched, isApply);
    });
  }

  delete(context: WriteContext, options: DeleteOptions): Promise<WriteResult> {
    const { def, name } = context;
    return this.#store.write((tx) => {
      const key = keyOf(context, name);
      const old = tx.get(storageKey(def), key);
      if (old === undefined) throw notFound(def, name);
      context.admit(old.object);
      checkDelete(def, old.object, options, key);
      return this.#delete(tx, def, old, context.dryRun);
    });
  }

  /** Deletes what the matcher picks, in one transaction. */
  deleteCollection(context: WriteContext, picks: (object: ApiObject) => boolean): Promise<Entry[]> {
    const { def, namespace } = context;
    return this.#store.write((tx) => {
      const entries = tx.list(storageKey(def), namespace === "" ? "" : `${namespace}/`).filter((e) => picks(e.object));
      for (const entry of entries) context.admit(entry.object);
      for (const entry of entries) this.#delete(tx, def, entry, context.dryRun);
      return entries;
    });
  }

  #time(): string {
    return timestamp(this.#nowMs());
  }

  #create(tx: Transaction, context: WriteContext, object: ApiObject, isApply = false): WriteResult {
    const { def, dryRun } = context;
    const resource = storageKey(def);
    if (object.metadata.name === "" && object.metadata.generateName) {
      object.metadata.name = freeName(
        object.metadata.generateName,
        (name) => tx.get(resource, keyOf(context, name)) !== undefined,
      );
    }
    const { managedFields, resourceVersion } = object.metadata;
    if (resourceVersion !== undefined && resourceVersion !== "") {
      throw badRequest("resourceVersion should not be set on objects to be created");
    }
    context.admit(undefined);
    beginLife(def, object, randomUUID(), this.#nowMs());
    if (isApply && managedFields !== undefined) object.metadata.managedFields = managedFields;
    const warnings = validate(def, object, context.fieldValidation);
    def.check?.(object, undefined);
    if (!isApply) recordManager(def, undefined, object, context.manager, "", this.#time());
    if (def.namespaced) checkNamespace(tx, def, context.namespace, object.metadata.name);
    const key = keyOf(context, object.metadata.name);
    if (tx.get(resource, key) !== undefined) throw alreadyExists(def, object.metadata.name);
    const entry = dryRun ? preview(resource, key, object) : tx.put(resource, key, object);
    return { status: 201, entry, warnings, isRemoved: false };
  }

  #update(
    tx: Transaction,
    context: WriteContext,
    makeNext: (stored: ApiObject) => ApiObject,
    isApply = false,
  ): WriteResult {
    const { def, name, dryRun } = context;
    const resource = storageKey(def);
    const key = keyOf(context, name);
    const old = tx.get(resource, key);
    if (old === undefined) throw notFound(def, name);
    context.admit(old.object);
    const incoming = makeNext(old.object);
    const { managedFields } = incoming.metadata;
    const next = continueLife(def, old.object, incoming, context.subresource, key);
    // A status may share parts with what is stored, and validation writes in place.
    const object = context.subresource === "" ? next : clone(next);
    if (isApply && managedFields !== undefined) object.metadata.managedFields = managedFields;
    else if (context.subresource === "") adoptManagers(object, managedFields);
    const warnings = validate(def, object, context.fieldValidation);
    checkFinalizers(def, old.object, object);
    def.check?.(object, old.object);
    if (isFinished(object) && (resource !== "namespaces" || this.#isEmpty(tx, name))) {
      const entry = dryRun ? old : this.#remove(tx, def, old);
      return { status: 200, entry, warnings, isRemoved: true };
    }
    const { isAny, isInSpec } = compare(def, old.object, object);
    if (!isAny) return { status: 200, entry: old, warnings, isRemoved: false };
    if (isInSpec && object.metadata.generation !== undefined) object.metadata.generation++;
    if (!isApply) recordManager(def, old.object, object, context.manager, context.subresource, this.#time());
    const entry = dryRun ? preview(resource, key, object) : tx.put(resource, key, object);
    return { status: 200, entry, warnings, isRemoved: false };
  }

  #delete(tx: Transaction, def: ResourceDef, old: Entry, dryRun: boolean): WriteResult {
    const result = { status: 200 as const, warnings: [] };
    const isNamespace = storageKey(def) === "namespaces";
    if (isNamespace && !dryRun) this.#emptyNamespace(tx, old.object.metadata.name);
    const isHeld =
      (old.object.metadata.finalizers ?? []).length > 0 ||
      (isNamespace && !dryRun && !this.#isEmpty(tx, old.object.metadata.name));
    if (!isHeld) return { ...result, entry: dryRun ? old : this.#remove(tx, def, old), isRemoved: true };
    if (old.object.metadata.deletionTimestamp !== undefined) return { ...result, entry: old, isRemoved: false };
    const metadata = { ...old.object.metadata, deletionTimestamp: this.#time(), deletionGracePeriodSeconds: 0 };
    if (metadata.generation !== undefined) metadata.generation++;
    const object: ApiObject = { ...old.object, metadata };
    if (isNamespace) object["status"] = { phase: "Terminating" };
    const entry = dryRun ? preview(old.resource, old.key, object) : tx.put(old.resource, old.key, object);
    return { ...result, entry, isRemoved: false };
  }

  #remove(tx: Transaction, def: ResourceDef, old: Entry): Entry {
    if (isCRD(def)) this.#removeInstances(tx, old.object);
    const removed = tx.remove(old);
    if (def.namespaced) this.#finishNamespace(tx, old.object.metadata.namespace ?? "");
    return removed;
  }

  #removeInstances(tx: Transaction, crd: ApiObject): void {
    const target = crdTarget(crd);
    for (const entry of tx.list(storageKey(target))) tx.remove(entry);
  }

  #emptyNamespace(tx: Transaction, namespace: string): void {
    const seen = new Set<string>();
    for (const def of this.#registry.all()) {
      const resource = storageKey(def);
      if (!def.namespaced || seen.has(resource)) continue;
      seen.add(resource);
      for (const entry of tx.list(resource, `${namespace}/`)) this.#delete(tx, def, entry, false);
    }
  }

  #isEmpty(tx: Transaction, namespace: string): boolean {
    return this.#registry
      .all()
      .every((def) => !def.namespaced || tx.list(storageKey(def), `${namespace}/`).length === 0);
  }

  /** The last object of a namespace that is going away takes it along. */
  #finishNamespace(tx: Transaction, name: string): void {
    const namespace = tx.get("namespaces", name);
    if (namespace !== undefined && isFinished(namespace.object) && this.#isEmpty(tx, name)) tx.remove(namespace);
  }
}

export function keyOf(context: { readonly def: ResourceDef; readonly namespace: string }, name: string): string {
  return context.def.namespaced ? `${context.namespace}/${name}` : name;
}

function checkNamespace(tx: Transaction, def: ResourceDef, namespace: string, name: string): void {
  const found = tx.get("namespaces", namespace);
  if (found === undefined) throw notFound(NAMESPACES, namespace);
  if (found.object.metadata.deletionTimestamp === undefined) return;
  const why = `unable to create new content in namespace ${namespace} because it is being terminated`;
  const refusal = forbidden(def, name, why);
  const causes = [
    {
      reason: "NamespaceTerminating",
      message: `namespace ${namespace} is being terminated`,
      field: "metadata.namespace",
    },
  ];
  throw new StatusError(403, "Forbidden", refusal.message, { ...refusal.details, causes });
}

/** The state that a dry run would have stored; it keeps the resourceVersion that it was judged by. */
function preview(resource: string, key: string, object: ApiObject): Entry {
  return { resource, key, revision: 0, object, text: stringifyJSON(object) };
}

/** No vowels and no look-alikes, as Kubernetes does it. */
const SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH = 5;
const MAX_BASE = 58;

function freeName(base: string, isTaken: (name: string) => boolean): string {
  for (let attempt = 0; ; attempt++) {
    const letters = Array.from({ length: SUFFIX_LENGTH }, () => SUFFIX_LETTERS[randomInt(SUFFIX_LETTERS.length)]);
    const name = base.slice(0, MAX_BASE) + letters.join("");
    if (!isTaken(name) || attempt > 100) return name;
  }
}
