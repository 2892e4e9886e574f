// SPDX-License-Identifier: Apache-2.0
import type { KubeObject, Resource } from "../crds/object.ts";
import { GinghamError } from "../lib/errors.ts";

/** One cause out of a Status object, such as the field that failed validation. */
export interface StatusCause {
  readonly reason?: string;
  readonly message?: string;
  /** Path of the field, such as `metadata.uid`. */
  readonly field?: string;
}

/** What a call was about, for messages. */
export interface CallTarget {
  readonly verb: string;
  /** `ipamblocks.crd.projectcalico.org`, or `nodes`. */
  readonly resource: string;
  readonly objectName?: string;
  readonly namespace?: string;
}

/** What the server said of a failed call. Source: Kubernetes API reference, meta/v1 Status. */
export interface FailureStatus {
  /** HTTP status; 0 when no answer came. */
  readonly status: number;
  readonly reason?: string;
  readonly message?: string;
  readonly causes?: readonly StatusCause[];
  readonly retryAfterSeconds?: number;
}

/** A failed call of the Kubernetes API. The subclass says what to do about it. */
export class KubeError extends GinghamError {
  readonly status: number;
  readonly reason: string;
  readonly causes: readonly StatusCause[];
  readonly verb: string;
  readonly resource: string;
  readonly objectName: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: string, target: CallTarget, failure: FailureStatus, nextStep: string, options?: ErrorOptions) {
    const name = [target.namespace, target.objectName].filter((part) => part !== undefined).join("/");
    const what = `Cannot ${target.verb} ${target.resource}${name ? ` ${name}` : ""}`;
    const said = failure.message ?? failure.reason ?? "no reason given";
    super(code, `${what}: ${failure.status ? `${failure.status}, ` : ""}${said}; ${nextStep}`, options);
    this.status = failure.status;
    this.reason = failure.reason ?? "";
    this.causes = failure.causes ?? [];
    this.verb = target.verb;
    this.resource = target.resource;
    this.objectName = target.objectName;
    this.retryAfterSeconds = failure.retryAfterSeconds;
  }
}

/** 409: the object changed since it was read, or is another one than the preconditions name. Read again. */
export class ConflictError extends KubeError {
  constructor(target: CallTarget, failure: FailureStatus, options?: ErrorOptions) {
    super("KubeConflict", target, failure, "read the object again", options);
  }
}

/** 409 with the reason AlreadyExists. */
export class AlreadyExistsError extends KubeError {
  constructor(target: CallTarget, failure: FailureStatus, options?: ErrorOptions) {
    super("KubeAlreadyExists", target, failure, "read the object that exists", options);
  }
}

/** 404: no such object, or no such kind when no object was named. */
export class NotFoundError extends KubeError {
  constructor(target: CallTarget, failure: FailureStatus, options?: ErrorOptions) {
    super("KubeNotFound", target, failure, "check the name, and that the kind is installed", options);
  }
}

/** 410: the resourceVersion is too old. List again. */
export class GoneError extends KubeError {
  constructor(target: CallTarget, failure: FailureStatus, options?: ErrorOptions) {
    super("KubeGone", target, failure, "list again", options);
  }
}

/** 422: the object breaks its schema; `causes` name the fields. */
export class InvalidError extends KubeError {
  constructor(target: CallTarget, failure: FailureStatus, options?: ErrorOptions) {
    super("KubeInvalid", target, failure, "correct the fields it names", options);
  }
}

/** 401 and 403. */
export class ForbiddenError extends KubeError {
  constructor(target: CallTarget, failure: FailureStatus, options?: ErrorOptions) {
    const step = failure.status === 401 ? "check the credentials" : "grant the right to this account";
    super("KubeForbidden", target, failure, step, options);
  }
}

/** 429: the server sheds load. */
export class TooManyRequestsError extends KubeError {
  constructor(target: CallTarget, failure: FailureStatus, options?: ErrorOptions) {
    super("KubeTooManyRequests", target, failure, "try again later", options);
  }
}

/** 5xx. A write may have been taken: read again before answering. */
export class ServerError extends KubeError {
  constructor(target: CallTarget, failure: FailureStatus, options?: ErrorOptions) {
    super("KubeServerError", target, failure, "try again later, or see the API server's log", options);
  }
}

/** No answer, or not a whole one. A write may have been taken: read again before answering. */
export class UnreachableError extends KubeError {
  constructor(target: CallTarget, message: string, options?: ErrorOptions) {
    super(
      "KubeUnreachable",
      target,
      { status: 0, message },
      "check that the API server runs and is reachable",
      options,
    );
  }
}

/** Any other refusal, such as 400, 405 or 415: the call itself is wrong. */
export class RequestError extends KubeError {
  constructor(target: CallTarget, failure: FailureStatus, options?: ErrorOptions) {
    super("KubeRequest", target, failure, "this call needs another server or another client", options);
  }
}

/** The class that stands for an HTTP status and reason. */
export function kubeErrorOf(target: CallTarget, failure: FailureStatus, options?: ErrorOptions): KubeError {
  const { status, reason } = failure;
  if (status === 409 && reason === "AlreadyExists") return new AlreadyExistsError(target, failure, options);
  if (status === 409) return new ConflictError(target, failure, options);
  if (status === 404) return new NotFoundError(target, failure, options);
  if (status === 410) return new GoneError(target, failure, options);
  if (status === 422) return new InvalidError(target, failure, options);
  if (status === 401 || status === 403) return new ForbiddenError(target, failure, options);
  if (status === 429) return new TooManyRequestsError(target, failure, options);
  if (status >= 500) return new ServerError(target, failure, options);
  return new RequestError(target, failure, options);
}

/** Name of a resource in messages, as kubectl writes it. */
export function resourceName(resource: Resource<KubeObject>): string {
  return resource.group === "" ? resource.plural : `${resource.plural}.${resource.group}`;
}

/** No usable kubeconfig or service account. */
export class KubeConfigError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("KubeConfig", message, options);
  }
}

/** We led, and may not any more. */
export class LeadershipLostError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("LeadershipLost", message, options);
  }
}
