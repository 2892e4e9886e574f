// SPDX-License-Identifier: Apache-2.0
import { badRequest } from "./errors.ts";
import { clone, deepEqual, isObject, type JsonObject, ownField, setField } from "./model.ts";
import { fieldSchema, type JSONSchema } from "./schema.ts";

const DIRECTIVE = "$patch";
const RETAIN_KEYS = "$retainKeys";
const DELETE_FROM_LIST = "$deleteFromPrimitiveList/";
/** Tells the order of a merged list; here new elements go to the end. */
const ELEMENT_ORDER = "$setElementOrder/";

/**
 * Applies a strategic merge patch to a copy: as a merge patch, but lists that the schema gives a merge key are merged
 * element by element, and directives delete or replace.
 *
 * @throws StatusError 400. Source: Kubernetes documentation, Strategic Merge Patch.
 */
export function strategicMerge(target: unknown, patch: unknown, schema: JSONSchema | undefined): unknown {
  if (!isObject(patch)) return clone(patch);
  const directive = patch[DIRECTIVE];
  if (directive === "replace") return withoutDirectives(patch);
  if (directive === "delete") return {};
  if (directive !== undefined && directive !== "merge")
    throw badRequest(`Unknown patch type: ${JSON.stringify(directive)}`);
  const result: JsonObject = isObject(target) ? { ...target } : {};
  retainKeys(result, patch[RETAIN_KEYS]);
  for (const [key, value] of Object.entries(patch)) {
    if (key === DIRECTIVE || key === RETAIN_KEYS || key.startsWith(ELEMENT_ORDER)) continue;
    if (key.startsWith(DELETE_FROM_LIST)) deleteFromList(result, key.slice(DELETE_FROM_LIST.length), value);
    else if (value === null) delete result[key];
    else if (isObject(value) && value[DIRECTIVE] === "delete") delete result[key];
    else setField(result, key, mergeField(ownField(result, key), value, fieldSchema(schema, key)));
  }
  return result;
}

function mergeField(target: unknown, patch: unknown, schema: JSONSchema | undefined): unknown {
  if (!Array.isArray(patch)) return strategicMerge(target, patch, schema);
  if (schema?.["x-kubernetes-patch-strategy"] !== "merge") return clone(patch);
  const items: readonly unknown[] = patch;
  const old: readonly unknown[] = Array.isArray(target) ? target : [];
  const mergeKey = schema["x-kubernetes-patch-merge-key"];
  if (mergeKey === undefined) return [...old, ...items.filter((item) => !old.some((o) => deepEqual(o, item)))];
  return mergeList(old, items, mergeKey, schema.items);
}

function mergeList(
  old: readonly unknown[],
  patch: readonly unknown[],
  mergeKey: string,
  itemSchema: JSONSchema | undefined,
): unknown[] {
  const isReplace = (item: unknown): boolean => isObject(item) && item[DIRECTIVE] === "replace";
  if (patch.some(isReplace)) return patch.filter((item) => !isReplace(item)).map(withoutDirectives);
  let result = [...old];
  for (const item of patch) {
    if (!isObject(item) || item[mergeKey] === undefined) {
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${mergeKey}`);
    }
    const matches = (other: unknown): boolean => isObject(other) && deepEqual(other[mergeKey], item[mergeKey]);
    if (item[DIRECTIVE] === "delete") result = result.filter((other) => !matches(other));
    else if (result.some(matches)) result = result.map((o) => (matches(o) ? strategicMerge(o, item, itemSchema) : o));
    else result.push(strategicMerge(undefined, item, itemSchema));
  }
  return result;
}

function retainKeys(result: JsonObject, keys: unknown): void {
  if (keys === undefined) return;
  if (!Array.isArray(keys)) throw badRequest("$retainKeys must be a list of field names");
  for (const key of Object.keys(result)) if (!keys.includes(key)) delete result[key];
}

function deleteFromList(result: JsonObject, field: string, values: unknown): void {
  const { [field]: list } = result;
  if (!Array.isArray(list) || !Array.isArray(values)) return;
  const gone: readonly unknown[] = values;
  result[field] = list.filter((item) => !gone.some((value) => deepEqual(value, item)));
}

function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDirectives);
  if (!isObject(value)) return value;
  const entries = Object.entries(value).filter(([key]) => !key.startsWith("$"));
  return Object.fromEntries(entries.map(([key, inner]) => [key, withoutDirectives(inner)]));
}
