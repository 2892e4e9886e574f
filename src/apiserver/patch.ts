// SPDX-License-Identifier: Apache-2.0
import { badRequest, StatusError } from "./errors.ts";
import { clone, deepEqual, isObject, type JsonObject, ownField, setField } from "./model.ts";

/** Applies a JSON merge patch to a copy. Source: RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return clone(patch);
  const result: JsonObject = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else setField(result, key, mergePatch(ownField(result, key), value));
  }
  return result;
}

/** Units: operations in one patch, as kube-apiserver limits them. */
const MAX_OPERATIONS = 10_000;

/**
 * Applies a JSON patch to a copy. Source: RFC 6902.
 *
 * @throws StatusError 400 for a malformed patch, 422 for one that cannot be applied (a failed test, a missing path).
 */
export function jsonPatch(target: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw badRequest("a JSON patch must be an array of operations");
  if (patch.length > MAX_OPERATIONS) throw badRequest(`a JSON patch may have at most ${MAX_OPERATIONS} operations`);
  let result = clone(target);
  const operations: readonly unknown[] = patch;
  operations.forEach((operation, i) => {
    if (!isObject(operation)) throw badRequest(`operation ${i} of the JSON patch is not an object`);
    result = applyOperation(result, operation);
  });
  return result;
}

function applyOperation(root: unknown, operation: JsonObject): unknown {
  const { op, path, from, value } = operation;
  if (typeof op !== "string" || typeof path !== "string")
    throw badRequest('each operation needs the strings "op" and "path"');
  const at = parsePointer(path);
  const source = (): string[] => {
    if (typeof from !== "string") throw badRequest(`operation ${op} ${path} needs the string "from"`);
    return parsePointer(from);
  };
  switch (op) {
    case "add":
      return add(root, at, clone(value), path);
    case "remove":
      return remove(root, at, path);
    case "replace":
      read(root, at, path);
      return at.length === 0 ? clone(value) : add(remove(root, at, path), at, clone(value), path);
    case "move": {
      const moved = read(root, source(), path);
      return add(remove(root, source(), path), at, moved, path);
    }
    case "copy":
      return add(root, at, clone(read(root, source(), path)), path);
    case "test":
      if (!deepEqual(read(root, at, path), value)) throw cannotApply(`testing path ${path} value failed`);
      return root;
    default:
      throw badRequest(`Unexpected kind: ${op}`);
  }
}

/** Source: RFC 6901. */
function parsePointer(pointer: string): string[] {
  if (pointer === "") return [];
  if (!pointer.startsWith("/")) throw badRequest(`the path "${pointer}" of a JSON patch must begin with /`);
  return pointer
    .slice(1)
    .split("/")
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function read(root: unknown, at: readonly string[], path: string): unknown {
  let value = root;
  for (const part of at) {
    if (Array.isArray(value)) value = value[indexOf(part, value.length - 1, path)];
    else if (isObject(value) && Object.hasOwn(value, part)) value = value[part];
    else throw cannotApply(`the path "${path}" does not exist`);
  }
  return value;
}

function add(root: unknown, at: readonly string[], value: unknown, path: string): unknown {
  const last = at.at(-1);
  if (last === undefined) return value;
  const parent = read(root, at.slice(0, -1), path);
  if (Array.isArray(parent)) parent.splice(last === "-" ? parent.length : indexOf(last, parent.length, path), 0, value);
  else if (isObject(parent)) setField(parent, last, value);
  else throw cannotApply(`the parent of "${path}" is neither object nor array`);
  return root;
}

function remove(root: unknown, at: readonly string[], path: string): unknown {
  const last = at.at(-1);
  if (last === undefined) return null;
  read(root, at, path);
  const parent = read(root, at.slice(0, -1), path);
  if (Array.isArray(parent)) parent.splice(indexOf(last, parent.length - 1, path), 1);
  else if (isObject(parent)) delete parent[last];
  return root;
}

function indexOf(part: string, highest: number, path: string): number {
  const index = /^(0|[1-9]\d*)$/.test(part) ? Number(part) : -1;
  if (index < 0 || index > highest) throw cannotApply(`index ${part} in "${path}" is out of bounds`);
  return index;
}

function cannotApply(why: string): StatusError {
  const message = `the server rejected our request due to an error in our request: ${why}`;
  return new StatusError(422, "Invalid", message, { causes: [{ reason: "", message: why, field: "" }] });
}
