// SPDX-License-Identifier: Apache-2.0
// gingham-agent: one a node. Serves the launcher, allocates, wires pods, and keeps the node's routes.
import { hostname } from "node:os";
import { setFlagsFromString } from "node:v8";
import { announce } from "../cni/reconcile.ts";
import { lockSocket } from "../cni/server/server.ts";
import { resolveConfig } from "../felix/config.ts";
import { agentUsage, type LocalConfig } from "../felix/config-options.ts";
import { createMetrics } from "../felix/metrics.ts";
import { renderPlan, settle } from "../felix/plan/plan.ts";
import { describeError } from "../lib/errors.ts";
import { systemClock as clock } from "../lib/system-clock.ts";
import { answerVersion } from "../lib/version.ts";
import { createKernel } from "../netlink/worker.ts";
import { makeAdopter } from "./agent/adopt.ts";
import { connectCluster } from "./agent/cluster.ts";
import { makeCNI } from "./agent/cni.ts";
import { makeConflistKeeper } from "./agent/conflist.ts";
import { makeDataplane } from "./agent/felix.ts";
import { makeHealth } from "./agent/health.ts";
import { makeIPAM } from "./agent/ipam.ts";
import { openLogs } from "./agent/logs.ts";
import { listenHTTP, reportOf, serveCNI } from "./agent/serve.ts";
import { startUpkeep } from "./agent/upkeep.ts";

// V8 lets the space for new objects grow to tens of megabytes when a large cluster is listed, and keeps it. Left as small
// as it starts, it is emptied more often, which an agent that is mostly at rest does not notice.
setFlagsFromString("--semi-space-growth-factor=1");

const POD_STATUS_WAIT_MS = 2000;

answerVersion("gingham-agent");
if (process.argv.includes("--help")) {
  process.stdout.write(agentUsage());
  process.exit(0);
}

async function main(): Promise<void> {
  const startedMs = clock.nowMs();
  const local: LocalConfig = { args: process.argv.slice(2), env: process.env, hostName: hostname() };
  const { nodeName, kubeconfig, logLevel, isPlan } = resolveConfig(local).config;
  const logs = openLogs({ nodeName, level: logLevel, isPlan });
  const log = logs.root;
  const metrics = createMetrics(nodeName);
  // Nothing is written by it before somebody asks, so it may start while settings are read.
  const kernelStart = createKernel({
    onFatal: (err) => {
      // Nothing is known of what it was doing: the next process starts from the records and from what the kernel has.
      log.fatal({ err }, "A kernel worker died; the agent ends and must be started again");
      process.exit(1);
    },
  });
  kernelStart.catch(() => {});
  const cluster = await connectCluster({ local, nodeName, kubeconfig, logs });
  const config = cluster.settings.take();
  // Two agents of one node undo each other's work. A plan changes nothing, and may be made beside the agent that runs.
  const lock = config.isPlan ? undefined : await lockSocket({ socketPath: config.socketPath });
  // Lists travel while the rest is made.
  cluster.cache.start();
  const kernel = await kernelStart;
  const base = { nodeName, config, logs, metrics, cluster, kernel };
  const conflist = makeConflistKeeper(base);
  const adopter = makeAdopter(base);
  const dataplane = makeDataplane(base, conflist, adopter);
  const { felix, selfTest, pathProbe, foreign, packetFilter, plan } = dataplane;
  const { health, socket, gate, trouble } = makeHealth(base, dataplane, conflist);
  const ipam = makeIPAM(base, dataplane.nodeWriter);
  const cni = makeCNI(base, ipam, felix);

  // The records come first: Felix must know every pod that runs before it compares the kernel with what it wants.
  const live = await announce(cni);
  log.info({ endpoints: live, server: cluster.server.href }, "Starting");
  felix.start();
  foreign.start();
  selfTest?.start();
  pathProbe?.start();
  gate.start();
  if (plan !== undefined) {
    const problem = await settle(felix.health, clock);
    process.stdout.write(renderPlan(plan.changes, felix.findings()));
    if (problem !== undefined) process.stderr.write(`gingham-agent: the plan is not complete: ${problem}\n`);
    process.exit(problem === undefined ? 0 : 1);
  }
  trouble.start();
  ipam.tunnelAddresses.start();
  const listeners = await listenHTTP(base, health);
  // No pod is made before strangers are dropped; a node that cannot have the table says so, and makes pods.
  await packetFilter?.firstTry;
  const server = await serveCNI(base, cni, () => reportOf(base, dataplane, health, ipam, startedMs));
  log.info({ socket: config.socketPath }, "Serving CNI");
  const stop = new AbortController();
  void socket.run(stop.signal);
  startUpkeep(base, cni, ipam, stop.signal);
  if (config.adopts) void adopter.run(cni, cni.nodeBlocks, stop.signal);
  // Runtimes take the file for readiness, so it comes last.
  void conflist?.run(stop.signal);

  const shutDown = async (signal: string): Promise<void> => {
    log.info({ signal }, "Stopping; pods, routes and the packet filter stay as they are");
    stop.abort();
    cluster.settings.stop();
    await Promise.all([server.close(), lock?.close()]);
    // The next agent knows nothing of what this one owes. A failure has been logged.
    await Promise.all([
      cni.conntrack.drain().catch(() => {}),
      cni.podStatus.drain(POD_STATUS_WAIT_MS),
      gate.stop(),
      trouble.stop(),
      selfTest?.stop(),
    ]);
    await Promise.all([
      ipam.tunnelAddresses.stop(),
      felix.stop(),
      foreign.stop(),
      pathProbe?.stop(),
      cluster.cache.stop(),
      ...listeners.map((listener) => listener.close()),
    ]);
    ipam.allocator.close();
    await Promise.all([kernel.close(), cni.closeJournal()]);
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void shutDown(signal));
}

main().catch((error: unknown) => {
  process.stderr.write(`gingham-agent: ${describeError(error)}\n`);
  process.exit(1);
});
