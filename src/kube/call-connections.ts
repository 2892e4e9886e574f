// SPDX-License-Identifier: Apache-2.0
import { connect as connectTCP, isIP, type OnReadOpts, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTLS } from "node:tls";
import { type Answer, type Exchange, hostOf, onConnected, portOf, TransportError } from "./exchange.ts";
import { AnswerReader, renderRequest } from "./http1.ts";

/** Enough to keep an API server busy, few enough that a burst of a hundred calls does not pay for as many handshakes. */
const MAX_CONNECTIONS = 16;
/** Go's API server closes idle connections after 90 s; not using them so late avoids a race. Units: milliseconds. */
const IDLE_MS = 60_000;
/**
 * Where all connections read: what is in it is taken out before the next read. A stream would make a buffer of this size for
 * each read, and pass it through a queue.
 */
const READ_BUFFER = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * Kept connections to one API server for calls that are answered at once. Node's own client makes some twenty
 * objects for each request, which an ADD pays for twice (docs/performance.md). Streams and proxies go through Node's.
 *
 * Errors: TransportError, or the signal's reason.
 */
export class CallConnections {
  readonly #server: URL;
  readonly #tls: ConnectionOptions;
  /** The one that was used last comes first: the others may then become old and be closed. */
  readonly #idle: Connection[] = [];
  /** Calls for which there is no connection yet, in order of arrival. */
  readonly #waiting = new Set<() => void>();
  readonly #open = new Set<Connection>();
  readonly #connectTimeoutMs: number | undefined;
  #isClosed = false;
  #isRetired = false;

  /** @param connectTimeoutMs absent: a connection may take as long as its call. */
  constructor(server: URL, tls: ConnectionOptions, connectTimeoutMs?: number) {
    this.#server = server;
    this.#tls = tls;
    this.#connectTimeoutMs = connectTimeoutMs;
  }

  async send(exchange: Exchange): Promise<Answer> {
    const sinceMs = performance.now();
    let connection = this.#take();
    while (connection === undefined) {
      await this.#turn(exchange.signal);
      connection = this.#take();
    }
    const leftMs = Math.max(1, exchange.timeoutMs - (performance.now() - sinceMs));
    try {
      return await connection.exchange(exchange, this.#server, leftMs);
    } finally {
      this.#putBack(connection);
    }
  }

  /** Calls under way fail. */
  close(): void {
    this.#isClosed = true;
    for (const connection of this.#open) connection.destroy();
  }

  /** Ends the connections from these local addresses; calls under way on them fail. */
  dropFrom(isGone: (localAddress: string) => boolean): void {
    for (const connection of [...this.#open]) {
      const { localAddress } = connection;
      if (localAddress !== undefined && isGone(localAddress)) connection.destroy();
    }
  }

  /** Keeps no connection any longer; calls under way finish. */
  retire(): void {
    this.#isRetired = true;
    for (const connection of this.#idle) connection.destroy();
  }

  #take(): Connection | undefined {
    if (this.#isClosed) throw new TransportError("the client was closed", true);
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.isUsable(IDLE_MS)) return idle;
      idle.destroy();
    }
    if (this.#open.size >= MAX_CONNECTIONS) return undefined;
    const connection = new Connection((onread) => this.#connect(onread), this.#connectTimeoutMs);
    this.#open.add(connection);
    connection.onClose(() => {
      this.#open.delete(connection);
      this.#wakeNext();
    });
    return connection;
  }

  /** Resolves when a connection may have become free: each of those in use does within its call's time. */
  async #turn(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => reject(signal?.reason);
    if (signal?.aborted) onAbort();
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#waiting.add(resolve);
    await promise.finally(() => {
      this.#waiting.delete(resolve);
      signal?.removeEventListener("abort", onAbort);
    });
  }

  #wakeNext(): void {
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#waiting.delete(next);
    next();
  }

  #putBack(connection: Connection): void {
    if (this.#isRetired || !connection.isUsable(IDLE_MS)) connection.destroy();
    else {
      connection.rest();
      this.#idle.push(connection);
    }
    this.#wakeNext();
  }

  #connect(onread: OnReadOpts): Socket {
    const [host, port] = [hostOf(this.#server), portOf(this.#server)];
    if (this.#server.protocol === "http:") return connectTCP({ host, port, noDelay: true, onread });
    // An address is no server name; the certificate is compared with `host` then.
    const servername = this.#tls.servername ?? (isIP(host) === 0 ? host : undefined);
    const options = { host, port, ...this.#tls, onread, ...(servername !== undefined && { servername }) };
    const socket = connectTLS(options);
    socket.setNoDelay(true);
    return socket;
  }
}

/** One connection, for one call at a time. */
class Connection {
  readonly #socket: Socket;
  #isConnected = false;
  #isBroken = false;
  #uses = 0;
  #idleSinceMs = performance.now();
  /** Of the call under way. */
  #call: { readonly reader: AnswerReader; readonly done: (answer: Answer) => void } | undefined;
  #fail: (cause: Error) => void = () => {};

  constructor(connect: (onread: OnReadOpts) => Socket, connectTimeoutMs: number | undefined) {
    const callback = (length: number): boolean => {
      this.#onData(Buffer.from(READ_BUFFER.subarray(0, length)));
      return true;
    };
    const socket = connect({ buffer: READ_BUFFER, callback });
    this.#socket = socket;
    onConnected(socket, connectTimeoutMs, () => {
      this.#isConnected = true;
    });
    socket.on("error", (cause) => this.#onEnd(cause));
    socket.on("end", () => this.#onEnd());
    socket.on("close", () => this.#onEnd());
  }

  get localAddress(): string | undefined {
    return this.#socket.localAddress;
  }

  onClose(callback: () => void): void {
    this.#socket.once("close", callback);
  }

  isUsable(idleMs: number): boolean {
    return !this.#isBroken && performance.now() - this.#idleSinceMs < idleMs;
  }

  destroy(): void {
    this.#isBroken = true;
    this.#socket.destroy();
  }

  /** Does not keep the process from ending. */
  rest(): void {
    this.#idleSinceMs = performance.now();
    this.#socket.unref();
  }

  async exchange(exchange: Exchange, server: URL, leftMs: number): Promise<Answer> {
    const { method, path, headers, body, signal, timeoutMs } = exchange;
    if (signal?.aborted) throw signal.reason;
    const base = server.pathname.replace(/\/$/, "");
    const request = renderRequest({ method, path: base + path, host: server.host, headers }, body ?? "");
    this.#uses++;
    this.#socket.ref();
    return await new Promise<Answer>((resolve, reject) => {
      const onAbort = (): void => fail(signal?.reason);
      const timer = setTimeout(() => fail(new TransportError(`no answer within ${timeoutMs} ms`, false)), leftMs);
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        this.#call = undefined;
      };
      const fail = (error: unknown): void => {
        end();
        this.destroy();
        reject(error);
      };
      this.#fail = (cause) => fail(this.#errorOf(cause));
      const done = (answer: Answer): void => {
        end();
        resolve(answer);
      };
      this.#call = { reader: new AnswerReader(), done };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#socket.write(request);
    });
  }

  #onData(bytes: Buffer): void {
    const call = this.#call;
    if (call === undefined) {
      // Nobody asked: the other side is about to close, or confused.
      this.destroy();
      return;
    }
    try {
      const answer = call.reader.push(bytes);
      if (answer === undefined) return;
      if (!call.reader.mayKeep) this.destroy();
      call.done(answer);
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #onEnd(cause?: Error): void {
    this.#isBroken = true;
    if (this.#call === undefined) return;
    const answer = cause === undefined ? this.#call.reader.end() : undefined;
    if (answer !== undefined) this.#call.done(answer);
    else this.#fail(cause ?? new Error("the connection was closed before the whole answer was there"));
  }

  #errorOf(cause: NodeJS.ErrnoException): TransportError {
    const reused = this.#uses > 1 ? " on a kept connection" : "";
    // With several addresses Node's own message is empty.
    const message = `${cause.message || cause.code || "the connection failed"}${reused}`;
    return new TransportError(message, !this.#isConnected, { cause });
  }
}
