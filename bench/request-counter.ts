// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { createServer } from "node:http";
import { request } from "node:https";
import type { AddressInfo } from "node:net";

/** A request that went through, by when its head came in. Units: milliseconds of performance.now(). */
export interface SeenRequest {
  readonly atMs: number;
  readonly method: string;
  /** Path and query. */
  readonly url: string;
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
    seen.push({ atMs: performance.now(), method: incoming.method ?? "", url: incoming.url ?? "" });
    const onward = request(
      // The API server is our own child on the loopback; its certificate is checked where it matters, in the agent.
      { ...target, method: incoming.method, path: incoming.url, headers: incoming.headers, rejectUnauthorized: false },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
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
  const calls = seen.filter(({ url }) => !/[?&]watch=(true|1)/.test(url));
  const reads = calls.filter(({ method }) => method === "GET").length;
  return { reads, writes: calls.length - reads };
}
