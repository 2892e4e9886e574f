// SPDX-License-Identifier: Apache-2.0
import { parseCIDR } from "../net/cidr.ts";
import { InvalidObjectError } from "./errors.ts";
import type { KubeObject, ObjectMeta } from "./object.ts";

type Raw = Readonly<Record<string, unknown>>;

function isRaw(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Reads the fields of one JSON object with checks, and remembers which it has read.
 *
 * `null` and absence are the same, as for Go. What nobody read comes back from `unread`, so that a read-modify-write
 * keeps the fields of a newer writer. Errors: every method throws InvalidObjectError that names object, field and value.
 */
export class FieldReader {
  readonly #kind: string;
  readonly #name: string;
  readonly #path: string;
  readonly #raw: Raw;
  readonly #read = new Set<string>();

  constructor(kind: string, name: string, path: string, raw: unknown) {
    this.#kind = kind;
    this.#name = name;
    this.#path = path;
    if (!isRaw(raw)) throw new InvalidObjectError(kind, name, path || "object", raw, "an object");
    this.#raw = raw;
  }

  fail(field: string, value: unknown, want: string): InvalidObjectError {
    return new InvalidObjectError(this.#kind, this.#name, this.#path ? `${this.#path}.${field}` : field, value, want);
  }

  /** The value as it is; undefined for null. */
  value(field: string): unknown {
    this.#read.add(field);
    return this.#raw[field] ?? undefined;
  }

  optionalString(field: string): string | undefined {
    const value = this.value(field);
    if (value !== undefined && typeof value !== "string") throw this.fail(field, value, "a string");
    return value;
  }

  string(field: string): string {
    const value = this.optionalString(field);
    if (value === undefined) throw this.fail(field, value, "a string");
    return value;
  }

  /** Empty text counts as absent, since Go writes a string's zero value either way. */
  optionalEnum<T extends string>(field: string, values: readonly T[]): T | undefined {
    const value = this.optionalString(field);
    if (value === undefined || value === "") return undefined;
    const found = values.find((v) => v === value);
    if (found === undefined) throw this.fail(field, value, `one of ${values.filter((v) => v !== "").join(", ")}`);
    return found;
  }

  optionalBoolean(field: string): boolean | undefined {
    const value = this.value(field);
    if (value !== undefined && typeof value !== "boolean") throw this.fail(field, value, "true or false");
    return value;
  }

  optionalInteger(field: string, min: number, max: number): number | undefined {
    const value = this.value(field);
    return value === undefined ? undefined : this.#integer(field, value, min, max);
  }

  /** An integer that fits Go's int64, whatever its size on the wire. */
  int64(field: string, fallback: bigint): bigint {
    const value = this.value(field);
    return value === undefined ? fallback : this.#int64(field, value);
  }

  int64Map(field: string): Record<string, bigint> {
    return this.#map(field, (value, entry) => this.#int64(entry, value)) ?? {};
  }

  /** An integer of any size, such as the kernel's unsigned ones. */
  bigint(field: string, fallback: bigint): bigint {
    const value = this.value(field);
    return value === undefined ? fallback : this.#bigint(field, value);
  }

  /** A list, each element checked by `read`, which throws `fail(…)` of its own. */
  list<T>(field: string, read: (value: unknown, element: string) => T): T[] {
    const value = this.value(field) ?? [];
    if (!Array.isArray(value)) throw this.fail(field, value, "a list");
    return value.map((v: unknown, i) => read(v, `${field}[${i}]`));
  }

  integers(field: string, min: number, max: number): number[] {
    return this.list(field, (value, element) => this.#integer(element, value, min, max));
  }

  strings(field: string): string[] {
    return this.list(field, (value, element) => {
      if (typeof value !== "string") throw this.fail(element, value, "a string");
      return value;
    });
  }

  optionalStringMap(field: string): Record<string, string> | undefined {
    return this.#map(field, (value, entry) => {
      if (typeof value !== "string") throw this.fail(entry, value, "a string");
      return value;
    });
  }

  integerMap(field: string, min: number, max: number): Record<string, number> {
    return this.#map(field, (value, entry) => this.#integer(entry, value, min, max)) ?? {};
  }

  /** The text of a network. */
  cidr(field: string): string {
    const text = this.string(field);
    try {
      parseCIDR(text);
    } catch (cause) {
      throw Object.assign(this.fail(field, text, "a network such as 10.0.0.0/26"), { cause });
    }
    return text;
  }

  /** A reader of a nested object, under the same object's name. */
  nested(field: string, raw: unknown = this.value(field)): FieldReader {
    return new FieldReader(this.#kind, this.#name, this.#path ? `${this.#path}.${field}` : field, raw);
  }

  /** The fields that no method above was asked for. */
  unread(): Raw {
    return Object.fromEntries(Object.entries(this.#raw).filter(([field]) => !this.#read.has(field)));
  }

  #integer(field: string, value: unknown, min: number, max: number): number {
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max)
      throw this.fail(field, value, `an integer from ${min} to ${max}`);
    return value;
  }

  #int64(field: string, value: unknown): bigint {
    const integer = this.#bigint(field, value);
    if (BigInt.asIntN(64, integer) !== integer) throw this.fail(field, value, "a 64-bit integer");
    return integer;
  }

  #bigint(field: string, value: unknown): bigint {
    if (typeof value === "bigint") return value;
    if (typeof value === "number" && Number.isSafeInteger(value)) return BigInt(value);
    throw this.fail(field, value, "a 64-bit integer");
  }

  #map<T>(field: string, read: (value: unknown, entry: string) => T): Record<string, T> | undefined {
    const value = this.value(field);
    if (value === undefined) return undefined;
    if (!isRaw(value)) throw this.fail(field, value, "an object");
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, read(v, `${field}["${key}"]`)]));
  }
}

/** What every parse begins with: the identity of an object and a reader for its spec. */
export interface OpenedObject {
  /** Everything but `spec` and `status`: apiVersion, kind, metadata and fields unknown to us. */
  readonly head: KubeObject;
  readonly spec: FieldReader;
  readonly status: unknown;
}

/**
 * Checks what all kinds share. An item of a list may lack apiVersion and kind: they are filled in.
 *
 * @throws InvalidObjectError
 */
export function openObject(apiVersion: string, kind: string, raw: unknown): OpenedObject {
  const root = new FieldReader(kind, nameOf(raw), "", raw);
  if (nameOf(raw) === "") throw root.fail("metadata.name", undefined, "a name");
  if ((root.optionalString("kind") ?? kind) !== kind) throw root.fail("kind", root.value("kind"), kind);
  root.value("apiVersion");
  // Only the name was checked: the other fields are written by API servers, which check them.
  const metadata = root.value("metadata") as ObjectMeta;
  const spec = root.nested("spec");
  const status = root.value("status");
  return { head: { apiVersion, kind, metadata, ...root.unread() }, spec, status };
}

function nameOf(raw: unknown): string {
  const metadata = isRaw(raw) ? raw["metadata"] : undefined;
  const name = isRaw(metadata) ? metadata["name"] : undefined;
  return typeof name === "string" ? name : "";
}

/** Drops the fields that are undefined, so that optional fields are absent rather than undefined. */
export function present<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
