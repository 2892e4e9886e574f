// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { stringifyJSON } from "../lib/json.ts";
import { type IP, parseIP } from "../net/ip.ts";
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

/** What a route sees of a request. */
interface Asked {
  /** What stands behind the route's path, decoded. */
  readonly rest: string;
  /** The caller is on this machine, in its own network namespace. */
  readonly isLocal: boolean;
}

/** Path to what answers a GET of it; one that ends in a slash answers for all below it. */
type Routes = Readonly<Record<string, (asked: Asked) => Answer | Promise<Answer>>>;

/** Where /history/ADDRESS comes from. */
export interface HistorySource {
  /** An object for JSON. */
  read(ip: IP): Promise<object>;
  /** Whether callers beyond this machine are answered: a history names pods, and nobody proves who they are. */
  readonly isRemote: boolean;
}

/** Each reads files of megabytes, and the agent has more important things to do. */
const MAX_HISTORIES_AT_ONCE = 4;

/** Serves /liveness and /readiness: 200 or 503, with the checks as JSON. @throws ListenError */
export async function serveHealth(health: Health, options: ListenOptions): Promise<Listener> {
  const answer = (probe: keyof Health): Answer => {
    const report = health[probe]();
    return { status: report.ok ? 200 : 503, type: "application/json; charset=utf-8", text: JSON.stringify(report) };
  };
  return await serve({ "/liveness": () => answer("liveness"), "/readiness": () => answer("readiness") }, options);
}

/** Serves /metrics in Prometheus' text format, and with a source of it /history/ADDRESS in JSON. @throws ListenError */
export async function serveMetrics(
  metrics: { readonly contentType: string; text(): Promise<string> },
  options: ListenOptions,
  history?: HistorySource,
): Promise<Listener> {
  const answer = async (): Promise<Answer> => ({ status: 200, type: metrics.contentType, text: await metrics.text() });
  return await serve({ "/metrics": answer, ...(history && { "/history/": historyRoute(history) }) }, options);
}

function historyRoute(history: HistorySource): Routes[string] {
  let running = 0;
  return async ({ rest, isLocal }) => {
    if (!isLocal && !history.isRemote)
      return failed(403, "This agent answers only on its own machine; start it with --remote-history on");
    let ip: IP;
    try {
      ip = parseIP(rest);
    } catch {
      return failed(400, `${JSON.stringify(rest)} is no address; ask for /history/10.0.0.1`);
    }
    if (running === MAX_HISTORIES_AT_ONCE) return failed(503, "Others are being answered; try again");
    running++;
    try {
      return { status: 200, type: "application/json; charset=utf-8", text: stringifyJSON(await history.read(ip)) };
    } finally {
      running--;
    }
  };
}

/** In the words of an API server, whose clients show them: the usual way here is through its pod proxy. */
function failed(code: number, message: string): Answer {
  const status = { kind: "Status", apiVersion: "v1", status: "Failure", message, code };
  return { status: code, type: "application/json; charset=utf-8", text: `${JSON.stringify(status)}\n` };
}

/** Plain node:http: three routes need no framework, which would be a tenth of the agent's memory. */
async function serve(routes: Routes, { host, port }: ListenOptions): Promise<Listener> {
  const server = createServer((request, response) => {
    const isLocal = isLoopback(request.socket.remoteAddress);
    void answerTo(routes, { method: request.method ?? "", url: request.url ?? "", isLocal }).then(
      ({ status, type, text }) => {
        response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text) }).end(text);
      },
    );
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
async function answerTo(
  routes: Routes,
  { method, url, isLocal }: { readonly method: string; readonly url: string; readonly isLocal: boolean },
): Promise<Answer> {
  const path = url.split("?", 1)[0] ?? "";
  const found = Object.entries(routes).find(([at]) => path === at || (at.endsWith("/") && path.startsWith(at)));
  if (found === undefined) return refuse(404, `No such path; there is ${Object.keys(routes).join(" and ")}`);
  if (method !== "GET" && method !== "HEAD") return refuse(405, "Only GET");
  const [at, route] = found;
  try {
    return await route({ rest: decodeURIComponent(path.slice(at.length)), isLocal });
  } catch (error) {
    return refuse(500, error instanceof Error ? error.message : String(error));
  }
}

function refuse(status: number, text: string): Answer {
  return { status, type: "text/plain; charset=utf-8", text: `${text}\n` };
}

/** A socket for both families shows IPv4 as ::ffff:127.0.0.1. */
function isLoopback(address = ""): boolean {
  return address === "::1" || /^(?:::ffff:)?127\./.test(address);
}
