// SPDX-License-Identifier: Apache-2.0
import { askServer } from "../../cni/server/server.ts";
import { SocketHealth } from "../../cni/server/socket-health.ts";
import { NodeGate } from "../../felix/drivers/node-gate.ts";
import { NodeTrouble } from "../../felix/drivers/node-trouble.ts";
import { withLiveness, withReadiness } from "../../felix/health.ts";
import type { Health } from "../../felix/ports.ts";
import type { ConflistKeeper } from "../../install/conflist-keeper.ts";
import { steadyClock as clock } from "../../lib/system-clock.ts";
import type { Base } from "./base.ts";
import type { Dataplane } from "./felix.ts";

/** Whether this node can have pods, and what follows from it. */
export interface NodeHealth {
  /** Felix's, and that of all else that a pod needs. */
  readonly health: Health;
  readonly socket: SocketHealth;
  readonly gate: NodeGate;
  readonly trouble: NodeTrouble;
}

const ASK_TIMEOUT_MS = 1000;

/** @param conflist what the runtime needs besides; absent where that is not the agent's */
export function makeHealth(base: Base, dataplane: Dataplane, conflist: ConflistKeeper | undefined): NodeHealth {
  const { nodeName, config, cluster, logs } = base;
  const { felix, selfTest, nodeWriter, plan } = dataplane;
  const { socketPath } = config;
  const socket = new SocketHealth({
    socketPath,
    ask: () => askServer(socketPath, ASK_TIMEOUT_MS),
    clock,
    onLost: (detail) => {
      logs.of("cni").error({ detail }, "The socket is lost; the agent ends and must be started again");
      process.kill(process.pid, "SIGTERM");
    },
  });
  let health = felix.health;
  if (selfTest !== undefined) health = withReadiness(health, "selfTest", () => selfTest.check);
  // A plan serves nobody.
  if (plan === undefined) {
    health = withReadiness(health, "cni", () => socket.readiness());
    health = withLiveness(health, "cni", () => socket.liveness());
    if (conflist !== undefined) health = withReadiness(health, "networkConfig", () => conflist.check());
  }
  base.metrics.followReadiness(health);
  const gate = new NodeGate({
    nodeName,
    isReady: () => health.readiness().ok,
    nodes: cluster.cache.nodes,
    writer: nodeWriter,
    taint: config.startupTaint,
    clock,
    random: Math.random,
    log: logs.of("felix"),
  });
  const trouble = new NodeTrouble({
    checks: () => health.readiness().checks,
    findings: () => conflist?.findings() ?? [],
    writer: nodeWriter,
    clock,
    random: Math.random,
    log: logs.of("felix"),
  });
  return { health, socket, gate, trouble };
}
