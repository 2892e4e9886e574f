// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { createServer } from "node:http";
import { request } from "node:https";
import type { AddressInfo } from "node:net";

/** A request that went through, by when its head came in. */
export interface SeenRequest {
  /** Units: milliseconds of performance.now(). */
  readonly atMs: number;
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** Bodies so far, without heads and TLS. Units: bytes. */
  sentBytes: number;
  receivedBytes: number;
}

export interface RequestCounter {
  /** What the agent's kubeconfig names as the server. */
  readonly url: string;
  readonly seen: SeenRequest[];
  close(): void;
}

/** Stands between agent and API server and writes down every request. Not for timing: it costs some itself. */
export async function startRequestCounter(target: {
  readonly host: string;
  readonly port: number;
}): Promise<RequestCounter> {
  const seen: SeenRequest[] = [];
  const server = createServer((incoming, outgoing) => {
    const { method = "", url = "" } = incoming;
    const one: SeenRequest = { atMs: performance.now(), method, url, sentBytes: 0, receivedBytes: 0 };
    seen.push(one);
    incoming.on("data", (bytes: Buffer) => {
      one.sentBytes += bytes.length;
    });
    const onward = request(
      // The API server is our own child on the loopback; its certificate is checked where it matters, in the agent.
      { ...target, method: incoming.method, path: incoming.url, headers: incoming.headers, rejectUnauthorized: false },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.on("data", (bytes: Buffer) => {
          one.receivedBytes += bytes.length;
        });
        answer.pipe(outgoing);
        outgoing.flushHeaders();
      },
    );
    onward.on("error", () => outgoing.destroy());
    outgoing.on("close", () => onward.destroy());
    incoming.pipe(onward);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  // Listening on a port, so its address is no path.
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** What the requests were, long-running watches left out. */
export function countRequests(seen: readonly SeenRequest[]): { readonly reads: number; readonly writes: number } {
  const calls = seen.filter(({ url }) => !isWatch(url));
  const reads = calls.filter(({ method }) => method === "GET").length;
  return { reads, writes: calls.length - reads };
}

/** What the watches have brought so far. Units: bytes. */
export function heardBytes(seen: readonly SeenRequest[]): number {
  return seen.filter(({ url }) => isWatch(url)).reduce((total, { receivedBytes }) => total + receivedBytes, 0);
}

function isWatch(url: string): boolean {
  return /[?&]watch=(true|1)/.test(url);
}
