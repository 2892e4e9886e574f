// SPDX-License-Identifier: Apache-2.0
import { type ClientRequest, Agent as HTTPAgent, type IncomingMessage, request as requestHTTP } from "node:http";
import { Agent as HTTPSAgent, request as requestHTTPS } from "node:https";
import { isIP } from "node:net";
import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import { CallConnections } from "./call-connections.ts";
import type { KubeCredentials, TLSMaterial } from "./credentials.ts";
import { type Answer, type Exchange, hostOf, portOf, TransportError } from "./exchange.ts";

/** The body of an answer that is still coming; `close` ends it at once. */
export interface AnswerStream {
  readonly status: number;
  readonly chunks: AsyncIterable<string>;
  close(): void;
}

/** HTTP and HTTPS to one API server. Errors: TransportError, or the signal's reason. */
export class Transport {
  readonly #credentials: KubeCredentials;
  #tls: TLSMaterial | undefined;
  #calls: CallConnections | undefined;
  /** Without limit, so that watches never hold up a call. */
  #streams: HTTPAgent = new HTTPAgent();

  constructor(credentials: KubeCredentials) {
    this.#credentials = credentials;
  }

  async send(exchange: Exchange): Promise<Answer> {
    const { proxyAgent } = this.#credentials;
    return proxyAgent === undefined
      ? await this.#connections().send(exchange)
      : await this.#sendThrough(proxyAgent, exchange);
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
    return await new Promise((resolve, reject) => {
      this.#connections();
      const request = this.#start(exchange, "stream", this.#credentials.proxyAgent ?? this.#streams, reject);
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
    this.#calls?.close();
    this.#streams.destroy();
  }

  #start(
    exchange: Exchange,
    kind: "call" | "stream",
    agent: HTTPAgent,
    reject: (error: unknown) => void,
  ): ClientRequest {
    const { server } = this.#credentials;
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
      if (kind === "stream") clearTimeout(timer);
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
  #connections(): CallConnections {
    const tls = this.#credentials.tls();
    if (this.#calls !== undefined && tls === this.#tls) return this.#calls;
    const { server } = this.#credentials;
    this.#tls = tls;
    this.#calls?.retire();
    this.#calls = new CallConnections(server, tlsOptions(tls));
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
