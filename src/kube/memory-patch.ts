// SPDX-License-Identifier: Apache-2.0
import { stringifyJSON } from "../lib/json.ts";

type Json = Record<string, unknown>;

function isJson(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** RFC 7386. Returns a new value. With `merge`, lists may be merged instead of replaced. */
export function applyMergePatch(
  target: unknown,
  patch: unknown,
  merge?: (field: string, target: unknown, patch: unknown) => unknown,
): unknown {
  if (!isJson(patch)) return patch;
  const result: Json = isJson(target) ? { ...target } : {};
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete result[field];
    else result[field] = merge?.(field, result[field], value) ?? applyMergePatch(result[field], value, merge);
  }
  return result;
}

/** Lists that a strategic merge joins by a key, as far as agents write any. Source: Kubernetes API reference, core/v1. */
const MERGE_KEYS: Readonly<Record<string, string>> = { conditions: "type", addresses: "type" };

/** A merge patch whose conditions and addresses replace only those of the same type. */
export function applyStrategicPatch(target: unknown, patch: unknown): unknown {
  return applyMergePatch(target, patch, (field, old, changed) => {
    const key = MERGE_KEYS[field];
    if (key === undefined || !Array.isArray(old) || !Array.isArray(changed)) return undefined;
    const keyOf = (item: unknown): unknown => (isJson(item) ? item[key] : undefined);
    const merged = new Map<unknown, unknown>(old.map((item: unknown) => [keyOf(item), item]));
    for (const item of changed) merged.set(keyOf(item), applyMergePatch(merged.get(keyOf(item)), item));
    return [...merged.values()];
  });
}

interface Operation {
  readonly op: string;
  readonly path: string;
  readonly value?: unknown;
}

/** RFC 6902 without move and copy. @throws RangeError when a test fails or a path does not exist. */
export function applyJSONPatch(target: unknown, patch: unknown): unknown {
  // The caller is a test of ours: a patch that is no list of operations fails in what follows.
  return (patch as readonly Operation[]).reduce((document, operation) => {
    const path = operation.path.split("/").slice(1);
    return change(
      document,
      path.map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~")),
      operation,
    );
  }, target);
}

function change(node: unknown, path: readonly string[], operation: Operation): unknown {
  const [head, ...rest] = path;
  if (head === undefined) return operation.op === "test" ? tested(node, operation) : operation.value;
  const isLast = rest.length === 0;
  if (Array.isArray(node)) {
    const index = head === "-" ? node.length : Number(head);
    if (isLast && operation.op === "add") return node.toSpliced(index, 0, operation.value);
    if (!(index in node)) throw new RangeError(`No element ${operation.path}`);
    if (isLast && operation.op === "remove") return node.toSpliced(index, 1);
    return node.with(index, change(node[index], rest, operation));
  }
  if (!isJson(node)) throw new RangeError(`No field ${operation.path}`);
  if (!Object.hasOwn(node, head) && !(isLast && operation.op === "add"))
    throw new RangeError(`No field ${operation.path}`);
  if (isLast && operation.op === "remove")
    return Object.fromEntries(Object.entries(node).filter(([key]) => key !== head));
  return { ...node, [head]: change(node[head], rest, operation) };
}

function tested(node: unknown, operation: Operation): unknown {
  if (stringifyJSON(node) !== stringifyJSON(operation.value)) throw new RangeError(`Test failed at ${operation.path}`);
  return node;
}
