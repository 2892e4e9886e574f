// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { KubeObject } from "../crds/object.ts";

/** One field that would be another. Absent values are undefined. */
export interface FieldChange {
  /** As kubectl explain has it; items of lists by their name, where they have one. */
  readonly path: string;
  readonly from: unknown;
  readonly to: unknown;
}

/** Changes with each write, whatever is written, or is not ours to say. */
const UNTOLD = ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"];

/** Kubernetes counts in them. */
const COUNTERS = ["deprecated.daemonset.template.generation", "deployment.kubernetes.io/revision"];

/** What is different between an object as it is and as it would be. */
export function diffObjects(from: KubeObject, to: KubeObject): readonly FieldChange[] {
  const changes: FieldChange[] = [];
  compare(told(from), told(to), "", changes);
  return changes;
}

function told(object: KubeObject): object {
  const { status: _, data, ...others } = object as KubeObject & { readonly status?: unknown; readonly data?: unknown };
  const rest = { ...others, ...(data !== undefined && { data: object.kind === "Secret" ? hidden(data) : data }) };
  const annotations = without(object.metadata.annotations ?? {}, COUNTERS);
  return { ...rest, metadata: { ...without(object.metadata, UNTOLD), annotations } };
}

/** That a value is another one may be told, and not which. */
function hidden(data: unknown): unknown {
  return createHash("sha256").update(JSON.stringify(data)).digest("hex").slice(0, 10);
}

function without(object: object, fields: readonly string[]): object {
  return Object.fromEntries(Object.entries(object).filter(([field]) => !fields.includes(field)));
}

function compare(from: unknown, to: unknown, path: string, changes: FieldChange[]): void {
  if (isDeepStrictEqual(from, to)) return;
  const [a, b] = [fieldsOf(from), fieldsOf(to)];
  if (a === undefined || b === undefined) {
    changes.push({ path, from, to });
    return;
  }
  for (const field of new Set([...a.keys(), ...b.keys()]))
    compare(
      a.get(field),
      b.get(field),
      path === "" ? field : `${path}${field.startsWith("[") ? "" : "."}${field}`,
      changes,
    );
}

/** Fields of an object, or items of a list; undefined for what has neither. */
function fieldsOf(value: unknown): ReadonlyMap<string, unknown> | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (!Array.isArray(value)) return new Map(Object.entries(value));
  const names = value.map(nameOf);
  const areNamed = names.every((name) => name !== undefined) && new Set(names).size === names.length;
  return new Map(value.map((item: unknown, i) => [`[${areNamed ? names[i] : i}]`, item]));
}

function nameOf(item: unknown): string | undefined {
  const name = typeof item === "object" && item !== null && "name" in item ? item.name : undefined;
  return typeof name === "string" ? name : undefined;
}
