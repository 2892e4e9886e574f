// SPDX-License-Identifier: Apache-2.0
import type { JSONSchema } from "../schema.ts";
import { ATOMIC_OBJECTS, DEFAULTS, LIST_MAP_KEYS, PATCH_MERGE_KEYS, SETS } from "./facts.ts";
import { FIELD_TABLE } from "./field-table.ts";

const SCALARS: Readonly<Record<string, JSONSchema>> = {
  string: { type: "string" },
  bytes: { type: "string", format: "byte" },
  time: { type: "string", format: "date-time" },
  boolean: { type: "boolean" },
  int32: { type: "integer", format: "int32" },
  int64: { type: "integer", format: "int64" },
  number: { type: "number" },
  quantity: { "x-kubernetes-int-or-string": true },
  intOrString: { "x-kubernetes-int-or-string": true },
  any: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
};

const FIELD = /^(\w+)(!?):(\w+)((?:\[\]|\{\})*)$/;

/** type → its fields, as the table writes them. */
const TYPES = new Map(
  FIELD_TABLE.trim()
    .split("\n")
    .map((line) => {
      const [name = "", ...fields] = line.split(" ");
      return [name, fields] as const;
    }),
);

/**
 * The types that users write. The others are parts of a status: what a controller knows so far, of which kube-apiserver
 * lets every part be absent.
 */
const ASKED_TYPES = askedTypes();

function askedTypes(): ReadonlySet<string> {
  const asked = new Set([...TYPES.keys()].filter((name) => name.endsWith("Spec") || hasMetadata(name)));
  for (const name of asked) {
    for (const field of TYPES.get(name) ?? []) {
      const [, key, , type = ""] = FIELD.exec(field) ?? [];
      // Types that are added while the loop runs are visited by it, too.
      if (key !== "status" && TYPES.has(type)) asked.add(type);
    }
  }
  return asked;
}

function hasMetadata(name: string): boolean {
  return TYPES.get(name)?.some((field) => /^metadata!?:/.test(field)) ?? false;
}

/** The schema of a type with everything in it, for validation and merging. */
export function expandType(name: string): JSONSchema {
  return objectSchema(name, expandType);
}

export const COMPONENT_PREFIX = "io.k8s.gingham.";

/** The schemas of a type and of all that it is made of, which refer to each other by name, for OpenAPI. */
export function componentsOf(name: string, components: Map<string, JSONSchema> = new Map()): Map<string, JSONSchema> {
  if (components.has(name)) return components;
  components.set(name, {});
  const refer = (type: string): JSONSchema => {
    componentsOf(type, components);
    return { allOf: [{ $ref: `#/components/schemas/${COMPONENT_PREFIX}${type}` }] };
  };
  components.set(name, objectSchema(name, refer));
  return components;
}

function objectSchema(name: string, inner: (type: string) => JSONSchema): JSONSchema {
  const fields = TYPES.get(name);
  if (fields === undefined) throw new RangeError(`No type ${name} in the field table`);
  const properties: Record<string, JSONSchema> = {};
  const required: string[] = [];
  for (const field of fields) {
    const [, key = "", mark, type = "", shape = ""] = FIELD.exec(field) ?? [];
    if (mark === "!" && ASKED_TYPES.has(name)) required.push(key);
    properties[key] = decorate(`${name}.${key}`, shaped(SCALARS[type] ?? inner(type), shape));
  }
  return {
    type: "object",
    properties,
    ...(required.length > 0 && { required }),
    ...(ATOMIC_OBJECTS.has(name) && { "x-kubernetes-map-type": "atomic" }),
  };
}

function shaped(schema: JSONSchema, shape: string): JSONSchema {
  if (shape === "") return schema;
  const outer = shape.slice(-2) === "[]" ? "array" : "object";
  const inner = shaped(schema, shape.slice(0, -2));
  return outer === "array" ? { type: "array", items: inner } : { type: "object", additionalProperties: inner };
}

function decorate(path: string, schema: JSONSchema): JSONSchema {
  const mergeKey = PATCH_MERGE_KEYS[path];
  const mapKeys = LIST_MAP_KEYS[path] ?? (mergeKey === undefined ? undefined : [mergeKey]);
  return {
    ...schema,
    ...(Object.hasOwn(DEFAULTS, path) && { default: DEFAULTS[path] }),
    ...(mergeKey !== undefined && { "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": mergeKey }),
    ...(mapKeys !== undefined && { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": mapKeys }),
    ...(SETS.has(path) && { "x-kubernetes-patch-strategy": "merge", "x-kubernetes-list-type": "set" }),
  };
}
