// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { ListenError } from "./errors.ts";
import type { Health } from "./ports.ts";

export interface Listener {
  /** `http://host:port`, with the port that was really taken. */
  readonly url: string;
  close(): Promise<void>;
}

export interface ListenOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

/** Path to what answers a GET of it. */
type Routes = Readonly<Record<string, () => Answer | Promise<Answer>>>;

/** Serves /liveness and /readiness: 200 or 503, with the checks as JSON. @throws ListenError */
export async function serveHealth(health: Health, options: ListenOptions): Promise<Listener> {
  const answer = (probe: keyof Health): Answer => {
    const report = health[probe]();
    return { status: report.ok ? 200 : 503, type: "application/json; charset=utf-8", text: JSON.stringify(report) };
  };
  return await serve({ "/liveness": () => answer("liveness"), "/readiness": () => answer("readiness") }, options);
}

/** Serves /metrics in Prometheus' text format. @throws ListenError */
export async function serveMetrics(
  metrics: { readonly contentType: string; text(): Promise<string> },
  options: ListenOptions,
): Promise<Listener> {
  const answer = async (): Promise<Answer> => ({ status: 200, type: metrics.contentType, text: await metrics.text() });
  return await serve({ "/metrics": answer }, options);
}

/** Plain node:http: three routes need no framework, which would be a tenth of the agent's memory. */
async function serve(routes: Routes, { host, port }: ListenOptions): Promise<Listener> {
  const server = createServer((request, response) => {
    void answerTo(routes, request.method, request.url).then(({ status, type, text }) => {
      response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text) }).end(text);
    });
  });
  try {
    server.listen(port, host);
    await once(server, "listening");
  } catch (cause) {
    throw new ListenError(host, port, cause);
  }
  // Listening on a port, so its address is no path.
  const { port: taken } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${taken}`,
    close: async () => {
      // A scraper that keeps its connection must not keep the agent from stopping.
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Never rejects. */
async function answerTo(routes: Routes, method = "", url = ""): Promise<Answer> {
  const refuse = (status: number, text: string): Answer => ({ status, type: "text/plain; charset=utf-8", text });
  const path = url.split("?", 1)[0] ?? "";
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
  if (route === undefined) return refuse(404, `No such path; there is ${Object.keys(routes).join(" and ")}\n`);
  if (method !== "GET" && method !== "HEAD") return refuse(405, "Only GET\n");
  try {
    return await route();
  } catch (error) {
    return refuse(500, `${error instanceof Error ? error.message : String(error)}\n`);
  }
}
