// SPDX-License-Identifier: Apache-2.0

/**
 * What the server knows of an object: the metadata that it manages itself. Everything else passes through by schema.
 *
 * An object that is stored is never changed again: watch events, snapshots of lists and the serialized text share it.
 */

export type JsonObject = { [field: string]: unknown };

export interface ObjectMeta {
  name: string;
  generateName?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: { [key: string]: string };
  annotations?: { [key: string]: string };
  finalizers?: string[];
  managedFields?: unknown[];
  [field: string]: unknown;
}

export interface ApiObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Sets a field of any name: a plain assignment to "__proto__" would change the prototype instead. */
export function setField(object: JsonObject, name: string, value: unknown): void {
  if (name !== "__proto__") object[name] = value;
  else Object.defineProperty(object, name, { value, enumerable: true, writable: true, configurable: true });
}

/** A field of the object itself, whatever its prototype has. */
export function ownField(object: JsonObject, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/** A deep copy; bigint and the order of keys are kept. */
export function clone<T>(value: T): T {
  // The casts say what holds by construction: each branch rebuilds the shape that it was given.
  if (Array.isArray(value)) return value.map(clone) as T;
  if (!isObject(value)) return value;
  const copy: JsonObject = {};
  for (const key in value) setField(copy, key, clone(value[key]));
  return copy as T;
}

/** Equality of JSON values, without regard to the order of keys; a bigint equals the number of the same value. */
export function deepEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) {
    return typeof a !== typeof b && isInteger(a) && isInteger(b) && BigInt(a) === BigInt(b);
  }
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!deepEqual(a[i], b[i])) return false;
    return true;
  }
  if (Array.isArray(b) || !isObject(a) || !isObject(b)) return false;
  let size = 0;
  for (const key in a) {
    if (!Object.hasOwn(b, key) || !deepEqual(a[key], b[key])) return false;
    size++;
  }
  for (const _ in b) size--;
  return size === 0;
}

/** The JSON type of a value, as Kubernetes' messages call it. */
export function nameOfType(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return isInteger(value) ? "integer" : typeof value;
}

/** Both spellings of an integer: parseJSON reads one beyond 2^53 as bigint. */
export function isInteger(value: unknown): value is number | bigint {
  return typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value));
}
