// SPDX-License-Identifier: Apache-2.0
import { Api } from "./api.ts";
import type { Authenticator } from "./auth.ts";
import { builtinResources } from "./builtin/kinds.ts";
import { CRD_GROUP, CRD_PLURAL, crdTarget, resourcesOf } from "./crd.ts";
import type { StoreEvent } from "./entry.ts";
import { textOf } from "./json-path.ts";
import { type ApiObject, clone, isObject } from "./model.ts";
import { OpenAPI } from "./openapi.ts";
import type { Persistence } from "./persistence.ts";
import { Reader } from "./reader.ts";
import { apiVersionOf, Registry, type ResourceDef, storageKey } from "./resource.ts";
import { Store } from "./store.ts";
import { type WriteContext, Writer } from "./writer.ts";

export interface EngineOptions {
  readonly persistence: Persistence;
  readonly historyLength: number;
  readonly authenticator: Authenticator;
  /** Objects that are created, or updated, first. */
  readonly manifests: readonly unknown[];
  /** Objects that are created then, those of kinds of which there is none. */
  readonly defaults?: readonly unknown[];
  /** Unix time. Units: milliseconds. */
  readonly nowMs: () => number;
}

/** Everything but the transport: the protocol over a store. */
export async function createEngine(options: EngineOptions): Promise<{ readonly api: Api; readonly store: Store }> {
  const { nowMs, authenticator } = options;
  const store = new Store(options.persistence, options.historyLength);
  const registry = new Registry();
  for (const def of builtinResources()) registry.add(def);
  serveDefinitions(store, registry);
  const writer = new Writer(store, registry, nowMs);
  const place = { writer, registry, store };
  await createFirstObjects(place, options.manifests);
  await createDefaults(place, options.defaults ?? []);
  const reader = new Reader(store);
  const api = new Api({ store, registry, reader, writer, openapi: new OpenAPI(registry), authenticator, nowMs });
  return { api, store };
}

const FIRST_NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease"];

/** Serves each definition that is stored, now and whenever one comes, changes or goes. */
function serveDefinitions(store: Store, registry: Registry): void {
  const crds = storageKey({ group: CRD_GROUP, plural: CRD_PLURAL });
  const add = (crd: ApiObject): void => {
    for (const def of resourcesOf(crd)) registry.add(def);
  };
  const follow = ({ type, entry }: StoreEvent): void => {
    if (entry.resource !== crds) return;
    const { group, plural } = crdTarget(entry.object);
    registry.remove(group, plural);
    if (type !== "DELETED") add(entry.object);
  };
  for (const entry of store.list(crds)) add(entry.object);
  store.log.listen((events) => events.forEach(follow));
}

interface Place {
  readonly writer: Writer;
  readonly registry: Registry;
  readonly store: Store;
}

/** @throws TypeError for a manifest of no served kind, StatusError for one that is refused. */
async function createFirstObjects(place: Place, manifests: readonly unknown[]): Promise<void> {
  const namespaces = FIRST_NAMESPACES.map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } }));
  for (const namespace of namespaces) {
    if (place.store.get("namespaces", namespace.metadata.name) === undefined) await load(place, namespace);
  }
  for (const manifest of manifests) await load(place, manifest);
}

/** Errors: as above. */
async function createDefaults(place: Place, defaults: readonly unknown[]): Promise<void> {
  const missing = defaults.filter((object) => place.store.list(storageKey(definitionOf(place, object))).length === 0);
  for (const object of missing) await load(place, object);
}

function definitionOf({ registry }: Place, manifest: unknown): ResourceDef {
  const object = isObject(manifest) ? manifest : {};
  const [kind, apiVersion] = [textOf(object["kind"]), textOf(object["apiVersion"])];
  const def = registry.all().find((d) => d.kind === kind && apiVersionOf(d) === apiVersion);
  if (def === undefined) throw new TypeError(`Cannot load ${kind}: no such kind is served in ${apiVersion}`);
  return def;
}

async function load(place: Place, manifest: unknown): Promise<void> {
  const { writer, store } = place;
  const def = definitionOf(place, manifest);
  const object = isObject(manifest) ? clone(manifest) : {};
  const metadata = isObject(object["metadata"]) ? object["metadata"] : {};
  const name = textOf(metadata["name"]);
  const namespace = def.namespaced ? textOf(metadata["namespace"] ?? "default") : "";
  const context: WriteContext = {
    def,
    namespace,
    name,
    subresource: "",
    dryRun: false,
    fieldValidation: "Strict",
    manager: { name: "gingham-apiserver", isNamed: false },
    admit: () => undefined,
  };
  const stored = store.get(storageKey(def), def.namespaced ? `${namespace}/${name}` : name);
  if (stored === undefined) {
    await writer.create(context, object);
    return;
  }
  metadata["resourceVersion"] = stored.object.metadata.resourceVersion;
  await writer.update(context, object);
}
