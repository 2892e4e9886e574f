// SPDX-License-Identifier: Apache-2.0
import type { Socket } from "node:net";

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

/** The host as sockets want it: an IPv6 address without brackets. */
export function hostOf(server: URL): string {
  return server.hostname.replace(/^\[(.*)\]$/, "$1");
}

export function portOf(server: URL): number {
  if (server.port !== "") return Number(server.port);
  return server.protocol === "http:" ? 80 : 443;
}

/**
 * Calls back when the socket can carry a request: with TLS, once the other side has shown its certificate. One that takes longer
 * than `timeoutMs` is destroyed.
 */
export function onConnected(socket: Socket, timeoutMs: number | undefined, callback: () => void): void {
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => socket.destroy(new Error(`no connection within ${timeoutMs} ms`)), timeoutMs);
  socket.once("close", () => clearTimeout(timer));
  socket.once("encrypted" in socket ? "secureConnect" : "connect", () => {
    clearTimeout(timer);
    callback();
  });
}
