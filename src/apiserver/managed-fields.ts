// SPDX-License-Identifier: Apache-2.0
import { changedFields, type FieldSet, isEmpty, present, subtract, union, withoutServerFields } from "./field-set.ts";
import { type ApiObject, deepEqual, isObject } from "./model.ts";
import { apiVersionOf, type ResourceDef } from "./resource.ts";

/** One manager's share of an object. Source: meta/v1 ManagedFieldsEntry. */
export interface ManagedFields {
  readonly manager: string;
  readonly operation: "Apply" | "Update";
  readonly apiVersion: string;
  readonly time: string;
  readonly fieldsType: "FieldsV1";
  readonly fieldsV1: FieldSet;
  readonly subresource?: string;
}

/** Reads the entries of an object; what is not of this server's making is left out. */
export function managersOf(object: ApiObject | undefined): ManagedFields[] {
  return readManagers(object?.metadata.managedFields);
}

function readManagers(value: unknown): ManagedFields[] {
  const entries: readonly unknown[] = Array.isArray(value) ? value : [];
  return entries.filter(
    (entry): entry is ManagedFields =>
      isObject(entry) && isObject(entry["fieldsV1"]) && typeof entry["manager"] === "string",
  );
}

export function isOf(entry: ManagedFields, manager: string, operation: string, subresource: string): boolean {
  return entry.manager === manager && entry.operation === operation && (entry.subresource ?? "") === subresource;
}

/**
 * Takes over the managedFields that a client wrote itself: entries replace those of the object, one empty entry forgets
 * them, and what cannot be read counts as left out. Source: Kubernetes documentation, Server-Side Apply, "Clearing
 * managedFields".
 */
export function adoptManagers(object: ApiObject, written: unknown): void {
  const entries = readManagers(written);
  if (entries.length > 0) object.metadata.managedFields = entries;
  else if (deepEqual(written, [{}])) delete object.metadata.managedFields;
}

/** Who writes: the name that the client gave, or one made from its user agent. */
export interface Manager {
  readonly name: string;
  /** The client named itself. */
  readonly isNamed: boolean;
}

/**
 * Writes down who changed which field of an object by create, update or patch, on top of the entries that it has.
 *
 * Ownership is kept only for objects that a client which names its field manager (kubectl does) has written once: the
 * agents' own writes neither need it nor pay for it.
 */
export function recordManager(
  def: ResourceDef,
  old: ApiObject | undefined,
  next: ApiObject,
  manager: Manager,
  subresource: string,
  time: string,
): void {
  const entries = managersOf(next);
  if (entries.length === 0 && !manager.isNamed) return;
  const changed = withoutServerFields(changedFields(old ?? {}, next, def.schema));
  const isMine = (entry: ManagedFields): boolean => isOf(entry, manager.name, "Update", subresource);
  const mine = entries.find(isMine);
  const kept = entries.map((entry): ManagedFields => {
    const left = isMine(entry) ? entry.fieldsV1 : subtract(entry.fieldsV1, changed);
    return { ...entry, fieldsV1: present(left, next, def.schema) };
  });
  const own: ManagedFields = {
    manager: manager.name,
    operation: "Update",
    apiVersion: apiVersionOf(def),
    time,
    fieldsType: "FieldsV1",
    fieldsV1: union(kept.find(isMine)?.fieldsV1 ?? {}, changed),
    ...(subresource !== "" && { subresource }),
  };
  const isUnchanged = mine !== undefined && deepEqual(mine.fieldsV1, own.fieldsV1);
  const others = kept.filter((entry) => !isMine(entry));
  setManagers(next, [...others, isUnchanged ? mine : own]);
}

export function setManagers(object: ApiObject, entries: readonly ManagedFields[]): void {
  const kept = entries.filter((entry) => !isEmpty(entry.fieldsV1));
  if (kept.length > 0) object.metadata.managedFields = kept;
  else delete object.metadata.managedFields;
}
