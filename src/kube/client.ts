// SPDX-License-Identifier: Apache-2.0
import type { InvalidObjectError } from "../crds/errors.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import type { Clock } from "../lib/clock.ts";
import { parseJSON, stringifyJSON } from "../lib/json.ts";
import { systemClock } from "../lib/system-clock.ts";
import type { CallOptions, KubeClient, ListOptions, ListResult, PatchType, WatchEvent, WatchOptions } from "./api.ts";
import type { KubeCredentials } from "./credentials.ts";
import { type CallTarget, GoneError, kubeErrorOf, RequestError, resourceName, UnreachableError } from "./errors.ts";
import { type Answer, type Exchange, TransportError } from "./exchange.ts";
import { lines } from "./lines.ts";
import { failureOf, parseListPage, parseObject, parseWatchLine } from "./replies.ts";
import { Transport } from "./transport.ts";
import { pathOf, queryOf } from "./urls.ts";

const CALL_TIMEOUT_MS = 10_000;
/** A server answers a watch at once, and sends events later. */
const WATCH_HEAD_TIMEOUT_MS = 30_000;

const PROBE_TIMEOUT_MS = 2_000;

const PATCH_CONTENT_TYPES: Readonly<Record<PatchType, string>> = {
  json: "application/json-patch+json",
  merge: "application/merge-patch+json",
  strategic: "application/strategic-merge-patch+json",
  apply: "application/apply-patch+yaml",
};

export interface HTTPKubeClientOptions {
  readonly credentials: KubeCredentials;
  /** Shows in the API server's audit log. */
  readonly userAgent?: string;
  readonly clock?: Clock;
  /** Called with the first usable answer after a call that had none. */
  readonly onAnswer?: () => void;
}

type ByName = CallOptions & { readonly subresource?: "status" };
type Preconditions = { readonly uid?: string; readonly resourceVersion?: string };

/** The KubeClient over HTTP. One instance a process: it holds the connections. */
export class HTTPKubeClient implements KubeClient {
  readonly #credentials: KubeCredentials;
  readonly #transport: Transport;
  readonly #userAgent: string;
  readonly #clock: Clock;
  readonly #onAnswer: HTTPKubeClientOptions["onAnswer"];
  #awaySinceMs: number | undefined;

  constructor(options: HTTPKubeClientOptions) {
    this.#credentials = options.credentials;
    this.#transport = new Transport(options.credentials);
    this.#userAgent = options.userAgent ?? "gingham";
    this.#clock = options.clock ?? systemClock;
    this.#onAnswer = options.onAnswer;
  }

  /**
   * Since when no call has had a usable answer; undefined when the last one had. It asks once more before it says so: a
   * call that failed alone may have been the last for a long time. Units: Unix milliseconds. Never rejects.
   */
  async awaySinceMs(): Promise<number | undefined> {
    const target = { verb: "get", resource: "version" };
    const options = { timeoutMs: PROBE_TIMEOUT_MS };
    if (this.#awaySinceMs !== undefined) await this.#call(target, "GET", "/version", options).catch(() => {});
    return this.#awaySinceMs;
  }

  async get<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    options: CallOptions & { readonly subresource?: string } = {},
  ): Promise<T> {
    const target = targetOf("get", resource, name, options.namespace);
    const text = await this.#call(target, "GET", pathFor(resource, target, options.subresource), options);
    return this.#parse(target, () => parseObject(resource, parseJSON(text)));
  }

  async list<T extends KubeObject>(resource: Resource<T>, options: ListOptions = {}): Promise<ListResult<T>> {
    for (let attempt = 1; ; attempt++) {
      try {
        const items: T[] = [];
        const invalid: InvalidObjectError[] = [];
        let resourceVersion = "";
        for await (const page of this.listPages(resource, options)) {
          items.push(...page.items);
          invalid.push(...page.invalid);
          resourceVersion = page.resourceVersion;
        }
        return { items, invalid, resourceVersion };
      } catch (error) {
        // The moment that the pages are of was forgotten between two of them: from the start, once.
        if (!(error instanceof GoneError) || options.limit === undefined || attempt > 1) throw error;
      }
    }
  }

  async *listPages<T extends KubeObject>(
    resource: Resource<T>,
    options: ListOptions = {},
  ): AsyncGenerator<ListResult<T>, void, undefined> {
    const target = targetOf("list", resource, undefined, options.namespace);
    const { labelSelector, fieldSelector, limit, resourceVersion } = options;
    let query: Parameters<typeof queryOf>[0] = { labelSelector, fieldSelector, limit, resourceVersion };
    for (;;) {
      const text = await this.#call(target, "GET", pathFor(resource, target) + queryOf(query), options);
      const page = this.#parse(target, () => parseListPage(resource, parseJSON(text)));
      yield page;
      if (page.next === undefined) return;
      query = { labelSelector, fieldSelector, limit, continue: page.next };
    }
  }

  async *watch<T extends KubeObject>(
    resource: Resource<T>,
    options: WatchOptions,
  ): AsyncGenerator<WatchEvent<T>, void, undefined> {
    const target = targetOf("watch", resource, undefined, options.namespace);
    const { labelSelector, fieldSelector, resourceVersion, timeoutSeconds, signal } = options;
    const query = {
      watch: 1,
      allowWatchBookmarks: true,
      labelSelector,
      fieldSelector,
      resourceVersion,
      timeoutSeconds,
    };
    if (signal?.aborted) return;
    try {
      const stream = await this.#openStream(target, pathFor(resource, target) + queryOf(query), options);
      try {
        for await (const line of lines(stream.chunks)) {
          if (signal?.aborted) return;
          yield this.#parse(target, () => parseWatchLine(resource, target, parseJSON(line)));
        }
      } finally {
        stream.close();
      }
    } catch (error) {
      if (signal?.aborted) return;
      throw this.#translated(target, error);
    }
  }

  async create<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: CallOptions & { readonly dryRun?: boolean } = {},
  ): Promise<T> {
    const { name, namespace } = object.metadata;
    const target = targetOf("create", resource, name, options.namespace ?? namespace);
    const path = pathOf(resource, target.namespace) + queryOf(options.dryRun === true ? { dryRun: "All" } : {});
    const text = await this.#call(target, "POST", path, options, { body: stringifyJSON(object) });
    return this.#parse(target, () => parseObject(resource, parseJSON(text)));
  }

  async update<T extends KubeObject>(resource: Resource<T>, object: T, options: ByName = {}): Promise<T> {
    const { name, namespace } = object.metadata;
    const target = targetOf("update", resource, name, options.namespace ?? namespace);
    const path = pathFor(resource, target, options.subresource);
    const text = await this.#call(target, "PUT", path, options, { body: stringifyJSON(object) });
    return this.#parse(target, () => parseObject(resource, parseJSON(text)));
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    patch: {
      readonly type: PatchType;
      readonly body: unknown;
      readonly fieldManager?: string;
      readonly force?: boolean;
      readonly dryRun?: boolean;
    },
    options: ByName = {},
  ): Promise<T> {
    const target = targetOf("patch", resource, name, options.namespace);
    const { fieldManager, force } = patch;
    const query = queryOf({ fieldManager, force, ...(patch.dryRun === true && { dryRun: "All" }) });
    const path = pathFor(resource, target, options.subresource) + query;
    const content = { body: stringifyJSON(patch.body), type: PATCH_CONTENT_TYPES[patch.type] };
    const text = await this.#call(target, "PATCH", path, options, content);
    return this.#parse(target, () => parseObject(resource, parseJSON(text)));
  }

  async delete<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    options: CallOptions & { readonly preconditions?: Preconditions } = {},
  ): Promise<void> {
    const target = targetOf("delete", resource, name, options.namespace);
    const { preconditions } = options;
    const content =
      preconditions === undefined
        ? undefined
        : { body: stringifyJSON({ apiVersion: "v1", kind: "DeleteOptions", preconditions }) };
    await this.#call(target, "DELETE", pathFor(resource, target), options, content);
  }

  /**
   * Ends connections from addresses that this machine no longer has. The kernel keeps them open and silent, so each would cost
   * a call its whole time limit, and a watch would hear nothing more.
   */
  dropConnectionsFrom(isGone: (localAddress: string) => boolean): void {
    this.#transport.dropFrom(isGone);
  }

  /** Closes all connections; calls under way fail. */
  close(): void {
    this.#transport.close();
  }

  /** One call with its retries, all within its time. Returns the body of a good answer. */
  async #call(
    target: CallTarget,
    method: string,
    path: string,
    options: CallOptions,
    content?: { readonly body: string; readonly type?: string },
  ): Promise<string> {
    options.signal?.throwIfAborted();
    const timeoutMs = options.timeoutMs ?? CALL_TIMEOUT_MS;
    const deadlineMs = this.#clock.nowMs() + timeoutMs;
    const retried = new Set<"credentials" | "busy" | "connection">();
    for (;;) {
      try {
        const headers = await this.#headers(content);
        const answer = await this.#transport.send({
          method,
          path,
          headers,
          timeoutMs: Math.max(1, deadlineMs - this.#clock.nowMs()),
          ...(content === undefined ? {} : { body: content.body }),
          ...(options.signal === undefined ? {} : { signal: options.signal }),
        });
        this.#noteStatus(answer.status);
        if (answer.status >= 200 && answer.status < 300) return answer.text;
        if (await this.#mayRetry(answer, retried, deadlineMs, options.signal)) continue;
        throw kubeErrorOf(target, failureOf(answer));
      } catch (error) {
        // A server may close a kept connection just as we use it. Reading twice does no harm; a write may have been
        // taken, which only the caller can find out.
        const isStale = error instanceof TransportError && !error.isUnsent && method === "GET";
        if (isStale && !retried.has("connection") && this.#clock.nowMs() < deadlineMs) retried.add("connection");
        else throw this.#translated(target, error);
      }
    }
  }

  /** True when the answer asks for another try, and after the wait that it asks for. */
  async #mayRetry(
    answer: Answer,
    retried: Set<string>,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    if (answer.status === 401 && !retried.has("credentials")) {
      retried.add("credentials");
      this.#credentials.refresh();
      return true;
    }
    const waitMs = (answer.retryAfterSeconds ?? Number.POSITIVE_INFINITY) * 1000;
    const isBusy = answer.status === 429 || answer.status === 503;
    if (!isBusy || retried.has("busy") || this.#clock.nowMs() + waitMs >= deadlineMs) return false;
    retried.add("busy");
    await this.#clock.sleep(waitMs, signal);
    return true;
  }

  async #openStream(
    target: CallTarget,
    path: string,
    options: WatchOptions,
  ): Promise<{ readonly chunks: AsyncIterable<string>; close(): void }> {
    for (let attempt = 1; ; attempt++) {
      const exchange: Exchange = {
        method: "GET",
        path,
        headers: await this.#headers(undefined),
        timeoutMs: options.timeoutMs ?? WATCH_HEAD_TIMEOUT_MS,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      };
      const stream = await this.#transport.stream(exchange);
      this.#noteStatus(stream.status);
      if (stream.status === 200) return stream;
      let text = "";
      for await (const chunk of stream.chunks) text += chunk;
      if (stream.status !== 401 || attempt > 1)
        throw kubeErrorOf(target, failureOf({ status: stream.status, text, retryAfterSeconds: undefined }));
      this.#credentials.refresh();
    }
  }

  async #headers(
    content: { readonly body: string; readonly type?: string } | undefined,
  ): Promise<Record<string, string | number>> {
    return {
      accept: "application/json",
      "user-agent": this.#userAgent,
      ...(await this.#credentials.headers()),
      ...(content === undefined
        ? {}
        : {
            "content-type": content.type ?? "application/json",
            // Without a length Node would send chunks, which costs a second packet.
            "content-length": Buffer.byteLength(content.body),
          }),
    };
  }

  #parse<R>(target: CallTarget, parse: () => R): R {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw new UnreachableError(target, "the answer is not JSON", { cause: error });
    }
  }

  /** A server that answers 5xx is there, but of no more use than one that is not. */
  #noteStatus(status: number): void {
    const wasAway = this.#awaySinceMs !== undefined;
    this.#awaySinceMs = status < 500 ? undefined : (this.#awaySinceMs ?? this.#clock.nowMs());
    if (wasAway && status < 500) this.#onAnswer?.();
  }

  #translated(target: CallTarget, error: unknown): unknown {
    if (!(error instanceof TransportError)) return error;
    this.#awaySinceMs ??= this.#clock.nowMs();
    return new UnreachableError(target, error.message, { cause: error });
  }
}

function targetOf(
  verb: string,
  resource: Resource<KubeObject>,
  objectName: string | undefined,
  namespace: string | undefined,
): CallTarget {
  const target: CallTarget = {
    verb,
    resource: resourceName(resource),
    ...(objectName === undefined ? {} : { objectName }),
    ...(resource.namespaced && namespace !== undefined ? { namespace } : {}),
  };
  // Without it the URL would name the collection of all namespaces, and a delete would hit what nobody meant.
  if (resource.namespaced && objectName !== undefined && namespace === undefined)
    throw new RequestError(target, { status: 400, message: "a namespace is needed" });
  if (objectName === "") throw new RequestError(target, { status: 400, message: "a name is needed" });
  return target;
}

function pathFor(resource: Resource<KubeObject>, target: CallTarget, subresource?: string): string {
  return pathOf(resource, target.namespace, target.objectName, subresource);
}
