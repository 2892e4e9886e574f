// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { stringifyJSON } from "../lib/json.ts";
import { type Authenticator, authorize, authorizeCreate, type Identity } from "./auth.ts";
import { parseObjectBody, parsePatchBody } from "./body.ts";
import { aggregatedDocument, aggregatedVersion, discoveryDocument, VERSION } from "./discovery.ts";
import { badRequest, methodNotAllowed, noSuchResource, unauthorized } from "./errors.ts";
import { type FieldValidation, parseDeleteOptions } from "./lifecycle.ts";
import { isObject, type JsonObject } from "./model.ts";
import { type OpenAPI, openAPIv2 } from "./openapi.ts";
import { Presenter } from "./presenter.ts";
import { type Reader, selectionOf } from "./reader.ts";
import {
  checkMethod,
  isTrue,
  parseResourcePath,
  presentationOf,
  type ResourcePath,
  type Verb,
  verbOf,
} from "./request.ts";
import type { Registry, ResourceDef } from "./resource.ts";
import { answerReview } from "./reviews.ts";
import type { Store } from "./store.ts";
import { parseWatchOptions, type Sink, Watch } from "./watcher.ts";
import type { WriteContext, WriteResult, Writer } from "./writer.ts";

/** A request without its transport. */
export interface ApiRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly authorization: string | undefined;
  readonly accept: string | undefined;
  readonly contentType: string | undefined;
  readonly ifNoneMatch: string | undefined;
  readonly userAgent: string | undefined;
  readonly body: string | undefined;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
  readonly contentType?: string;
  readonly etag?: string;
  readonly warnings?: readonly string[];
}

/** A watch is answered by a stream: the transport gives the place where it goes. */
export type ApiAnswer = Answer | { readonly openWatch: (sink: Sink) => Watch };

export interface ApiParts {
  readonly store: Store;
  readonly registry: Registry;
  readonly reader: Reader;
  readonly writer: Writer;
  readonly openapi: OpenAPI;
  readonly authenticator: Authenticator;
  readonly nowMs: () => number;
}

interface Call {
  readonly request: ApiRequest;
  readonly identity: Identity;
  readonly path: ResourcePath;
  readonly def: ResourceDef;
  readonly verb: Verb;
}

const HEALTH = /^\/(healthz|livez|readyz)(\/.*)?$/;

/** The whole protocol above the transport: who may do what, and which part does it. */
export class Api {
  readonly #parts: ApiParts;

  constructor(parts: ApiParts) {
    this.#parts = parts;
  }

  /** Errors: StatusError for whatever the client did wrong. */
  async handle(request: ApiRequest): Promise<ApiAnswer> {
    const { path } = request;
    if (HEALTH.test(path)) return { status: 200, text: "ok", contentType: "text/plain; charset=utf-8" };
    if (path === "/version") return json(VERSION);
    const identity = this.#parts.authenticator.identify(request.authorization);
    if (identity === undefined) throw unauthorized();
    const resourcePath = parseResourcePath(path);
    return resourcePath === undefined ? this.#document(request) : this.#resource(request, identity, resourcePath);
  }

  #document(request: ApiRequest): Answer {
    const { registry, openapi } = this.#parts;
    const path = request.path.replace(/(.)\/$/, "$1");
    if (request.method !== "GET" && request.method !== "HEAD") throw methodNotAllowed(undefined);
    if (path === "/openapi/v2") return { status: 200, ...openAPIv2(request.accept) };
    if (path.startsWith("/openapi/v3")) {
      const document = openapi.document(path);
      if (document === undefined) throw noSuchResource();
      return withETag(request, { status: 200, text: document.text, etag: `"${document.hash}"` });
    }
    const version = aggregatedVersion(request.accept);
    if (version !== undefined && (path === "/api" || path === "/apis")) {
      const text = stringifyJSON(aggregatedDocument(registry, path === "/api", version));
      const etag = `"${createHash("sha256").update(text).digest("hex").toUpperCase()}"`;
      const contentType = `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`;
      return withETag(request, { status: 200, text, contentType, etag });
    }
    const document = path === "/" ? { paths: ROOT_PATHS } : discoveryDocument(registry, path);
    if (document === undefined) throw noSuchResource();
    return json(document);
  }

  async #resource(request: ApiRequest, identity: Identity, path: ResourcePath): Promise<ApiAnswer> {
    const def = this.#parts.registry.find(path.group, path.version, path.plural);
    if (def === undefined) throw noSuchResource();
    const verb = verbOf(request.method, path, request.query);
    const admit = authorize(identity, verb, path, def);
    if (path.namespace !== "" && !def.namespaced) throw noSuchResource();
    if (path.subresource !== "" && !(path.subresource === "status" && def.hasStatus)) throw noSuchResource();
    checkMethod(verb, path, def);
    const call: Call = { request, identity, path, def, verb };
    if (def.isReview === true) return this.#review(call);
    if (verb === "get" || verb === "list" || verb === "watch") return this.#read(call);
    return this.#write(call, admit);
  }

  async #review({ request, identity, verb, def }: Call): Promise<Answer> {
    if (verb !== "create") throw methodNotAllowed(def);
    const body = await parseObjectBody(request.body, request.contentType);
    return json(answerReview(this.#parts.registry, identity, body), 201);
  }

  #read({ request, path, def, verb }: Call): ApiAnswer {
    const { store, reader, nowMs } = this.#parts;
    const presenter = new Presenter(def, presentationOf(request.accept, request.query), nowMs);
    if (verb === "get") return text(presenter.one(reader.get(def, path.namespace, path.name)));
    const selection = selectionOf(def, path.namespace, path.name, request.query);
    if (verb === "list") return text(reader.list(selection, request.query, presenter));
    const options = parseWatchOptions(def, request.query, Math.random);
    return { openWatch: (sink) => new Watch(store, selection, presenter, options, sink) };
  }

  async #write(call: Call, admit: WriteContext["admit"]): Promise<Answer> {
    const { request, path, def, verb, identity } = call;
    const { writer, nowMs } = this.#parts;
    // Cluster-wide, a namespaced kind can be read but not written.
    if (def.namespaced && path.namespace === "") throw methodNotAllowed(def);
    if (path.subresource !== "" && verb !== "update" && verb !== "patch") throw methodNotAllowed(def);
    const context = writeContext(call, admit);
    const presenter = new Presenter(def, presentationOf(request.accept, request.query), nowMs);
    if (verb === "patch") {
      const force = isTrue(request.query, "force");
      const options = { hasStrategic: def.isBuiltin, force };
      const patch = await parsePatchBody(request.body, request.contentType, options);
      return written(presenter, await writer.patch(context, patch));
    }
    const body = await parseObjectBody(request.body, request.contentType);
    if (verb === "create") {
      authorizeCreate(identity, path, def, body);
      return written(presenter, await writer.create(context, body));
    }
    if (verb === "update") return written(presenter, await writer.update(context, body));
    const isDry = context.dryRun || hasDryRun(body);
    if (verb === "delete") {
      const result = await writer.delete({ ...context, dryRun: isDry }, parseDeleteOptions(body));
      return result.isRemoved ? json(removed(def, result)) : text(presenter.one(result.entry));
    }
    const selection = selectionOf(def, path.namespace, "", request.query);
    const entries = await writer.deleteCollection({ ...context, dryRun: isDry }, selection.matches ?? (() => true));
    return text(presenter.list(entries, { resourceVersion: String(this.#parts.store.revision) }));
  }
}

const ROOT_PATHS = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"];

function json(document: unknown, status = 200): Answer {
  return { status, text: stringifyJSON(document) };
}

function text(body: string, status = 200): Answer {
  return { status, text: body };
}

function withETag(request: ApiRequest, answer: Answer & { readonly etag: string }): Answer {
  const known = request.ifNoneMatch?.split(",").map((tag) => tag.trim()) ?? [];
  return known.includes(answer.etag) ? { ...answer, status: 304, text: "" } : answer;
}

function written(presenter: Presenter, result: WriteResult): Answer {
  return { status: result.status, text: presenter.one(result.entry), warnings: result.warnings };
}

function removed(def: ResourceDef, { entry }: WriteResult): JsonObject {
  const { name, uid } = entry.object.metadata;
  const details = { name, ...(def.group !== "" && { group: def.group }), kind: def.plural, uid };
  return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", details };
}

function writeContext({ request, path, def }: Call, admit: WriteContext["admit"]): WriteContext {
  const { query } = request;
  const dryRun = query.getAll("dryRun");
  if (dryRun.some((value) => value !== "All")) {
    throw badRequest(`dryRun: Unsupported value: "${dryRun.join(",")}": supported values: "All"`);
  }
  return {
    def,
    namespace: def.namespaced ? path.namespace : "",
    name: path.name,
    subresource: path.subresource === "status" ? "status" : "",
    dryRun: dryRun.length > 0,
    fieldValidation: fieldValidationOf(query.get("fieldValidation")),
    manager: managerOf(query.get("fieldManager"), request.userAgent),
    admit,
  };
}

function managerOf(named: string | null, userAgent = "unknown"): WriteContext["manager"] {
  const isNamed = named !== null && named !== "";
  return { name: isNamed ? named : (userAgent.split("/", 1)[0] ?? "unknown"), isNamed };
}

function fieldValidationOf(text: string | null): FieldValidation {
  if (text === null || text === "") return "Warn";
  if (text === "Strict" || text === "Warn" || text === "Ignore") return text;
  throw badRequest(`fieldValidation: Unsupported value: "${text}": supported values: "Ignore", "Strict", "Warn"`);
}

function hasDryRun(body: unknown): boolean {
  const dryRun = isObject(body) ? body["dryRun"] : undefined;
  return Array.isArray(dryRun) && dryRun.includes("All");
}
