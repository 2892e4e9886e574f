// SPDX-License-Identifier: Apache-2.0
import type { InvalidObjectError } from "../crds/errors.ts";
import type { KubeObject, Resource } from "../crds/object.ts";

/** Options of every call. */
export interface CallOptions {
  readonly namespace?: string;
  readonly signal?: AbortSignal;
  /** Units: milliseconds for the whole request, 10,000 by default; a watch has none. */
  readonly timeoutMs?: number;
}

export interface ListOptions extends CallOptions {
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Page size; absent: everything in one answer. `list` follows `continue` by itself and returns all pages. */
  readonly limit?: number;
  readonly resourceVersion?: string;
}

export interface ListResult<T> {
  readonly items: readonly T[];
  /** Objects that `resource.parse` refused: left out of `items`, so that one broken object does not hide the others. */
  readonly invalid: readonly InvalidObjectError[];
  readonly resourceVersion: string;
}

export interface WatchOptions extends CallOptions {
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  readonly resourceVersion: string;
  /** Units: seconds after which the server ends the watch; absent: its own choice. */
  readonly timeoutSeconds?: number;
}

export type WatchEvent<T> =
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: T }
  /** `resource.parse` refused an object that was added, changed or deleted. */
  | { readonly type: "INVALID"; readonly error: InvalidObjectError }
  | { readonly type: "BOOKMARK"; readonly resourceVersion: string };

export type PatchType = "json" | "merge" | "strategic" | "apply";

/**
 * A client of any Kubernetes API server, for any resource. Integers beyond 2^53 are bigint, both ways, and what is read
 * has been through `resource.parse`, where the resource has one: the types hold.
 *
 * Errors: every failed call rejects with a class of `kube/errors.ts` (ConflictError 409, AlreadyExistsError 409 with
 * that reason, NotFoundError 404, GoneError 410, InvalidError 422, ForbiddenError 401 and 403, TooManyRequestsError 429,
 * ServerError 5xx, UnreachableError when no answer came, RequestError any other), with InvalidObjectError when the one
 * object asked for is broken, or with the reason of the caller's signal. A 429 or 503 with Retry-After is retried once within the time.
 * An UnreachableError or ServerError of a write says nothing about whether it was taken: read again before answering.
 */
export interface KubeClient {
  /** With a subresource, what that answers in JSON, such as `proxy/PATH` of the pod `NAME:PORT`. */
  get<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    options?: CallOptions & { readonly subresource?: string },
  ): Promise<T>;
  list<T extends KubeObject>(resource: Resource<T>, options?: ListOptions): Promise<ListResult<T>>;
  /** The same list page by page, so that a large one need not be held at once. All pages are of one moment. */
  listPages<T extends KubeObject>(resource: Resource<T>, options?: ListOptions): AsyncIterable<ListResult<T>>;
  /** Yields events until the server ends the watch (a clean end) or the signal aborts. Rejects with GoneError on 410. */
  watch<T extends KubeObject>(resource: Resource<T>, options: WatchOptions): AsyncIterable<WatchEvent<T>>;
  create<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options?: CallOptions & { readonly dryRun?: boolean },
  ): Promise<T>;
  /** PUT; the object's resourceVersion makes it a compare-and-swap. */
  update<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options?: CallOptions & { readonly subresource?: "status" },
  ): Promise<T>;
  patch<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    patch: {
      readonly type: PatchType;
      readonly body: unknown;
      readonly fieldManager?: string;
      readonly force?: boolean;
      /** Checked and answered as if it were stored, and not stored. */
      readonly dryRun?: boolean;
    },
    options?: CallOptions & { readonly subresource?: "status" },
  ): Promise<T>;
  delete<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    options?: CallOptions & { readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string } },
  ): Promise<void>;
}
