// SPDX-License-Identifier: Apache-2.0
import fastify, { type FastifyInstance } from "fastify";
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

/** Serves /liveness and /readiness: 200 or 503, with the checks as JSON. @throws ListenError */
export async function serveHealth(health: Health, options: ListenOptions): Promise<Listener> {
  const app = fastify();
  for (const probe of ["liveness", "readiness"] as const) {
    app.get(`/${probe}`, async (_request, reply) => {
      const report = health[probe]();
      return await reply.code(report.ok ? 200 : 503).send(report);
    });
  }
  return await listen(app, options);
}

/** Serves /metrics in Prometheus' text format. @throws ListenError */
export async function serveMetrics(
  metrics: { readonly contentType: string; text(): Promise<string> },
  options: ListenOptions,
): Promise<Listener> {
  const app = fastify();
  app.get("/metrics", async (_request, reply) => await reply.type(metrics.contentType).send(await metrics.text()));
  return await listen(app, options);
}

async function listen(app: FastifyInstance, options: ListenOptions): Promise<Listener> {
  // A scraper that keeps its connection must not keep the agent from stopping.
  app.addHook("onClose", async () => app.server.closeAllConnections());
  try {
    const url = await app.listen({ host: options.host, port: options.port });
    return { url, close: async () => await app.close() };
  } catch (cause) {
    throw new ListenError(options.host, options.port, cause);
  }
}
