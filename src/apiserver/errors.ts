// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../lib/errors.ts";
import type { JsonObject } from "./model.ts";

/** One cause of a refusal. Source: Kubernetes API, meta/v1 StatusCause. */
export interface Cause {
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

export interface Details {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly Cause[];
  readonly retryAfterSeconds?: number;
}

/**
 * A refusal as the Kubernetes API words it. The texts here follow kube-apiserver and not this project's own style,
 * because kubectl prints them and client libraries look into them.
 */
export class StatusError extends GinghamError {
  readonly status: number;
  readonly reason: string;
  readonly details: Details | undefined;

  constructor(status: number, reason: string, message: string, details?: Details, options?: ErrorOptions) {
    super(`ApiServer${reason || "Error"}`, message, options);
    this.status = status;
    this.reason = reason;
    this.details = details;
  }

  toStatus(): JsonObject {
    return {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message: this.message,
      ...(this.reason !== "" && { reason: this.reason }),
      ...(this.details !== undefined && { details: this.details }),
      code: this.status,
    };
  }
}

/** What an error needs to name a resource. */
export interface Named {
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
}

/** `ipamblocks.crd.projectcalico.org`, or `pods` in the core group. */
export function qualified(resource: { readonly group: string; readonly plural: string }): string {
  return resource.group === "" ? resource.plural : `${resource.plural}.${resource.group}`;
}

function details(resource: Named, name: string, more?: Details): Details {
  return {
    ...(name !== "" && { name }),
    ...(resource.group !== "" && { group: resource.group }),
    kind: resource.plural,
    ...more,
  };
}

export function notFound(resource: Named, name: string): StatusError {
  return new StatusError(404, "NotFound", `${qualified(resource)} "${name}" not found`, details(resource, name));
}

/** No such path: kubectl says "the server doesn't have a resource type". */
export function noSuchResource(): StatusError {
  return new StatusError(404, "NotFound", "the server could not find the requested resource", {});
}

export function alreadyExists(resource: Named, name: string): StatusError {
  const message = `${qualified(resource)} "${name}" already exists`;
  return new StatusError(409, "AlreadyExists", message, details(resource, name));
}

export function conflict(resource: Named, name: string, why: string): StatusError {
  const message = `Operation cannot be fulfilled on ${qualified(resource)} "${name}": ${why}`;
  return new StatusError(409, "Conflict", message, details(resource, name));
}

export function modified(resource: Named, name: string): StatusError {
  const why = "the object has been modified; please apply your changes to the latest version and try again";
  return conflict(resource, name, why);
}

/** Calico's library takes the words "UID in precondition" for "it is gone", so they are kube-apiserver's to the letter. */
export function uidMismatch(resource: Named, key: string, name: string, wanted: string, actual: string): StatusError {
  const registry = `/registry/${resource.group === "" ? "" : `${resource.group}/`}${resource.plural}/${key}`;
  const why = `Precondition failed: UID in precondition: ${wanted}, UID in object meta: ${actual}`;
  const text = `StorageError: invalid object, Code: 4, Key: ${registry}, ResourceVersion: 0, AdditionalErrorMsg: ${why}`;
  return conflict(resource, name, text);
}

export function invalid(resource: Named, name: string, causes: readonly Cause[]): StatusError {
  const texts = [...new Set(causes.map((c) => `${c.field}: ${c.message}`))];
  const list = texts.length === 1 ? texts[0] : `[${texts.join(", ")}]`;
  const kind = resource.group === "" ? resource.kind : `${resource.kind}.${resource.group}`;
  const where = { ...details(resource, name), kind: resource.kind, causes };
  return new StatusError(422, "Invalid", `${kind} "${name}" is invalid: ${list}`, where);
}

export function badRequest(message: string, options?: ErrorOptions): StatusError {
  return new StatusError(400, "BadRequest", message, undefined, options);
}

export function unauthorized(): StatusError {
  return new StatusError(401, "Unauthorized", "Unauthorized");
}

export function forbidden(resource: Named, name: string, why: string): StatusError {
  const subject = name === "" ? qualified(resource) : `${qualified(resource)} "${name}"`;
  return new StatusError(403, "Forbidden", `${subject} is forbidden: ${why}`, details(resource, name));
}

export function methodNotAllowed(resource: Named | undefined): StatusError {
  const message = "the server does not allow this method on the requested resource";
  return new StatusError(405, "MethodNotAllowed", message, resource === undefined ? {} : details(resource, ""));
}

export function unsupportedMediaType(message: string): StatusError {
  return new StatusError(415, "UnsupportedMediaType", message, {});
}

export function tooLarge(limit: number): StatusError {
  const message = `Request entity too large: limit is ${limit}`;
  return new StatusError(413, "RequestEntityTooLarge", message, {});
}

/** The resource version, or the page of a list, is older than what the server still has. */
export function expired(message: string): StatusError {
  return new StatusError(410, "Expired", message);
}

/** A list that must be at least as new as a version that this server has not reached. */
export function tooNew(wanted: string, current: number): StatusError {
  const message = `Too large resource version: ${wanted}, current: ${current}`;
  const causes = [{ reason: "ResourceVersionTooLarge", message: "Too large resource version", field: "" }];
  return new StatusError(504, "Timeout", message, { causes, retryAfterSeconds: 1 });
}

export function internal(message: string, cause: unknown): StatusError {
  return new StatusError(500, "InternalError", `Internal error occurred: ${message}`, undefined, { cause });
}

export class TokenFileError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("TokenFile", message, options);
  }
}

/** A machine's credential cannot be made. */
export class CredentialError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("Credential", message, options);
  }
}
