// SPDX-License-Identifier: Apache-2.0
import { parseJSON, stringifyJSON } from "../lib/json.ts";
import type { Api } from "./api.ts";
import { Authenticator, type Identity } from "./auth.ts";
import { createEngine } from "./engine.ts";
import { StatusError } from "./errors.ts";
import { isObject } from "./model.ts";
import type { Persistence } from "./persistence.ts";
import { memoryPersistence } from "./persistence.ts";
import type { Store } from "./store.ts";
import type { Watch } from "./watcher.ts";

/** An answer, as a test looks at it. */
export interface Reply {
  readonly status: number;
  readonly body: Tree;
  readonly text: string;
  readonly warnings: readonly string[];
}

/** A JSON value with any path into it: what is not there is undefined. */
export interface Tree {
  readonly value: unknown;
  at(...path: readonly (string | number)[]): unknown;
}

export interface CallOptions {
  readonly token?: string;
  readonly accept?: string;
  readonly contentType?: string;
  /** Sent as it is, instead of an object. */
  readonly text?: string;
}

export const ADMIN: Identity = { token: "admin-token", user: "admin", role: "admin" };
export const NODE_A: Identity = { token: "node-a-token", user: "system:node:node-a", role: "node", node: "node-a" };
export const START_MS: number = Date.UTC(2026, 0, 1);

/** The server without its transport, and a client for it. */
export class FakeClient {
  readonly store: Store;
  readonly #api: Api;

  constructor(api: Api, store: Store) {
    this.#api = api;
    this.store = store;
  }

  async call(method: string, url: string, body?: unknown, options: CallOptions = {}): Promise<Reply> {
    const answer = await this.#handle(method, url, body, options).catch((error: unknown) => {
      if (error instanceof StatusError) return { status: error.status, text: stringifyJSON(error.toStatus()) };
      throw error;
    });
    if (!("text" in answer)) throw new TypeError(`${method} ${url} opens a watch: use watch()`);
    const isJSON = answer.text.startsWith("{");
    const warnings = "warnings" in answer ? (answer.warnings ?? []) : [];
    return {
      status: answer.status,
      text: answer.text,
      warnings,
      body: treeOf(isJSON ? parseJSON(answer.text) : undefined),
    };
  }

  /** Opens a watch; `lines` grows as events come. */
  async watch(
    url: string,
    options: CallOptions = {},
  ): Promise<{ lines: Tree[]; readonly types: () => string; watch: Watch; readonly isEnded: () => boolean }> {
    const answer = await this.#handle("GET", url, undefined, options);
    if (!("openWatch" in answer)) throw new TypeError(`GET ${url} does not open a watch`);
    const lines: Tree[] = [];
    let isEnded = false;
    const watch = answer.openWatch({
      write: (text) => {
        for (const line of text.split("\n")) if (line !== "") lines.push(treeOf(parseJSON(line)));
      },
      end: () => {
        isEnded = true;
      },
    });
    watch.start();
    return { lines, watch, isEnded: () => isEnded, types: () => lines.map((l) => String(l.at("type"))).join(" ") };
  }

  #handle(method: string, url: string, body: unknown, options: CallOptions): ReturnType<Api["handle"]> {
    const mark = url.indexOf("?");
    return this.#api.handle({
      method,
      path: mark < 0 ? url : url.slice(0, mark),
      query: new URLSearchParams(mark < 0 ? "" : url.slice(mark + 1)),
      authorization: `Bearer ${options.token ?? ADMIN.token}`,
      accept: options.accept ?? "application/json",
      contentType: options.contentType ?? "application/json",
      ifNoneMatch: undefined,
      userAgent: "test/1",
      body: options.text ?? (body === undefined ? undefined : stringifyJSON(body)),
    });
  }
}

export async function startFake(
  options: {
    readonly manifests?: readonly unknown[];
    readonly defaults?: readonly unknown[];
    readonly persistence?: Persistence;
    readonly historyLength?: number;
  } = {},
): Promise<FakeClient> {
  const { api, store } = await createEngine({
    persistence: options.persistence ?? memoryPersistence(1000),
    historyLength: options.historyLength ?? 100,
    authenticator: new Authenticator([ADMIN, NODE_A]),
    manifests: options.manifests ?? [],
    defaults: options.defaults ?? [],
    nowMs: () => START_MS,
  });
  return new FakeClient(api, store);
}

function treeOf(value: unknown): Tree {
  return {
    value,
    at: (...path) => {
      let found = value;
      for (const step of path) {
        if (Array.isArray(found)) found = found.at(Number(step));
        else found = isObject(found) ? found[step] : undefined;
      }
      return found;
    },
  };
}

/** A definition like IPAMBlock's, with every feature that the tests look at. */
export const BLOCK_CRD: object = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "blocks.test.gingham.dev" },
  spec: {
    group: "test.gingham.dev",
    scope: "Cluster",
    names: { kind: "Block", plural: "blocks", shortNames: ["blk"] },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        subresources: { status: {} },
        selectableFields: [{ jsonPath: ".spec.affinity" }],
        additionalPrinterColumns: [
          { name: "CIDR", type: "string", jsonPath: ".spec.cidr" },
          { name: "Used", type: "integer", jsonPath: ".status.used" },
          { name: "Affinity", type: "string", jsonPath: ".spec.affinity", priority: 1 },
          { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
        ],
        schema: {
          openAPIV3Schema: {
            type: "object",
            required: ["spec"],
            properties: {
              spec: {
                type: "object",
                description: "What the block is.",
                required: ["cidr"],
                properties: {
                  cidr: { type: "string", pattern: "/[0-9]+$" },
                  affinity: { type: "string" },
                  size: { type: "integer", minimum: 20, maximum: 32, default: 26 },
                  state: { type: "string", enum: ["on", "off"] },
                  allocations: { type: "array", items: { type: "integer", nullable: true } },
                  sequenceNumber: { type: "integer", format: "int64" },
                  sequences: { type: "object", additionalProperties: { type: "integer", format: "int64" } },
                  port: { "x-kubernetes-int-or-string": true },
                  free: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
                  rules: {
                    type: "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    items: { type: "object", properties: { name: { type: "string" }, value: { type: "string" } } },
                  },
                },
              },
              status: { type: "object", properties: { used: { type: "integer" } } },
            },
          },
        },
      },
    ],
  },
};

export const BLOCKS = "/apis/test.gingham.dev/v1/blocks";

export function block(
  name: string,
  spec: object = {},
): { apiVersion: string; kind: string; metadata: { name: string }; spec: object } {
  return {
    apiVersion: "test.gingham.dev/v1",
    kind: "Block",
    metadata: { name },
    spec: { cidr: "10.0.0.0/26", ...spec },
  };
}
