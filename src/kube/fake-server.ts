// SPDX-License-Identifier: Apache-2.0
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { stringifyJSON } from "../lib/json.ts";
import type { KubeCredentials } from "./credentials.ts";

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export type Reply = (response: ServerResponse, request: SeenRequest) => void | Promise<void>;

/** An HTTP server for tests that answers each request with the next reply of a script, and the last one for ever. */
export class FakeServer implements AsyncDisposable {
  readonly requests: SeenRequest[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #script: Reply[] = [];
  connections = 0;

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
    this.#server.on("connection", (socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  static async start(...script: Reply[]): Promise<FakeServer> {
    const fake = new FakeServer();
    fake.#script = script;
    await new Promise<void>((resolve) => fake.#server.listen(0, "127.0.0.1", resolve));
    return fake;
  }

  script(...script: Reply[]): void {
    this.#script = script;
  }

  get url(): URL {
    const { port } = this.#server.address() as AddressInfo; // it listens on TCP
    return new URL(`http://127.0.0.1:${port}`);
  }

  /** Credentials that rotate like a token file: `refresh` goes on to the next token. */
  credentials(...tokens: string[]): KubeCredentials & { readonly refreshed: () => number } {
    let at = 0;
    return {
      server: this.url,
      namespace: undefined,
      proxyAgent: undefined,
      tls: () => NO_TLS,
      headers: () => Promise.resolve(tokens[at] === undefined ? {} : { authorization: `Bearer ${tokens[at]}` }),
      refresh: () => void at++,
      refreshed: () => at,
    };
  }

  /** Cuts every connection, as a server that dies does. */
  cutConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Refuses new connections; those that are open stay, and stay silent unless a reply is under way. */
  stopListening(): void {
    this.#server.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cutConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer); // no encoding is set
    const { method = "", url = "", headers } = request;
    const seen: SeenRequest = { method, url, headers, body: Buffer.concat(chunks).toString() };
    this.requests.push(seen);
    const reply = this.#script.length > 1 ? this.#script.shift() : this.#script[0];
    await reply?.(response, seen);
  }
}

const NO_TLS = {};

export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Reply {
  return (response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(stringifyJSON(body));
  };
}

/** A Kubernetes Status. */
export function status(code: number, reason: string, more: object = {}, headers: Record<string, string> = {}): Reply {
  const body = {
    kind: "Status",
    apiVersion: "v1",
    status: "Failure",
    code,
    reason,
    message: `scripted ${reason}`,
    ...more,
  };
  return json(body, code, headers);
}

/** Cuts the connection without an answer. */
export const cut: Reply = (response) => void response.socket?.destroy();

/** Never answers. */
export const silence: Reply = () => {};

/** Sends the head and these chunks of a body, then ends, cuts the connection, or stays open. */
export function chunks(parts: readonly (string | Uint8Array)[], then: "end" | "cut" | "stay"): Reply {
  return async (response) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    for (const part of parts) {
      response.write(part);
      // A turn of the event loop for each, so that they travel apart.
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (then === "end") response.end();
    else if (then === "cut") response.socket?.destroy();
  };
}
