// SPDX-License-Identifier: Apache-2.0
import { badRequest, type Cause, StatusError } from "./errors.ts";
import { type FieldSet, isLeaf, objectFields, partsOf, pathText, present } from "./field-set.ts";
import { isOf, type ManagedFields, type Manager, managersOf, setManagers } from "./managed-fields.ts";
import { type ApiObject, clone, deepEqual, isObject, type JsonObject, ownField, setField } from "./model.ts";
import { apiVersionOf, type ResourceDef } from "./resource.ts";
import { fieldSchema, type JSONSchema } from "./schema.ts";

/**
 * Server-side apply: merges what a manager wants, takes away what it no longer wants and nobody else owns, and refuses to
 * change what others own.
 *
 * @returns A copy with its managedFields.
 * @throws StatusError 400, or 409 with one cause a field. Source: Kubernetes documentation, Server-Side Apply.
 */
export function serverApply(
  def: ResourceDef,
  stored: ApiObject | undefined,
  wanted: unknown,
  options: { readonly manager: Manager; readonly force: boolean; readonly time: string; readonly subresource: string },
): ApiObject {
  const { manager, force, time, subresource } = options;
  if (!manager.isNamed)
    throw badRequest(
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
    );
  if (!isObject(wanted) || !isObject(wanted["metadata"]))
    throw badRequest("an apply patch must be an object with metadata");
  if (wanted["metadata"]["managedFields"] !== undefined) throw badRequest("metadata.managedFields must be nil");
  const set = objectFields(wanted, def.schema);
  const isMine = (entry: ManagedFields): boolean => isOf(entry, manager.name, "Apply", subresource);
  const entries = knownManagers(def, stored, time);
  const mine = entries.find(isMine);
  const others = entries.filter((entry) => !isMine(entry));
  const conflicts =
    stored === undefined ? [] : others.flatMap((entry) => conflictsWith(entry, set, wanted, stored, def.schema));
  if (conflicts.length > 0 && !force) throw conflictError(conflicts);
  const merged = mergeApplied(clone(stored), wanted, def.schema);
  if (mine !== undefined)
    removeFields(
      merged,
      mine.fieldsV1,
      set,
      others.map((o) => o.fieldsV1),
      def.schema,
    );
  // What was just built from an object and the wanted one, which toApiObject checks again.
  const object = merged as ApiObject;
  const own: ManagedFields = {
    manager: manager.name,
    operation: "Apply",
    apiVersion: apiVersionOf(def),
    time,
    fieldsType: "FieldsV1",
    fieldsV1: set,
    ...(subresource !== "" && { subresource }),
  };
  const lost = new Set(conflicts.map((c) => c.path));
  const left = others.map((entry) => ({
    ...entry,
    fieldsV1: present(dropPaths(entry.fieldsV1, lost), object, def.schema),
  }));
  setManagers(object, [...left, mine !== undefined && deepEqual(mine.fieldsV1, set) ? mine : own]);
  return object;
}

/** An object that nobody applied or named himself for belongs to "before-first-apply", as in Kubernetes. */
function knownManagers(def: ResourceDef, stored: ApiObject | undefined, time: string): ManagedFields[] {
  const entries = managersOf(stored);
  if (entries.length > 0 || stored === undefined) return entries;
  const fieldsV1 = objectFields(stored, def.schema);
  const apiVersion = apiVersionOf(def);
  return [{ manager: "before-first-apply", operation: "Update", apiVersion, time, fieldsType: "FieldsV1", fieldsV1 }];
}

interface Conflict {
  readonly path: string;
  readonly entry: ManagedFields;
}

function conflictsWith(
  entry: ManagedFields,
  set: FieldSet,
  wanted: unknown,
  live: unknown,
  schema: JSONSchema,
): Conflict[] {
  const found: Conflict[] = [];
  const walk = (
    mine: FieldSet,
    theirs: FieldSet,
    a: unknown,
    b: unknown,
    s: JSONSchema | undefined,
    path: string[],
  ): void => {
    const liveParts = new Map(partsOf(b, s).map((part) => [part.key, part.value]));
    for (const part of partsOf(a, s)) {
      const [inner, other] = [mine[part.key], theirs[part.key]];
      if (inner === undefined || other === undefined || deepEqual(part.value, liveParts.get(part.key))) continue;
      const at = [...path, part.key];
      if (isLeaf(inner) || isLeaf(other)) found.push({ path: pathText(at), entry });
      else walk(inner, other, part.value, liveParts.get(part.key), part.schema, at);
    }
  };
  walk(set, entry.fieldsV1, wanted, live, schema, []);
  return found;
}

function conflictError(conflicts: readonly Conflict[]): StatusError {
  const nameOf = ({ entry }: Conflict): string =>
    `"${entry.manager}"${entry.operation === "Update" ? ` using ${entry.apiVersion}` : ""}`;
  const texts = conflicts.map((c) => `conflict with ${nameOf(c)}: ${c.path}`);
  const causes = conflicts.map(
    (c): Cause => ({
      reason: "FieldManagerConflict",
      message: `conflict with ${nameOf(c)}`,
      field: c.path,
    }),
  );
  const noun = conflicts.length === 1 ? "conflict" : "conflicts";
  const message = `Apply failed with ${conflicts.length} ${noun}: ${texts.join("\n")}`;
  return new StatusError(409, "Conflict", message, { causes });
}

function dropPaths(set: FieldSet, lost: ReadonlySet<string>, path: readonly string[] = []): FieldSet {
  const result: FieldSet = {};
  for (const [key, inner] of Object.entries(set)) {
    const at = [...path, key];
    if (key !== "." && lost.has(pathText(at))) continue;
    result[key] = key === "." ? inner : dropPaths(inner, lost, at);
  }
  return result;
}

/** Merges by the same parts that ownership is counted by. */
function mergeApplied(live: unknown, wanted: unknown, schema: JSONSchema | undefined): unknown {
  const parts = partsOf(wanted, schema);
  if (parts.length === 0) return isObject(wanted) && isObject(live) && isGranular(schema) ? live : clone(wanted);
  if (isObject(wanted)) {
    const result: JsonObject = isObject(live) ? { ...live } : {};
    for (const [name, value] of Object.entries(wanted)) {
      setField(result, name, mergeApplied(ownField(result, name), value, fieldSchema(schema, name)));
    }
    return result;
  }
  const result = partsOf(live, schema).map(({ key, value }) => ({ key, value }));
  for (const part of parts) {
    const known = result.find((r) => r.key === part.key);
    if (known === undefined) result.push({ key: part.key, value: clone(part.value) });
    else known.value = mergeApplied(known.value, part.value, part.schema);
  }
  return result.map((r) => r.value);
}

function isGranular(schema: JSONSchema | undefined): boolean {
  return schema?.["x-kubernetes-map-type"] !== "atomic";
}

/** Takes out of a value, in place, what was owned before, is not wanted now, and belongs to nobody else. */
function removeFields(
  value: unknown,
  before: FieldSet,
  now: FieldSet,
  others: readonly FieldSet[],
  schema: JSONSchema | undefined,
): void {
  for (const part of partsOf(value, schema)) {
    const was = before[part.key];
    if (was === undefined) continue;
    const is = now[part.key];
    const shared = others.map((o) => o[part.key]).filter((o) => o !== undefined);
    const isElement = part.key.startsWith("k:");
    if (is === undefined && shared.length === 0 && (isLeaf(was) || isElement)) removePart(value, part.key, schema);
    else if (!isLeaf(was)) {
      removeFields(part.value, was, is ?? {}, shared, part.schema);
      const isVoid = isObject(part.value) && Object.keys(part.value).length === 0;
      if (is === undefined && isVoid) removePart(value, part.key, schema);
    }
  }
}

function removePart(value: unknown, key: string, schema: JSONSchema | undefined): void {
  if (isObject(value)) delete value[key.slice(2)];
  else if (Array.isArray(value)) {
    const at = partsOf(value, schema).findIndex((part) => part.key === key);
    if (at >= 0) value.splice(at, 1);
  }
}
