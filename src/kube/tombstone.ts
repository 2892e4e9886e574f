// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { IPAMBlock } from "../crds/ipam-block.ts";
import type { IPAMHandle } from "../crds/ipam-handle.ts";
import type { Resource } from "../crds/object.ts";
import type { CallOptions, KubeClient } from "./api.ts";
import { ConflictError, InvalidError, NotFoundError } from "./errors.ts";

/** The kinds that are deleted in two steps. */
export type Tombstoned = IPAMBlock | IPAMHandle | BlockAffinity;

/**
 * What became of a delete. `ok`: gone, and by this call. `notFound`: it was gone already, or it is another object now.
 * `conflict`: somebody has changed it since it was read, so read it again.
 */
export type DeleteOutcome = { readonly kind: "ok" } | { readonly kind: "notFound" } | { readonly kind: "conflict" };

/** True for an object that is about to be deleted: nothing may be assigned from it, and it counts as absent. */
export function isTombstone(object: Tombstoned): boolean {
  return object.spec.deleted === true || object.spec.deleted === "true";
}

/**
 * Deletes exactly the version of the object that was read.
 *
 * A DELETE cannot be a compare-and-swap that Calico's clients understand, so the object is first marked as deleted by
 * one, and then deleted by identity alone. Whoever finds the mark finishes the delete. Errors: UnreachableError and
 * ServerError say nothing about what happened; call again with the object read anew. Source: calico-interop 1.5.
 */
export async function deleteTombstoned<T extends Tombstoned>(
  client: KubeClient,
  resource: Resource<T>,
  object: T,
  options: CallOptions = {},
): Promise<DeleteOutcome> {
  if (isTombstone(object)) return await finishDelete(client, resource, object, options);
  // BlockAffinity's mark is a string in v1. The cast: T keeps its kind, only the mark changes.
  const deleted = typeof object.spec.deleted === "string" ? "true" : true;
  const marked = { ...object, spec: { ...object.spec, deleted } } as T;
  try {
    await finishDelete(client, resource, await client.update(resource, marked, options), options);
    // Gone either way: our mark decided it, even when another client carried it out first.
    return { kind: "ok" };
  } catch (error) {
    if (error instanceof NotFoundError) return { kind: "notFound" };
    if (error instanceof ConflictError) return { kind: "conflict" };
    if (error instanceof InvalidError) return outcomeOfInvalid(error);
    throw error;
  }
}

/** The second step alone, for an object that carries the mark. */
export async function finishDelete<T extends Tombstoned>(
  client: KubeClient,
  resource: Resource<T>,
  object: T,
  options: CallOptions = {},
): Promise<DeleteOutcome> {
  const { name, uid } = object.metadata;
  try {
    await client.delete(resource, name, { ...options, ...(uid === undefined ? {} : { preconditions: { uid } }) });
    return { kind: "ok" };
  } catch (error) {
    if (error instanceof NotFoundError) return { kind: "notFound" };
    if (error instanceof InvalidError) return outcomeOfInvalid(error);
    // A 409 says in words alone whether the object is another one now or was only busy: look instead of reading words.
    if (error instanceof ConflictError) return await outcomeOfConflict(client, resource, object, options);
    throw error;
  }
}

/** Reads an object as every client must: one that is about to be deleted is deleted now, and counts as absent. */
export async function getLive<T extends Tombstoned>(
  client: KubeClient,
  resource: Resource<T>,
  name: string,
  options: CallOptions = {},
): Promise<T | undefined> {
  try {
    const object = await client.get(resource, name, options);
    if (!isTombstone(object)) return object;
    await finishDelete(client, resource, object, options);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
  }
  return undefined;
}

function outcomeOfInvalid(error: InvalidError): DeleteOutcome {
  const fields = error.causes.map((cause) => cause.field);
  if (fields.includes("metadata.uid")) return { kind: "notFound" };
  if (fields.includes("metadata.resourceVersion")) return { kind: "conflict" };
  throw error;
}

async function outcomeOfConflict<T extends Tombstoned>(
  client: KubeClient,
  resource: Resource<T>,
  object: T,
  options: CallOptions,
): Promise<DeleteOutcome> {
  try {
    const { metadata } = await client.get(resource, object.metadata.name, options);
    return { kind: metadata.uid === object.metadata.uid ? "conflict" : "notFound" };
  } catch (error) {
    if (error instanceof NotFoundError) return { kind: "notFound" };
    throw error;
  }
}
