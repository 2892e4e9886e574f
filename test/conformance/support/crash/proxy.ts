// SPDX-License-Identifier: Apache-2.0
import { Agent, createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A write on its way: to the server (`before`), or its answer back (`after`). */
export interface Passing {
  readonly phase: "before" | "after";
  /** As `PUT /apis/…/ipamblocks/10-0-0-0-26`. */
  readonly what: string;
}

/**
 * What stands between a machine and the API server: sees the writes, can hold them up, and can play a server that is not
 * there (`refuse`) or that takes connections and never answers (`silent`).
 */
export class ServerProxy {
  /** Waited for at each write. Rejects: the connection ends without an answer. */
  onWrite: (passing: Passing) => Promise<void> = async () => {};
  readonly #upstream: URL;
  /** Runs a function in the machine's network namespace. */
  readonly #inside: (listen: () => void) => void;
  readonly #agent = new Agent({ keepAlive: true });
  #isSilent = false;
  #server: Server | undefined;
  #port = 0;

  constructor(upstream: string, inside: (listen: () => void) => void) {
    this.#upstream = new URL(upstream);
    this.#inside = inside;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async up(): Promise<void> {
    this.#isSilent = false;
    if (this.#server !== undefined) {
      // Who waits on a connection that was silent would wait for ever.
      this.#server.closeAllConnections();
      return;
    }
    const server = createServer((asked, answer) => void this.#serve(asked, answer));
    const listening = new Promise((resolve) => server.once("listening", resolve));
    this.#inside(() => void server.listen(this.#port));
    await listening;
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  refuse(): void {
    this.#server?.close();
    this.#server?.closeAllConnections();
    this.#server = undefined;
  }

  silent(): void {
    this.#isSilent = true;
  }

  close(): void {
    this.refuse();
    this.#agent.destroy();
  }

  async #serve(asked: IncomingMessage, answer: ServerResponse): Promise<void> {
    asked.on("error", () => {});
    answer.on("error", () => {});
    const body: Buffer[] = [];
    try {
      for await (const chunk of asked) body.push(chunk as Buffer);
      if (this.#isSilent) return;
      const what = `${asked.method} ${asked.url}`;
      const isWrite = asked.method !== "GET";
      if (isWrite) await this.onWrite({ phase: "before", what });
      if (this.#isSilent) return;
      const upstream = await this.#forward(asked, Buffer.concat(body));
      if (isWrite) await this.onWrite({ phase: "after", what });
      if (this.#isSilent) return;
      answer.writeHead(upstream.statusCode ?? 502, upstream.headers);
      answer.flushHeaders();
      upstream.on("data", (chunk: Buffer) => void (this.#isSilent || answer.write(chunk)));
      upstream.on("end", () => answer.end());
      upstream.on("error", () => answer.destroy());
      answer.on("close", () => upstream.destroy());
    } catch {
      answer.destroy();
    }
  }

  #forward({ method, url, headers }: IncomingMessage, body: Buffer): Promise<IncomingMessage> {
    const { hostname, port } = this.#upstream;
    return new Promise((resolve, reject) => {
      const asking = request({ hostname, port, method, path: url, headers, agent: this.#agent });
      asking.once("response", resolve).once("error", reject).end(body);
    });
  }
}
