// SPDX-License-Identifier: Apache-2.0
import type { ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { parseJSON, stringifyJSON } from "../lib/json.ts";
import type { Api, ApiAnswer } from "./api.ts";
import type { Certificates } from "./certificates.ts";
import { badRequest, internal, StatusError, tooLarge, unsupportedMediaType } from "./errors.ts";
import type { Sink, Watch } from "./watcher.ts";

/** The part of a pino logger that is used. */
export interface RequestLog {
  debug(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What a test wants to happen to a request instead of, or before, its answer. */
export interface Fault {
  /** Answer this and do nothing. */
  readonly status?: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Units: milliseconds before anything else. */
  readonly delayMs?: number;
  /** Destroy the connection and do nothing. */
  readonly drop?: boolean;
  /** Do it, then destroy the connection without an answer. */
  readonly dropAfter?: boolean;
}

export type Intercept = (request: {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  /** Parsed, when it is JSON. */
  readonly body: unknown;
  readonly userAgent: string;
  // biome-ignore lint/suspicious/noConfusingVoidType: a test's function may simply return nothing
}) => Fault | void | Promise<Fault | void>;

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  readonly certificates: Certificates | undefined;
  readonly intercept: Intercept | undefined;
  readonly log: RequestLog | undefined;
}

export interface HttpServer {
  readonly url: string;
  close(): Promise<void>;
}

/** Units: bytes, as kube-apiserver limits them. */
const BODY_LIMIT = 3 * 1024 * 1024;
/** Units: bytes that may wait for a watcher which does not read; then it is cut off and must list again. */
const WATCH_BACKLOG = 16 * 1024 * 1024;
/** How long requests that are under way may take when the server closes. */
const CLOSE_LIMIT_MS = 2_000;
const BOOKMARK_INTERVAL_MS = 60_000;
/** Clients let go of idle connections after 90 s (Go) or less: they must be the first, or a request meets a closing door. */
const KEEP_ALIVE_MS = 150_000;
const TIMEOUTS = { requestTimeout: 30_000, headersTimeout: 15_000, connectionsCheckingInterval: 5_000 };

/** Puts the protocol on a port. */
export async function listen(api: Api, options: HttpOptions): Promise<HttpServer> {
  const transport = new Transport(api, options);
  const { certificates } = options;
  const shared = {
    bodyLimit: BODY_LIMIT,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: "idle" as const,
    clientErrorHandler: refuseBytes,
    ...TIMEOUTS,
  };
  // Fastify's types tell the two apart, its behaviour does not; nothing below depends on which it is.
  const app = (
    certificates === undefined
      ? Fastify({ ...shared, http: TIMEOUTS })
      : Fastify({ ...shared, https: { key: certificates.key, cert: certificates.cert, ...TIMEOUTS } })
  ) as FastifyInstance;
  transport.attach(app);
  const url = await app.listen({ host: options.host, port: options.port });
  const bookmarks = setInterval(() => transport.bookmark(), BOOKMARK_INTERVAL_MS);
  bookmarks.unref();
  return {
    url: url.replace("[::1]", "localhost"),
    close: async () => {
      clearInterval(bookmarks);
      transport.endWatches();
      const closing = app.close();
      // A connection is idle only some time after its last answer, and a client that never reads would keep it for ever.
      const deadline = Date.now() + CLOSE_LIMIT_MS;
      const sweep = setInterval(() => {
        if (Date.now() < deadline) app.server.closeIdleConnections();
        else app.server.closeAllConnections();
      }, 10);
      await closing.finally(() => clearInterval(sweep));
    },
  };
}

class Transport {
  readonly #api: Api;
  readonly #options: HttpOptions;
  readonly #watches = new Set<Watch>();

  constructor(api: Api, options: HttpOptions) {
    this.#api = api;
    this.#options = options;
  }

  attach(app: FastifyInstance): void {
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("*", { parseAs: "string" }, (_request, body, done) => done(null, body));
    app.setErrorHandler((error, request, reply) => this.#refuse(error, request, reply));
    app.all("/*", (request, reply) => this.#serve(request, reply));
  }

  bookmark(): void {
    for (const watch of this.#watches) watch.bookmark();
  }

  endWatches(): void {
    for (const watch of this.#watches) watch.end();
  }

  async #serve(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const fault = await this.#intercept(request, reply);
    if (fault === "answered") return reply;
    const { headers } = request;
    const mark = request.url.indexOf("?");
    const answer = await this.#api.handle({
      method: request.method,
      path: mark < 0 ? request.url : request.url.slice(0, mark),
      query: new URLSearchParams(mark < 0 ? "" : request.url.slice(mark + 1)),
      authorization: headers.authorization,
      accept: headers.accept,
      contentType: headers["content-type"],
      ifNoneMatch: headers["if-none-match"],
      userAgent: headers["user-agent"],
      body: typeof request.body === "string" ? request.body : undefined,
    });
    if (fault === "drop after") return drop(request, reply);
    return this.#answer(answer, reply);
  }

  #answer(answer: ApiAnswer, reply: FastifyReply): FastifyReply {
    if ("openWatch" in answer) {
      reply.hijack();
      this.#stream(answer.openWatch, reply.raw);
      return reply;
    }
    const headers: Record<string, string | string[]> = {
      "content-type": answer.contentType ?? "application/json",
      "cache-control": "no-cache, private",
    };
    if (answer.etag !== undefined) headers["etag"] = answer.etag;
    if (answer.warnings !== undefined && answer.warnings.length > 0) {
      headers["warning"] = answer.warnings.map((warning) => `299 - ${asciiQuoted(warning)}`);
    }
    // Past fastify's send, which would rewrite the media type's parameters; kubectl compares them.
    reply.hijack();
    reply.raw.writeHead(answer.status, { ...headers, "content-length": Buffer.byteLength(answer.text) });
    reply.raw.end(answer.text);
    return reply;
  }

  #stream(openWatch: (sink: Sink) => Watch, response: ServerResponse): void {
    response.writeHead(200, { "content-type": "application/json", "cache-control": "no-cache, private" });
    response.flushHeaders();
    const watch = openWatch({
      write: (text) => {
        if (text === "") return;
        response.write(text);
        if (response.writableLength > WATCH_BACKLOG) response.destroy();
      },
      end: () => {
        response.end();
        this.#watches.delete(watch);
      },
    });
    response.on("close", () => {
      watch.stop();
      this.#watches.delete(watch);
    });
    this.#watches.add(watch);
    watch.start();
  }

  async #intercept(request: FastifyRequest, reply: FastifyReply): Promise<"answered" | "drop after" | undefined> {
    const { intercept } = this.#options;
    if (intercept === undefined) return undefined;
    const { method, url: path, headers } = request;
    const fault = await intercept({ method, path, body: bodyOf(request.body), userAgent: headers["user-agent"] ?? "" });
    if (fault === undefined) return undefined;
    if (fault.delayMs !== undefined) await sleep(fault.delayMs);
    if (fault.drop === true) {
      drop(request, reply);
      return "answered";
    }
    if (fault.status === undefined) return fault.dropAfter === true ? "drop after" : undefined;
    const body =
      fault.body ?? new StatusError(fault.status, REASONS[fault.status] ?? "", "injected by a test").toStatus();
    reply.code(fault.status).headers({ "content-type": "application/json", ...fault.headers });
    reply.send(stringifyJSON(body));
    return "answered";
  }

  #refuse(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const refusal = toStatusError(error);
    const fields = { method: request.method, path: request.url, status: refusal.status, reason: refusal.message };
    if (refusal.status >= 500) this.#options.log?.error({ ...fields, err: refusal.cause ?? refusal }, "request failed");
    else this.#options.log?.debug(fields, "request refused");
    const seconds = refusal.details?.retryAfterSeconds;
    if (seconds !== undefined) reply.header("retry-after", String(seconds));
    if (refusal.status === 401) reply.header("www-authenticate", 'Bearer realm="gingham"');
    return reply
      .code(refusal.status)
      .header("content-type", "application/json")
      .send(stringifyJSON(refusal.toStatus()));
  }
}

const REASONS: Readonly<Record<number, string>> = {
  401: "Unauthorized",
  403: "Forbidden",
  404: "NotFound",
  409: "Conflict",
  410: "Expired",
  422: "Invalid",
  429: "TooManyRequests",
  500: "InternalError",
  503: "ServiceUnavailable",
  504: "Timeout",
};

/** A quoted text that fits into a header, whatever a client called its field. */
function asciiQuoted(text: string): string {
  const toUnicode = (c: string): string => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replaceAll(/[^\x20-\x7e]/g, toUnicode);
}

/** Answers bytes that are no request, and one that did not arrive in time. */
function refuseBytes(error: Error, socket: Duplex): void {
  const code = "code" in error ? error.code : undefined;
  if (code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const isLate = code === "ERR_HTTP_REQUEST_TIMEOUT";
  const refusal = isLate
    ? new StatusError(408, "Timeout", "the request did not arrive in time")
    : badRequest(`this is not an HTTP request: ${error.message}`);
  const text = stringifyJSON(refusal.toStatus());
  const line = `HTTP/1.1 ${refusal.status} ${isLate ? "Request Timeout" : "Bad Request"}`;
  const headers = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close`;
  socket.end(`${line}\r\n${headers}\r\n\r\n${text}`);
}

function drop(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply.hijack();
  request.raw.socket.destroy();
  return reply;
}

function bodyOf(body: unknown): unknown {
  if (typeof body !== "string") return undefined;
  try {
    return parseJSON(body);
  } catch {
    return body;
  }
}

/** Fastify's own refusals, such as a body that is too long, become Kubernetes' words. */
function toStatusError(error: unknown): StatusError {
  if (error instanceof StatusError) return error;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE") return tooLarge(BODY_LIMIT);
  const message = error instanceof Error ? error.message : String(error);
  const status = error instanceof Error && "statusCode" in error ? error.statusCode : undefined;
  if (status === 415) return unsupportedMediaType(message);
  if (status === 400) return badRequest(message, { cause: error });
  return internal(message, error);
}
