// SPDX-License-Identifier: Apache-2.0
import { Agent as HTTPAgent, request as requestHTTP } from "node:http";
import { Agent as HTTPSAgent, request as requestHTTPS } from "node:https";

/**
 * The API server as a second writer sees it that shares no code with Gingham: plain requests, its own JSON, objects as
 * they lie in the store. Facts: calico-interop 1.2 to 1.5.
 */

export interface Connection {
  readonly server: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string; rejectUnauthorized?: boolean };
}

interface Meta {
  readonly name: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly labels?: Readonly<Record<string, string>>;
}
export interface NaiveObject<S> {
  readonly metadata: Meta;
  readonly spec: S;
}
/** Integers beyond 2^53 come as bigint, others as number. */
type Int64 = number | bigint;
export interface Block {
  cidr: string;
  affinity?: string;
  affinityClaimTime?: string;
  allocations: (number | null)[];
  unallocated: number[];
  attributes: { handle_id?: string; secondary?: Record<string, string>; releasedAt?: string }[];
  sequenceNumber: Int64;
  sequenceNumberForAllocation: Record<string, Int64>;
  deleted: boolean;
  strictAffinity: boolean;
}
export interface Handle {
  handleID: string;
  block: Record<string, number>;
  deleted: boolean;
}
export interface Affinity {
  state: string;
  node: string;
  type: string;
  cidr: string;
  deleted: string;
}
export interface Specs {
  readonly ipamblocks: Block;
  readonly ipamhandles: Handle;
  readonly blockaffinities: Affinity;
}
export type Plural = keyof Specs;

const KINDS = { ipamblocks: "IPAMBlock", ipamhandles: "IPAMHandle", blockaffinities: "BlockAffinity" } as const;
const GROUP = "crd.projectcalico.org/v1";

export class NaiveAPI {
  readonly #connection: Connection;
  readonly #agent: HTTPAgent | HTTPSAgent;

  constructor(connection: Connection) {
    this.#connection = connection;
    const pool = { keepAlive: true, maxSockets: 32 };
    const isPlain = connection.server.protocol === "http:";
    this.#agent = isPlain ? new HTTPAgent(pool) : new HTTPSAgent({ ...pool, ...connection.tls });
  }

  /** Undefined when it is not there. A tombstone's deletion is finished, and then it is not there. */
  async get<P extends Plural>(plural: P, name: string): Promise<NaiveObject<Specs[P]> | undefined> {
    const { status, text } = await this.#send("GET", pathOf(plural, name));
    if (status === 404) return undefined;
    const object = parse<NaiveObject<Specs[P]>>(expectOk(status, text));
    if (!isTombstone(object.spec)) return object;
    await this.#end(plural, object);
    return undefined;
  }

  async list<P extends Plural>(plural: P, labels: Readonly<Record<string, string>> = {}): Promise<Listed<Specs[P]>> {
    const selector = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
    const query = selector.length === 0 ? "" : `?labelSelector=${encodeURIComponent(selector.join(","))}`;
    const { status, text } = await this.#send("GET", pathOf(plural) + query);
    const { items, metadata } = parse<{ items: NaiveObject<Specs[P]>[]; metadata: { resourceVersion: string } }>(
      expectOk(status, text),
    );
    return { items, resourceVersion: metadata.resourceVersion };
  }

  /** The object as stored, or undefined when one of that name is there. */
  async create<P extends Plural>(
    plural: P,
    metadata: Meta,
    spec: Specs[P],
  ): Promise<NaiveObject<Specs[P]> | undefined> {
    const { status, text } = await this.#send("POST", pathOf(plural), bodyOf(plural, { metadata, spec }));
    return status === 409 ? undefined : parse<NaiveObject<Specs[P]>>(expectOk(status, text));
  }

  /** Compare-and-swap: the object as stored, or undefined when somebody was faster. */
  async put<P extends Plural>(plural: P, object: NaiveObject<Specs[P]>): Promise<NaiveObject<Specs[P]> | undefined> {
    const { name } = object.metadata;
    const { status, text } = await this.#send("PUT", pathOf(plural, name), bodyOf(plural, object));
    return status === 409 || status === 404 ? undefined : parse<NaiveObject<Specs[P]>>(expectOk(status, text));
  }

  /** The tombstone by compare-and-swap, then the deletion by uid. False when somebody was faster. */
  async delete<P extends Plural>(plural: P, { metadata, spec }: NaiveObject<Specs[P]>): Promise<boolean> {
    const mark = plural === "blockaffinities" ? "true" : true;
    // Each kind's mark has a type of its own.
    const tombstone = await this.put(plural, { metadata, spec: { ...spec, deleted: mark } as Specs[P] });
    if (tombstone === undefined) return false;
    await this.#end(plural, tombstone);
    return true;
  }

  /** Just a DELETE, for what nobody else knows. */
  async remove(plural: Plural, name: string): Promise<void> {
    const { status, text } = await this.#send("DELETE", pathOf(plural, name));
    expectOk(status, text);
  }

  /** Calls back with each line of a watch until the signal aborts. @throws Error when the watch ends before */
  async watch(
    plural: Plural,
    resourceVersion: string,
    signal: AbortSignal,
    onLine: (line: string) => void,
  ): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const path = `${pathOf(plural)}?watch=1&resourceVersion=${resourceVersion}`;
    // Not one of the pooled connections: it stays.
    const call = this.#request("GET", path, { agent: undefined, signal }, (response) => {
      let rest = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        try {
          for (const line of lines) onLine(line);
        } catch (error) {
          reject(error);
        }
      });
      response.on("end", () => reject(new Error(`The watch of ${plural} ended`)));
      response.on("error", () => resolve());
    });
    call.on("error", (error) => (signal.aborted ? resolve() : reject(error)));
    call.end();
    await promise;
  }

  close(): void {
    this.#agent.destroy();
  }

  async #end<P extends Plural>(plural: P, { metadata }: NaiveObject<Specs[P]>): Promise<void> {
    const body = stringify({ apiVersion: "v1", kind: "DeleteOptions", preconditions: { uid: metadata.uid } });
    const { status, text } = await this.#send("DELETE", pathOf(plural, metadata.name), body);
    // Another of that name, or none at all: this one is gone.
    if (status !== 404 && status !== 409) expectOk(status, text);
  }

  async #send(
    method: string,
    path: string,
    body?: string,
  ): Promise<{ readonly status: number; readonly text: string }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ readonly status: number; readonly text: string }>();
    const call = this.#request(method, path, { agent: this.#agent }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      response.on("error", reject);
    });
    call.on("error", reject);
    // Node sends the body of a DELETE without a length otherwise.
    if (body !== undefined) call.setHeader("content-length", Buffer.byteLength(body));
    call.end(body);
    return await promise;
  }

  #request(
    method: string,
    path: string,
    more: { readonly agent: HTTPAgent | HTTPSAgent | undefined; readonly signal?: AbortSignal },
    onResponse: Parameters<typeof requestHTTP>[2] & object,
  ): ReturnType<typeof requestHTTP> {
    const { server, headers, tls } = this.#connection;
    const request = server.protocol === "http:" ? requestHTTP : requestHTTPS;
    const all = { ...headers, "content-type": "application/json" };
    return request(new URL(path, server), { method, headers: all, ...tls, ...more }, onResponse);
  }
}

export interface Listed<S> {
  readonly items: readonly NaiveObject<S>[];
  readonly resourceVersion: string;
}

export function isTombstone({ deleted }: { readonly deleted?: boolean | string }): boolean {
  return deleted === true || deleted === "true";
}

function pathOf(plural: Plural, name?: string): string {
  return `/apis/${GROUP}/${plural}${name === undefined ? "" : `/${name}`}`;
}

function bodyOf<P extends Plural>(plural: P, { metadata, spec }: NaiveObject<Specs[P]>): string {
  return stringify({ apiVersion: GROUP, kind: KINDS[plural], metadata, spec });
}

function expectOk(status: number, text: string): string {
  if (status >= 300) throw new Error(`The API server answers ${status}: ${text.slice(0, 500)}`);
  return text;
}

export function parse<T>(text: string): T {
  // What the store holds is of these shapes, or the writer fails over it.
  return JSON.parse(text, (_key: string, value: unknown, context?: { source?: string }) => {
    const source = context?.source;
    return typeof value === "number" && !Number.isSafeInteger(value) && source !== undefined ? BigInt(source) : value;
  }) as T;
}

function stringify(value: unknown): string {
  // TypeScript's library does not know JSON.rawJSON (ES2026) yet.
  const { rawJSON } = JSON as unknown as { readonly rawJSON: (text: string) => unknown };
  return JSON.stringify(value, (_key, v: unknown) => (typeof v === "bigint" ? rawJSON(v.toString()) : v));
}
