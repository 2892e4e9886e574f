// SPDX-License-Identifier: Apache-2.0
import { type ClientRequest, Agent as HTTPAgent, type IncomingMessage, request as requestHTTP } from "node:http";
import { Agent as HTTPSAgent, request as requestHTTPS } from "node:https";
import { isIP } from "node:net";
import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import { CallConnections } from "./call-connections.ts";
import type { KubeCredentials, TLSMaterial } from "./credentials.ts";
import { type Answer, type Exchange, hostOf, onConnected, portOf, TransportError } from "./exchange.ts";

/** The body of an answer that is still coming; `close` ends it at once. */
export interface AnswerStream {
  readonly status: number;
  readonly chunks: AsyncIterable<string>;
  close(): void;
}

/** Where there are several servers: for one of them to take a connection. */
const CONNECT_TIMEOUT_MS = 2_000;
/** Of a connection on which nothing comes, the kernel asks the other side this long after, and gives it up within ten seconds more. */
const STREAM_KEEPALIVE_MS = 20_000;

/**
 * HTTP and HTTPS to the API server, or to one of several. Errors: TransportError, or the signal's reason.
 *
 * All goes to one server, until no connection to it can be made; then all goes to the next. Its streams are ended then: a
 * machine that lost its power closes none, and who watches would hear nothing.
 */
export class Transport {
  readonly #credentials: KubeCredentials;
  readonly #servers: readonly URL[];
  /** Of the one that is asked. */
  #index = 0;
  #isClosed = false;
  #tls: TLSMaterial | undefined;
  #calls: CallConnections | undefined;
  /** Without limit, so that watches never hold up a call. */
  #streams: HTTPAgent = new HTTPAgent();

  constructor(credentials: KubeCredentials) {
    this.#credentials = credentials;
    this.#servers = [credentials.server, ...(credentials.otherServers ?? [])];
  }

  async send(exchange: Exchange): Promise<Answer> {
    const { proxyAgent } = this.#credentials;
    return proxyAgent === undefined
      ? await this.#tryServers(exchange, async (attempt) => await this.#connections().send(attempt))
      : await this.#sendThrough(proxyAgent, exchange);
  }

  /** Each server once, as long as none can have begun to work on the request, and all within its time. */
  async #tryServers<R>(exchange: Exchange, send: (attempt: Exchange) => Promise<R>): Promise<R> {
    if (this.#servers.length === 1) return await send(exchange);
    const endMs = performance.now() + exchange.timeoutMs;
    for (let left = this.#servers.length - 1; ; left--) {
      const index = this.#index;
      const timeoutMs = Math.max(1, endMs - performance.now());
      try {
        return await send({ ...exchange, timeoutMs });
      } catch (error) {
        if (!(error instanceof TransportError) || this.#isClosed) throw error;
        // Another call may have done so already.
        if (index === this.#index) this.#leave(error.isUnsent);
        if (!error.isUnsent || left === 0 || performance.now() >= endMs) throw error;
      }
    }
  }

  /** A server that left a call without an answer may be gone: whether it is, a new connection shows. */
  #leave(isDead: boolean): void {
    this.#calls?.retire();
    this.#calls = undefined;
    if (!isDead) return;
    this.#index = (this.#index + 1) % this.#servers.length;
    this.#streams.destroy();
  }

  async #sendThrough(proxy: HTTPAgent, exchange: Exchange): Promise<Answer> {
    return await new Promise((resolve, reject) => {
      const request = this.#start(exchange, "call", proxy, reject);
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
    return await this.#tryServers(exchange, async (attempt) => await this.#stream(attempt));
  }

  async #stream(exchange: Exchange): Promise<AnswerStream> {
    return await new Promise((resolve, reject) => {
      this.#connections();
      const request = this.#start(exchange, "stream", this.#credentials.proxyAgent ?? this.#streams, reject);
      request.setSocketKeepAlive(true, STREAM_KEEPALIVE_MS);
      request.once("response", (response) => {
        // Decodes across chunks, so that a character may arrive in two of them.
        response.setEncoding("utf8");
        const chunks = chunksOf(response, request);
        resolve({ status: response.statusCode ?? 0, chunks, close: () => request.destroy() });
      });
      request.end(exchange.body);
    });
  }

  /** Ends the connections from these local addresses; calls and streams under way on them fail. */
  dropFrom(isGone: (localAddress: string) => boolean): void {
    this.#calls?.dropFrom(isGone);
    for (const socket of Object.values(this.#streams.sockets).flatMap((sockets) => sockets ?? [])) {
      if (socket.localAddress !== undefined && isGone(socket.localAddress)) socket.destroy();
    }
  }

  /** Closes all connections; calls under way fail. */
  close(): void {
    this.#isClosed = true;
    this.#calls?.close();
    this.#streams.destroy();
  }

  #start(
    exchange: Exchange,
    kind: "call" | "stream",
    agent: HTTPAgent,
    reject: (error: unknown) => void,
  ): ClientRequest {
    const server = this.#server;
    const { method, headers, signal } = exchange;
    const base = server.pathname.replace(/\/$/, "");
    const options = { method, path: base + exchange.path, headers, host: hostOf(server), port: portOf(server) };
    const request =
      server.protocol === "http:" ? requestHTTP({ ...options, agent }) : requestHTTPS({ ...options, agent });

    const timer = setTimeout(
      () => fail(new TransportError(`no answer within ${exchange.timeoutMs} ms`, false)),
      exchange.timeoutMs,
    );
    const aborted = (): void => fail(signal?.reason);
    let isConnected = false;
    request.once("socket", (socket) => {
      // A proxy's agent hands over what is connected.
      isConnected = request.reusedSocket || !socket.connecting;
      if (isConnected) return;
      onConnected(socket, this.#connectTimeoutMs, () => {
        isConnected = true;
      });
    });
    let failure: unknown;
    const fail = (error: unknown): void => {
      failure ??= error;
      request.destroy();
      reject(failure);
    };
    signal?.addEventListener("abort", aborted, { once: true });
    request.on("error", (cause) => fail(connectionError(cause, request, isConnected)));
    request.once("response", (response) => {
      // What arrives of a stream may take as long as it likes.
      if (kind === "stream") clearTimeout(timer);
      response.on("error", (cause) => fail(connectionError(cause, request, true)));
    });
    request.once("close", () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
    });
    if (signal?.aborted) aborted();
    return request;
  }

  get #server(): URL {
    return this.#servers[this.#index] ?? this.#credentials.server;
  }

  /** One alone is waited for as long as the call may take: there is nobody else to ask. */
  get #connectTimeoutMs(): number | undefined {
    return this.#servers.length > 1 ? CONNECT_TIMEOUT_MS : undefined;
  }

  /** New certificates need new connections; those in use finish by themselves. */
  #connections(): CallConnections {
    if (this.#isClosed) throw new TransportError("the client was closed", true);
    const tls = this.#credentials.tls();
    if (this.#calls !== undefined && tls === this.#tls) return this.#calls;
    const server = this.#server;
    this.#tls = tls;
    this.#calls?.retire();
    this.#calls = new CallConnections(server, tlsOptions(tls), this.#connectTimeoutMs);
    this.#streams = server.protocol === "http:" ? new HTTPAgent() : new HTTPSAgent(tlsOptions(tls));
    return this.#calls;
  }
}

/** A server name that is an address is checked in the certificate, but not sent (RFC 6066, section 3); Node refuses it. */
function tlsOptions({ servername, ...tls }: TLSMaterial): ConnectionOptions {
  if (servername === undefined) return tls;
  if (isIP(servername) === 0) return { ...tls, servername };
  return { ...tls, servername: "", checkServerIdentity: (_host, cert) => checkServerIdentity(servername, cert) };
}

function connectionError(cause: NodeJS.ErrnoException, request: ClientRequest, isConnected: boolean): TransportError {
  const reused = request.reusedSocket ? " on a kept connection" : "";
  // With several addresses Node's own message is empty.
  return new TransportError(`${cause.message || cause.code || "the connection failed"}${reused}`, !isConnected, {
    cause,
  });
}

async function* chunksOf(response: IncomingMessage, request: ClientRequest): AsyncGenerator<string, void, undefined> {
  try {
    for await (const chunk of response) yield String(chunk);
  } catch (error) {
    throw connectionError(error instanceof Error ? error : new Error(String(error)), request, true);
  }
}

function retryAfterOf(response: IncomingMessage): number | undefined {
  const seconds = Number(response.headers["retry-after"] ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}
