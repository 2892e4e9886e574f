// SPDX-License-Identifier: Apache-2.0
import { badRequest, type Cause, conflict, invalid, modified, StatusError, uidMismatch } from "./errors.ts";
import { type ApiObject, deepEqual, isObject, nameOfType, type ObjectMeta } from "./model.ts";
import { checkMetadata, invalidValue, isName } from "./names.ts";
import { apiVersionOf, type ResourceDef } from "./resource.ts";

/** What to do with fields that the schema does not know. Source: Kubernetes API concepts, Field validation. */
export type FieldValidation = "Strict" | "Warn" | "Ignore";

/** Source: meta/v1 ObjectMeta. */
const METADATA_FIELDS = new Set([
  ...["annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers"],
  ...["generateName", "generation", "labels", "managedFields", "name", "namespace", "ownerReferences"],
  ...["resourceVersion", "uid"],
]);

/** RFC 3339 in whole seconds, as Kubernetes writes times. */
export function timestamp(nowMs: number): string {
  return new Date(nowMs).toISOString().replace(/\.\d+Z$/, "Z");
}

/**
 * Checks that a body is an object of the resource that the path names, and makes it one.
 *
 * Shape: the result is the given object, now known to have apiVersion, kind and metadata with name and namespace.
 * @throws StatusError 400.
 */
export function toApiObject(body: unknown, def: ResourceDef, namespace: string, name: string): ApiObject {
  if (!isObject(body)) {
    const found = body === undefined ? "empty" : nameOfType(body);
    throw badRequest(`the body must be a ${def.kind} object, it is ${found}`);
  }
  const { apiVersion, kind } = body;
  // Clients of Kubernetes' own kinds may leave the type out: the path says it.
  if (apiVersion === undefined && kind === undefined && def.isBuiltin) {
    body["apiVersion"] = apiVersionOf(def);
    body["kind"] = def.kind;
  } else if (typeof kind !== "string" || kind === "") {
    throw badRequest(`Object 'Kind' is missing in the body of a request for ${def.plural}`);
  } else if (apiVersion !== apiVersionOf(def)) {
    throw badRequest(
      `the API version in the data (${String(apiVersion)}) does not match the expected API version (${apiVersionOf(def)})`,
    );
  } else if (kind !== def.kind) {
    throw badRequest(`${kind} in version "${def.version}" cannot be handled as a ${def.kind}: the kinds do not match`);
  }
  const metadata = body["metadata"] ?? {};
  if (!isObject(metadata)) throw badRequest(`metadata of the ${def.kind} must be an object`);
  for (const field in metadata) if (metadata[field] === null) delete metadata[field];
  for (const field of ["name", "namespace", "uid", "resourceVersion", "generateName"]) {
    const value = metadata[field];
    if (value !== undefined && typeof value !== "string") throw badRequest(`metadata.${field} must be a string`);
  }
  delete metadata["selfLink"];
  body["metadata"] = metadata;
  // All that the type says was just checked.
  const object = body as ApiObject;
  settleIdentity(object.metadata, def, namespace, name);
  return object;
}

function settleIdentity(metadata: ObjectMeta, def: ResourceDef, namespace: string, name: string): void {
  metadata.name ??= name;
  if (name !== "" && metadata.name !== name) {
    throw badRequest(`the name of the object (${metadata.name}) does not match the name on the URL (${name})`);
  }
  if (!def.namespaced) {
    delete metadata.namespace;
    return;
  }
  if (metadata.namespace !== undefined && metadata.namespace !== "" && metadata.namespace !== namespace) {
    throw badRequest(
      `the namespace of the provided object does not match the namespace sent on the request (${metadata.namespace} and ${namespace})`,
    );
  }
  metadata.namespace = namespace;
}

/**
 * Validates, defaults and prunes in place.
 *
 * @returns Warnings for the client.
 * @throws StatusError 422 with every cause, or 400 for unknown fields under Strict.
 */
export function validate(def: ResourceDef, object: ApiObject, mode: FieldValidation): string[] {
  const { causes, unknown } = def.validate(object);
  for (const field in object.metadata) {
    if (METADATA_FIELDS.has(field)) continue;
    unknown.push(`metadata.${field}`);
    delete object.metadata[field];
  }
  if (unknown.length > 0 && mode === "Strict") {
    const fields = unknown.map((field) => `unknown field "${field}"`).join(", ");
    throw badRequest(
      `${def.kind} in version "${def.version}" cannot be handled as a ${def.kind}: strict decoding error: ${fields}`,
    );
  }
  const all: Cause[] = [...checkMetadata(object, def.nameRule), ...causes];
  if (all.length > 0) throw invalid(def, object.metadata.name, all);
  return mode === "Warn" ? unknown.map((field) => `unknown field "${field}"`) : [];
}

/** Sets the metadata that only the server writes on a new object. */
export function beginLife(def: ResourceDef, object: ApiObject, uid: string, nowMs: number): void {
  const { metadata } = object;
  metadata.uid = uid;
  metadata.creationTimestamp = timestamp(nowMs);
  delete metadata.resourceVersion;
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata.managedFields;
  if (countsGenerations(object)) metadata.generation = 1;
  else delete metadata.generation;
  // A custom resource's status comes by its subresource alone; kubelets and tests register nodes and pods with theirs.
  if (def.hasStatus && !def.isBuiltin) delete object["status"];
  def.prepareCreate?.(object);
}

function countsGenerations(object: ApiObject): boolean {
  return Object.hasOwn(object, "spec");
}

/**
 * Makes the new state of an update: what the client may change from `incoming`, the rest from `old`.
 *
 * Shape: `incoming` is the caller's own and is changed; `old` is stored and is not.
 * @throws StatusError 409 when the incoming resourceVersion or uid is not the old one's; 422.
 */
export function continueLife(
  def: ResourceDef,
  old: ApiObject,
  incoming: ApiObject,
  subresource: string,
  key: string,
): ApiObject {
  checkPreconditions(def, old, incoming.metadata.uid, incoming.metadata.resourceVersion, key);
  if (incoming.metadata.resourceVersion === undefined || incoming.metadata.resourceVersion === "") {
    if (!def.allowsUnconditionalUpdate) {
      throw invalid(def, key, [invalidValue("metadata.resourceVersion", "", "must be specified for an update")]);
    }
  }
  const next = subresource === "status" ? withStatus(def, old, incoming) : incoming;
  if (subresource === "" && def.hasStatus) {
    if (old["status"] === undefined) delete next["status"];
    else next["status"] = old["status"];
  }
  keepServerMetadata(old.metadata, next.metadata);
  return next;
}

export function checkPreconditions(
  def: ResourceDef,
  old: ApiObject,
  uid: string | undefined,
  resourceVersion: string | undefined,
  key: string,
): void {
  const { metadata } = old;
  if (uid !== undefined && uid !== "" && uid !== metadata.uid) {
    throw uidMismatch(def, key, metadata.name, uid, metadata.uid ?? "");
  }
  if (resourceVersion === undefined || resourceVersion === "" || resourceVersion === metadata.resourceVersion) return;
  if (!/^\d+$/.test(resourceVersion)) {
    const text = "must be the resourceVersion of a read object";
    throw invalid(def, metadata.name, [invalidValue("metadata.resourceVersion", resourceVersion, text)]);
  }
  throw modified(def, metadata.name);
}

/** Custom resources take the status alone; Kubernetes' own kinds also take labels and annotations this way. */
function withStatus(def: ResourceDef, old: ApiObject, incoming: ApiObject): ApiObject {
  const metadata = def.isBuiltin ? incoming.metadata : { ...old.metadata };
  const next: ApiObject = { ...old, metadata, status: incoming["status"] };
  if (next["status"] === undefined) delete next["status"];
  return next;
}

const SERVER_FIELDS = [
  "uid",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "generation",
] as const;

function keepServerMetadata(old: ObjectMeta, next: ObjectMeta): void {
  for (const field of SERVER_FIELDS) {
    if (old[field] === undefined) delete next[field];
    else Object.assign(next, { [field]: old[field] });
  }
  if (old.managedFields === undefined) delete next.managedFields;
  else next.managedFields = old.managedFields;
}

/** How a new state differs from the old one. */
export interface Difference {
  /** In what the user asks for: everything but metadata, and status where that is a subresource. */
  readonly isInSpec: boolean;
  /** In anything but what every write changes. */
  readonly isAny: boolean;
}

export function compare(def: ResourceDef, old: ApiObject, next: ApiObject): Difference {
  let isInSpec = false;
  let isElsewhere = false;
  for (const field of new Set([...Object.keys(old), ...Object.keys(next)])) {
    const isOutside = field === "metadata" || (field === "status" && def.hasStatus);
    if (isOutside ? isElsewhere : isInSpec) continue;
    const isSame =
      field === "metadata" ? isSameMetadata(old.metadata, next.metadata) : deepEqual(old[field], next[field]);
    if (isSame) continue;
    if (isOutside) isElsewhere = true;
    else isInSpec = true;
  }
  return { isInSpec, isAny: isInSpec || isElsewhere };
}

function isSameMetadata(old: ObjectMeta, next: ObjectMeta): boolean {
  return deepEqual({ ...old, resourceVersion: "" }, { ...next, resourceVersion: "" });
}

/** @throws StatusError 422 when an object that is going away gets a new finalizer. */
export function checkFinalizers(def: ResourceDef, old: ApiObject, next: ApiObject): void {
  if (old.metadata.deletionTimestamp === undefined) return;
  const before = new Set(old.metadata.finalizers ?? []);
  const added = (next.metadata.finalizers ?? []).filter((f) => !before.has(f));
  if (added.length === 0) return;
  const found = added.map((f) => JSON.stringify(f)).join(", ");
  const message = `Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{${found}}`;
  throw invalid(def, old.metadata.name, [{ reason: "FieldValueForbidden", message, field: "metadata.finalizers" }]);
}

export function isFinished(object: ApiObject): boolean {
  return object.metadata.deletionTimestamp !== undefined && (object.metadata.finalizers ?? []).length === 0;
}

/** What a DELETE asks for. Source: meta/v1 DeleteOptions. */
export interface DeleteOptions {
  readonly uid: string | undefined;
  readonly resourceVersion: string | undefined;
}

/** Reads the body of a DELETE. @throws StatusError 400. */
export function parseDeleteOptions(body: unknown): DeleteOptions {
  if (body === undefined) return { uid: undefined, resourceVersion: undefined };
  if (!isObject(body)) throw badRequest("the body of a DELETE must be a DeleteOptions object");
  const conditions = body["preconditions"];
  const read = (field: string): string | undefined => {
    const value = isObject(conditions) ? conditions[field] : undefined;
    if (value !== undefined && value !== null && typeof value !== "string") {
      throw badRequest(`preconditions.${field} must be a string`);
    }
    return value ?? undefined;
  };
  return { uid: read("uid"), resourceVersion: read("resourceVersion") };
}

/** @throws StatusError 409 when the object is not the one that the client saw. */
export function checkDelete(def: ResourceDef, old: ApiObject, options: DeleteOptions, key: string): void {
  const { uid, resourceVersion } = options;
  if (uid !== undefined && uid !== old.metadata.uid) {
    throw uidMismatch(def, key, old.metadata.name, uid, old.metadata.uid ?? "");
  }
  if (resourceVersion !== undefined && resourceVersion !== old.metadata.resourceVersion) {
    const why = `the ResourceVersion in the precondition (${resourceVersion}) does not match the ResourceVersion in record (${old.metadata.resourceVersion}). The object might have been modified`;
    throw conflict(def, old.metadata.name, why);
  }
}

/** @throws StatusError 400 or 422 for a name in the path that cannot exist. */
export function checkPathName(def: ResourceDef, name: string): void {
  if (!isName(name, def.nameRule) && name.length > 253) {
    throw new StatusError(400, "BadRequest", `the name of ${def.plural} in the path is longer than 253 characters`);
  }
}
