// SPDX-License-Identifier: Apache-2.0
import { type ClientRequest, Agent as HTTPAgent, type IncomingMessage, request as requestHTTP } from "node:http";
import { Agent as HTTPSAgent, request as requestHTTPS } from "node:https";
import { isIP } from "node:net";
import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import type { KubeCredentials, TLSMaterial } from "./credentials.ts";

/** One HTTP exchange; `path` includes the query. */
export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | number>>;
  readonly body?: string;
  readonly signal?: AbortSignal;
  /** Units: milliseconds for the whole exchange; for a stream, until its head is there. */
  readonly timeoutMs: number;
}

export interface Answer {
  readonly status: number;
  readonly retryAfterSeconds: number | undefined;
  readonly text: string;
}

/** The body of an answer that is still coming; `close` ends it at once. */
export interface AnswerStream {
  readonly status: number;
  readonly chunks: AsyncIterable<string>;
  close(): void;
}

/** No whole answer came: the connection failed, or the time was over. */
export class TransportError extends Error {
  /** The server cannot have begun to work on the request. */
  readonly isUnsent: boolean;
  constructor(message: string, isUnsent: boolean, options?: ErrorOptions) {
    super(message, options);
    this.name = "TransportError";
    this.isUnsent = isUnsent;
  }
}

/**
 * Connections for calls: enough to keep an API server busy, few enough that a burst of a hundred calls does not pay for
 * a hundred TLS handshakes. Watches have an agent without limit, so that they never hold up a call.
 */
const MAX_CALL_SOCKETS = 16;

/** Go's API server closes idle connections after 90 s; closing them first avoids a race. Units: milliseconds. */
const IDLE_MS = 60_000;

/** Kept-alive HTTP and HTTPS connections to one API server. Errors: TransportError, or the signal's reason. */
export class Transport {
  readonly #credentials: KubeCredentials;
  #tls: TLSMaterial | undefined;
  #calls: HTTPAgent = new HTTPAgent();
  #streams: HTTPAgent = new HTTPAgent();

  constructor(credentials: KubeCredentials) {
    this.#credentials = credentials;
  }

  async send(exchange: Exchange): Promise<Answer> {
    return await new Promise((resolve, reject) => {
      const request = this.#start(exchange, "calls", reject);
      request.once("response", (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.once("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          resolve({ status: response.statusCode ?? 0, retryAfterSeconds: retryAfterOf(response), text });
        });
      });
      request.end(exchange.body);
    });
  }

  async stream(exchange: Exchange): Promise<AnswerStream> {
    return await new Promise((resolve, reject) => {
      const request = this.#start(exchange, "streams", reject);
      request.once("response", (response) => {
        // Decodes across chunks, so that a character may arrive in two of them.
        response.setEncoding("utf8");
        const chunks = chunksOf(response, request);
        resolve({ status: response.statusCode ?? 0, chunks, close: () => request.destroy() });
      });
      request.end(exchange.body);
    });
  }

  /** Closes all connections; calls under way fail. */
  close(): void {
    this.#calls.destroy();
    this.#streams.destroy();
  }

  #start(exchange: Exchange, kind: "calls" | "streams", reject: (error: unknown) => void): ClientRequest {
    const { server } = this.#credentials;
    this.#renewAgents();
    const { method, headers, signal } = exchange;
    const base = server.pathname.replace(/\/$/, "");
    const options = { method, path: base + exchange.path, headers, host: hostOf(server), port: portOf(server) };
    const agent = this.#credentials.proxyAgent ?? (kind === "calls" ? this.#calls : this.#streams);
    const request =
      server.protocol === "http:" ? requestHTTP({ ...options, agent }) : requestHTTPS({ ...options, agent });

    const timer = setTimeout(
      () => fail(new TransportError(`no answer within ${exchange.timeoutMs} ms`, false)),
      exchange.timeoutMs,
    );
    const aborted = (): void => fail(signal?.reason);
    let failure: unknown;
    const fail = (error: unknown): void => {
      failure ??= error;
      request.destroy();
      reject(failure);
    };
    signal?.addEventListener("abort", aborted, { once: true });
    request.on("error", (cause) => fail(connectionError(cause, request)));
    request.once("response", (response) => {
      // What arrives of a stream may take as long as it likes.
      if (kind === "streams") clearTimeout(timer);
      response.on("error", (cause) => fail(connectionError(cause, request)));
    });
    request.once("close", () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
    });
    if (signal?.aborted) aborted();
    return request;
  }

  /** New certificates need new connections; those in use finish by themselves. */
  #renewAgents(): void {
    const tls = this.#credentials.tls();
    if (tls === this.#tls) return;
    this.#tls = tls;
    const common = { keepAlive: true, scheduling: "lifo", timeout: IDLE_MS } as const;
    const make = (maxSockets: number): HTTPAgent =>
      this.#credentials.server.protocol === "http:"
        ? new HTTPAgent({ ...common, maxSockets })
        : new HTTPSAgent({ ...common, ...tlsOptions(tls), maxSockets });
    this.#calls = make(MAX_CALL_SOCKETS);
    this.#streams = make(Number.POSITIVE_INFINITY);
  }
}

/** A server name that is an address is checked in the certificate, but not sent (RFC 6066, section 3); Node refuses it. */
function tlsOptions({ servername, ...tls }: TLSMaterial): ConnectionOptions {
  if (servername === undefined) return tls;
  if (isIP(servername) === 0) return { ...tls, servername };
  return { ...tls, servername: "", checkServerIdentity: (_host, cert) => checkServerIdentity(servername, cert) };
}

/** Failures before a connection exists: nothing was sent. */
const UNSENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "ENOENT"]);

function connectionError(cause: NodeJS.ErrnoException, request: ClientRequest): TransportError {
  const isUnsent = UNSENT.has(cause.code ?? "");
  const reused = request.reusedSocket ? " on a kept connection" : "";
  // With several addresses Node's own message is empty.
  return new TransportError(`${cause.message || cause.code || "the connection failed"}${reused}`, isUnsent, { cause });
}

async function* chunksOf(response: IncomingMessage, request: ClientRequest): AsyncGenerator<string, void, undefined> {
  try {
    for await (const chunk of response) yield String(chunk);
  } catch (error) {
    throw connectionError(error instanceof Error ? error : new Error(String(error)), request);
  }
}

function retryAfterOf(response: IncomingMessage): number | undefined {
  const seconds = Number(response.headers["retry-after"] ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}

function hostOf(server: URL): string {
  return server.hostname.replace(/^\[(.*)\]$/, "$1");
}

function portOf(server: URL): number {
  if (server.port !== "") return Number(server.port);
  return server.protocol === "http:" ? 80 : 443;
}
