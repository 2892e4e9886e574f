// SPDX-License-Identifier: Apache-2.0
import { stringifyJSON } from "../lib/json.ts";
import { deepEqual, isObject, type JsonObject } from "./model.ts";
import { fieldSchema, type JSONSchema } from "./schema.ts";

/**
 * A set of fields as `metadata.managedFields` writes it: a tree whose keys are `f:NAME` for a field, `k:{…}` for the
 * list element with these keys, `v:VALUE` for an element of a set; `.` says that the element itself is in the set. A
 * node without children is a field that is owned as a whole.
 *
 * Source: sigs.k8s.io/structured-merge-diff, fieldpath (the FieldsV1 format).
 */
export interface FieldSet {
  [key: string]: FieldSet;
}

const SELF = ".";
/** What nobody manages: the server does. */
const SERVER_METADATA = new Set([
  "name",
  "namespace",
  "uid",
  "resourceVersion",
  "generation",
  "creationTimestamp",
  "managedFields",
  "generateName",
]);

/** A part of a value, by its key in a field set. */
export interface Part {
  readonly key: string;
  readonly value: unknown;
  readonly schema: JSONSchema | undefined;
}

/** The parts that ownership is counted by; none for a value that is owned as a whole. */
export function partsOf(value: unknown, schema: JSONSchema | undefined): Part[] {
  if (isObject(value)) {
    if (schema?.["x-kubernetes-map-type"] === "atomic") return [];
    return Object.entries(value).map(([name, inner]) => ({
      key: `f:${name}`,
      value: inner,
      schema: fieldSchema(schema, name),
    }));
  }
  if (!Array.isArray(value)) return [];
  const items: readonly unknown[] = value;
  const type = schema?.["x-kubernetes-list-type"];
  if (type === "set")
    return items.map((item) => ({ key: `v:${stringifyJSON(item)}`, value: item, schema: schema?.items }));
  if (type !== "map" || !items.every(isObject)) return [];
  return items.map((item) => ({ key: elementKey(item, schema), value: item, schema: schema?.items }));
}

/** `k:` and the element's keys, in order of name; a key that is absent has its default. */
function elementKey(item: JsonObject, schema: JSONSchema | undefined): string {
  const names = [...(schema?.["x-kubernetes-list-map-keys"] ?? [])].sort();
  const keys: JsonObject = {};
  for (const name of names) {
    const value = item[name] ?? schema?.items?.properties?.[name]?.default;
    if (value !== undefined) keys[name] = value;
  }
  return `k:${stringifyJSON(keys)}`;
}

/** All fields of a value. */
export function fieldsOf(value: unknown, schema: JSONSchema | undefined): FieldSet {
  const set: FieldSet = {};
  for (const part of partsOf(value, schema)) {
    const inner = fieldsOf(part.value, part.schema);
    set[part.key] = part.key.startsWith("k:") ? { [SELF]: {}, ...inner } : inner;
  }
  return set;
}

/** The fields of an object that can have a manager. */
export function objectFields(object: JsonObject, schema: JSONSchema): FieldSet {
  const set = fieldsOf(object, schema);
  return withoutServerFields(set);
}

export function withoutServerFields(set: FieldSet): FieldSet {
  const { "f:apiVersion": _version, "f:kind": _kind, "f:metadata": metadata, ...rest } = set;
  const kept = Object.entries(metadata ?? {}).filter(([key]) => !SERVER_METADATA.has(key.slice(2)));
  return kept.length === 0 ? rest : { "f:metadata": Object.fromEntries(kept), ...rest };
}

/** The fields of `next` that are not in `old` or have another value there. */
export function changedFields(old: unknown, next: unknown, schema: JSONSchema | undefined): FieldSet {
  const before = new Map(partsOf(old, schema).map((part) => [part.key, part]));
  const set: FieldSet = {};
  for (const part of partsOf(next, schema)) {
    const was = before.get(part.key);
    if (was === undefined) set[part.key] = fieldsOf(part.value, part.schema);
    else if (!deepEqual(was.value, part.value)) set[part.key] = changedFields(was.value, part.value, part.schema);
    else continue;
    if (was === undefined && part.key.startsWith("k:")) set[part.key] = { [SELF]: {}, ...set[part.key] };
  }
  return set;
}

export function isEmpty(set: FieldSet): boolean {
  for (const _ in set) return false;
  return true;
}

/** Whether a node of a set stands for a whole field. */
export function isLeaf(set: FieldSet): boolean {
  return Object.keys(set).every((key) => key === SELF);
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = { ...a };
  for (const [key, inner] of Object.entries(b)) {
    const known = result[key];
    result[key] = known === undefined ? inner : union(known, inner);
  }
  return result;
}

/** What is in `a` and not in `b`. */
export function subtract(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = {};
  for (const [key, inner] of Object.entries(a)) {
    const other = b[key];
    if (other === undefined) result[key] = inner;
    else if (!isLeaf(inner)) {
      const left = subtract(inner, other);
      if (!isEmpty(left)) result[key] = left;
    }
  }
  return result;
}

/** Keeps of a set what the value still has. */
export function present(set: FieldSet, value: unknown, schema: JSONSchema | undefined): FieldSet {
  const parts = new Map(partsOf(value, schema).map((part) => [part.key, part]));
  const result: FieldSet = {};
  for (const [key, inner] of Object.entries(set)) {
    const part = parts.get(key);
    if (key === SELF) result[key] = inner;
    else if (part !== undefined) {
      const left = present(inner, part.value, part.schema);
      if (isLeaf(inner) || !isEmpty(left)) result[key] = left;
    }
  }
  return result;
}

/** `.spec.containers[name="a"].image`, as kubectl prints a conflict. */
export function pathText(keys: readonly string[]): string {
  return keys
    .map((key) => {
      if (key.startsWith("f:")) return `.${key.slice(2)}`;
      if (key.startsWith("v:")) return `[=${key.slice(2)}]`;
      const pairs = Object.entries(JSON.parse(key.slice(2)) as JsonObject);
      return `[${pairs.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(",")}]`;
    })
    .join("");
}
