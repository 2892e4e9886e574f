// SPDX-License-Identifier: Apache-2.0
import type { ApiObject, JsonObject } from "./model.ts";
import type { Findings, JSONSchema } from "./schema.ts";
import type { FieldReader } from "./selector.ts";

/** One column of a table. Source: Kubernetes API, meta/v1 TableColumnDefinition. */
export interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "number" | "boolean" | "date";
  readonly format?: string;
  readonly description: string;
  /** 0 shows always; above 0 only with `-o wide`. */
  readonly priority: number;
  /** Dates are RFC 3339 texts; the table turns them into ages. */
  cell(object: ApiObject): unknown;
}

/** Which rule the names of a kind follow. */
export type NameRule = "subdomain" | "label" | "service" | "path";

/** How one kind is served in one version: what every verb needs to know about it. */
export interface ResourceDef {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  /** Kubernetes' own kind; else of a CRD. */
  readonly isBuiltin: boolean;
  readonly nameRule: NameRule;
  /** Is answered and never stored, such as a SelfSubjectAccessReview. */
  readonly isReview?: boolean;
  /** Has a status that only the subresource writes. */
  readonly hasStatus: boolean;
  /** An update may leave out the resourceVersion. */
  readonly allowsUnconditionalUpdate: boolean;
  readonly columns: readonly Column[];
  readonly selectableFields: ReadonlyMap<string, FieldReader>;
  readonly schema: JSONSchema;
  /** Lists whose elements a strategic merge or an apply matches by key are marked in the schema. */
  validate(object: JsonObject): Findings;
  /** Fills in what Kubernetes fills in at creation. */
  prepareCreate?(object: ApiObject): void;
  /** Refuses or completes an object before it is written, on create and on update. */
  check?(object: ApiObject, old: ApiObject | undefined): void;
}

export function apiVersionOf(def: { readonly group: string; readonly version: string }): string {
  return def.group === "" ? def.version : `${def.group}/${def.version}`;
}

/** Where the store keeps the objects of a resource: one place for all its versions. */
export function storageKey(def: { readonly group: string; readonly plural: string }): string {
  return def.group === "" ? def.plural : `${def.group}/${def.plural}`;
}

/** Every resource that is served now. */
export class Registry {
  /** group/version → plural → definition, in order of registration. */
  readonly #versions = new Map<string, Map<string, ResourceDef>>();
  #revision = 0;

  /** Changes with every change, so that documents made from the registry can be cached. */
  get revision(): number {
    return this.#revision;
  }

  find(group: string, version: string, plural: string): ResourceDef | undefined {
    return this.#versions.get(`${group}/${version}`)?.get(plural);
  }

  hasVersion(group: string, version: string): boolean {
    return this.#versions.has(`${group}/${version}`);
  }

  all(): ResourceDef[] {
    return [...this.#versions.values()].flatMap((resources) => [...resources.values()]);
  }

  /** Groups with their versions, the core group first. */
  groups(): Map<string, string[]> {
    const groups = new Map<string, string[]>([["", []]]);
    for (const key of this.#versions.keys()) {
      const slash = key.lastIndexOf("/");
      const group = key.slice(0, slash);
      groups.set(group, [...(groups.get(group) ?? []), key.slice(slash + 1)]);
    }
    return groups;
  }

  inVersion(group: string, version: string): ResourceDef[] {
    return [...(this.#versions.get(`${group}/${version}`)?.values() ?? [])];
  }

  add(def: ResourceDef): void {
    const key = `${def.group}/${def.version}`;
    const resources = this.#versions.get(key) ?? new Map<string, ResourceDef>();
    resources.set(def.plural, def);
    this.#versions.set(key, resources);
    this.#revision++;
  }

  /** Stops serving all versions of a resource. */
  remove(group: string, plural: string): void {
    for (const [key, resources] of this.#versions) {
      if (key.slice(0, key.lastIndexOf("/")) !== group || !resources.delete(plural)) continue;
      if (resources.size === 0) this.#versions.delete(key);
      this.#revision++;
    }
  }
}
