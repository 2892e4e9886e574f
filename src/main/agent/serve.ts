// SPDX-License-Identifier: Apache-2.0
import { execute } from "../../cni/executor.ts";
import { renderHistory } from "../../cni/journal/events.ts";
import { readAddressHistory } from "../../cni/journal/node-journal.ts";
import { type CNIServer, listenCNI } from "../../cni/server/server.ts";
import { type Listener, serveHealth, serveMetrics } from "../../felix/http.ts";
import type { Health } from "../../felix/ports.ts";
import type { NodeReport } from "../../felix/status.ts";
import { steadyClock as clock } from "../../lib/system-clock.ts";
import type { IP } from "../../net/ip.ts";
import type { Base } from "./base.ts";
import type { AgentCNI } from "./cni.ts";
import type { Dataplane } from "./felix.ts";
import type { NodeIPAM } from "./ipam.ts";

/** Health and metrics. */
export async function listenHTTP({ nodeName, config, cluster, metrics }: Base, health: Health): Promise<Listener[]> {
  const { settings } = cluster;
  const history = {
    read: async (ip: IP) => renderHistory(nodeName, ip, await readAddressHistory(config.stateDir, ip)),
    isRemote: config.hasRemoteHistory,
  };
  return [
    await settings.once(async ({ healthHost: host, healthPort: port }) => await serveHealth(health, { host, port })),
    await settings.once(
      async ({ metricsHost: host, metricsPort: port }) => await serveMetrics(metrics, { host, port }, history),
    ),
  ];
}

/** The launcher's socket. */
export async function serveCNI(base: Base, cni: AgentCNI, status: () => NodeReport): Promise<CNIServer> {
  const { config, metrics } = base;
  return await listenCNI({
    socketPath: config.socketPath,
    log: cni.log,
    status,
    execute: async (env, stdin, signal) => {
      using _call = cni.podStatus.standAside();
      const startMs = clock.nowMs();
      const reply = await execute(cni, env, stdin, signal);
      metrics.cniRequest(env["CNI_COMMAND"] ?? "", reply.errorCode, clock.nowMs() - startMs);
      return reply;
    },
  });
}

/** All that the agent tells of itself. @param startedMs Unix milliseconds */
export function reportOf(
  { nodeName }: Base,
  { felix }: Dataplane,
  health: Health,
  { allocator }: NodeIPAM,
  startedMs: number,
): NodeReport {
  const blocks = [...allocator.blockStatuses()];
  return {
    node: nodeName,
    pid: process.pid,
    startedMs,
    readiness: health.readiness(),
    blocks: blocks.map(([cidr, { used, free, borrowed }]) => ({ cidr, used, free, borrowed })),
    ...felix.status(),
  };
}
