// SPDX-License-Identifier: Apache-2.0
// gingham-agent: one a node. Serves the launcher, allocates, wires pods, and keeps the node's routes.
import { hostname } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { pino } from "pino";
import { NodeCollector } from "../cni/collect.ts";
import type { CNI } from "../cni/commands/cni.ts";
import { ConntrackFlusher } from "../cni/conntrack/flusher.ts";
import { execPlugins } from "../cni/delegation/exec-plugin.ts";
import { EndpointBook } from "../cni/endpoint-book.ts";
import { execute } from "../cni/executor.ts";
import { linuxHost } from "../cni/host.ts";
import { renderHistory } from "../cni/journal/events.ts";
import { openJournal, readAddressHistory } from "../cni/journal/node-journal.ts";
import { KeyedLocks } from "../cni/locks.ts";
import { filePendingStore } from "../cni/pending-store.ts";
import { PodStatusQueue } from "../cni/pod-status/queue.ts";
import { repairPeriodically } from "../cni/pod-status/repair.ts";
import { announce, sweep, sweepPeriodically } from "../cni/reconcile.ts";
import { fileRecordStore } from "../cni/record-store.ts";
import { listenCNI, lockSocket } from "../cni/server.ts";
import { NODES } from "../crds/core.ts";
import { blockName } from "../crds/names.ts";
import { resolveConfig } from "../felix/config.ts";
import { agentUsage, type LocalConfig } from "../felix/config-options.ts";
import { ConfigWatch } from "../felix/config-watch.ts";
import { NodeWriter } from "../felix/drivers/node-writer.ts";
import { TunnelAddresses } from "../felix/drivers/tunnel-address.ts";
import { createFelix } from "../felix/felix.ts";
import { gatherForeign } from "../felix/foreign/gather.ts";
import { ownNeeds } from "../felix/foreign/judge.ts";
import { ForeignWatch } from "../felix/foreign/watch.ts";
import { serveHealth, serveMetrics } from "../felix/http.ts";
import { createMetrics } from "../felix/metrics.ts";
import { nftPacketFilter } from "../felix/nft/run-nft.ts";
import { NodeAddressDetector } from "../felix/node-address/detector.ts";
import { udpReach } from "../felix/node-address/reach.ts";
import { PacketFilter } from "../felix/packet-filter.ts";
import { planOnly, renderPlan, settle } from "../felix/plan/plan.ts";
import type { DriverPorts } from "../felix/plan/ports.ts";
import { withPodCIDRs } from "../felix/pod-cidrs.ts";
import { routedAddresses } from "../felix/routed.ts";
import type { NodeReport } from "../felix/status.ts";
import { createAllocator } from "../ipam/allocator/allocator.ts";
import { KubeStore } from "../ipam/kube-store.ts";
import { releaseHeld } from "../ipam/release-held.ts";
import { releaseUnhandled } from "../ipam/release-unhandled.ts";
import { sourcesOf } from "../ipam/sources.ts";
import { BlockSchema } from "../kube/block-schema.ts";
import { publishBorrows } from "../kube/borrow-hints.ts";
import { HTTPKubeClient } from "../kube/client.ts";
import { ClusterCache } from "../kube/cluster-cache.ts";
import { GoneError } from "../kube/errors.ts";
import { liveHolders } from "../kube/holder-source.ts";
import { loadKubeConfig } from "../kube/kube-config.ts";
import { nodeBlocks } from "../kube/node-blocks.ts";
import { namespaceSource, podSource } from "../kube/pod-source.ts";
import { knownPods, kubePodStatus } from "../kube/pod-status.ts";
import { describeError } from "../lib/errors.ts";
import { systemClock as clock } from "../lib/system-clock.ts";
import { parseCIDR } from "../net/cidr.ts";
import { formatIP } from "../net/ip.ts";
import { enableForwarding, isForwarding } from "../netlink/sysctl.ts";
import { createKernel } from "../netlink/worker.ts";

// V8 lets the space for new objects grow to tens of megabytes when a large cluster is listed, and keeps it. Left as small
// as it starts, it is emptied more often, which an agent that is mostly at rest does not notice.
setFlagsFromString("--semi-space-growth-factor=1");

const SWEEP_INTERVAL_MS = 20_000;
const RELEASE_WAIT_MS = 5000;
const POD_STATUS_WAIT_MS = 2000;
/** For the cluster's settings, before what cannot be changed later. An API server that is away is not waited for. */
const SETTINGS_WAIT_MS = 2000;

if (process.argv.includes("--help")) {
  process.stdout.write(agentUsage());
  process.exit(0);
}

async function main(): Promise<void> {
  const local: LocalConfig = { args: process.argv.slice(2), env: process.env, hostName: hostname() };
  const { nodeName, kubeconfig, logLevel, isPlan } = resolveConfig(local).config;
  const log = pino(
    { level: logLevel, base: { node: nodeName }, timestamp: pino.stdTimeFunctions.isoTime },
    // A plan is for people, and what is said on the way to it must not stand in it.
    pino.destination(isPlan ? 2 : 1),
  );
  const logs = [log];
  const logOf = (component: string): pino.Logger => {
    const child = log.child({ component });
    logs.push(child);
    return child;
  };
  const metrics = createMetrics(nodeName);
  const startedMs = clock.nowMs();
  const random = Math.random;

  const credentials = await loadKubeConfig(kubeconfig === undefined ? {} : { kubeconfigPath: kubeconfig });
  const client = new HTTPKubeClient({ credentials, userAgent: `gingham-agent/${nodeName}`, clock });
  const kubeLog = logOf("kube");
  const onError = (err: unknown, resource: string): void => {
    // The server forgets old versions: a new list answers that, and nobody has to know.
    if (err instanceof GoneError) kubeLog.debug({ resource }, "Watch is too old; listing again");
    else kubeLog.warn({ err, resource }, "Watch failed; it goes on");
  };
  const cache = new ClusterCache({ client, nodeName, clock, random, onError });
  const settings = new ConfigWatch({ local, objects: cache.felixConfigurations });
  cache.felixConfigurations.start();
  await Promise.race([cache.felixConfigurations.firstTry, clock.sleep(SETTINGS_WAIT_MS)]);
  const config = settings.take();
  // Two agents of one node undo each other's work. A plan changes nothing, and may be made beside the agent that runs.
  const lock = config.isPlan ? undefined : await lockSocket({ socketPath: config.socketPath });
  const kernel = await createKernel({
    onFatal: (err) => {
      // Nothing is known of what it was doing: the next process starts from the records and from what the kernel has.
      log.fatal({ err }, "A kernel worker died; the agent ends and must be started again");
      process.exit(1);
    },
  });

  const felixLog = logOf("felix");
  const real: DriverPorts = {
    routes: kernel.routes,
    tunnels: kernel.tunnels,
    filter: nftPacketFilter(),
    node: {
      get: () => client.get(NODES, nodeName),
      updateStatus: (node) => client.update(NODES, node, { subresource: "status" }),
    },
    enableForwarding,
  };
  const plan = config.isPlan ? planOnly(real, isForwarding) : undefined;
  const ports = plan?.ports ?? real;
  const packetFilter =
    config.packetFilter &&
    new PacketFilter({
      port: ports.filter,
      settings: { ...config.packetFilter, vxlanPort: config.vxlan.port },
      refreshMs: config.nftRefreshMs,
      clock,
      random,
      log: felixLog,
      metrics: metrics.packetFilter,
    });
  const nodeStatus = new NodeWriter(ports.node);
  const { nodes, pools, borrowed } = cache;
  const affinities = withPodCIDRs(nodes, cache.affinities, { isOn: config.routesPodCIDRs });
  const foreign = new ForeignWatch({
    port: gatherForeign({ routes: kernel.routes }),
    // Forwarding and routes are first made, then looked at.
    needs: () => (felix.health.readiness().checks["firstApply"]?.ok === true ? ownNeeds(pools.list()) : undefined),
    clock,
    random,
    log: felixLog,
  });
  const felix = createFelix({
    nodeName,
    dataplane: ports.routes,
    tunnels: ports.tunnels,
    vxlan: config.vxlan,
    mtu: config.mtu,
    sources: { nodes, pools, borrowed, affinities },
    clock,
    random,
    log: felixLog,
    metrics: metrics.felix,
    enableForwarding: ports.enableForwarding,
    nodeAddress: new NodeAddressDetector({
      settings: config.nodeAddress,
      reach: udpReach,
      clock,
      pollMs: config.addressPollMs,
    }),
    ignoresDuplicates: config.ignoresDuplicates,
    moreFindings: () => [...settings.findings(), ...foreign.findings()],
    onAddresses: (addrs) => {
      const own = new Set(addrs.map(({ ip }) => formatIP(ip)));
      client.dropConnectionsFrom((address) => !own.has(address.replace(/^::ffff:/, "")) && !address.startsWith("127."));
    },
    nodeStatus,
    routeRefreshMs: config.routeRefreshMs,
    configured: settings.known,
    ...(packetFilter && { packetFilter }),
  });
  settings.follow(felixLog, (now) => {
    for (const each of logs) each.level = now.logLevel;
    if (now.packetFilter !== undefined)
      packetFilter?.configure({ ...now.packetFilter, vxlanPort: now.vxlan.port }, now.nftRefreshMs);
    affinities.route(now.routesPodCIDRs);
    felix.configure(now);
  });

  const ipamLog = logOf("ipam");
  const schema = new BlockSchema({
    client,
    clock,
    onMissing: (why) => ipamLog.warn({ why }, "ipCooldownSeconds is not kept in blocks: releases free at once"),
  });
  const store = new KubeStore(client, (err) => ipamLog.warn({ err }, "Object left out of a list"));
  const sources = sourcesOf({ ...cache.ipamObjects(), keepsReleasedAt: () => schema.keepsReleasedAt() }, nodeName);
  const allocator = createAllocator({
    store,
    sources,
    clock,
    random,
    nodeName,
    isResident: true,
    cooldownMs: config.ipCooldownMs,
    onBorrowed: (block) => cache.borrowed.noteBorrowed(blockName(block)),
    onBackgroundError: (err) => ipamLog.warn({ err }, "Background work failed; it is tried again"),
  });
  const tunnelAddresses = new TunnelAddresses({
    nodeName,
    sources: cache,
    ipam: {
      store,
      assign: (request) => allocator.assign(request),
      releaseByHandle: (handleID) => allocator.releaseByHandle(handleID),
      releaseNameless: (address) => releaseUnhandled({ store, clock, random }, address),
    },
    node: nodeStatus,
    clock,
    random,
    log: felixLog,
  });

  const routed = () => routedAddresses(kernel.routes);
  const cniLog = logOf("cni");
  const journal = openJournal({
    stateDir: config.stateDir,
    maxBytes: config.journalFileBytes,
    clock,
    onError: (err) => cniLog.warn({ err }, "The journal cannot be written; what happens now will not be in it"),
  });
  const podStatus = new PodStatusQueue({ store: kubePodStatus(client), clock, random, log: cniLog, metrics });
  const cni: CNI = {
    addresses: allocator,
    wiring: kernel.wiring,
    conntrack: new ConntrackFlusher({ conntrack: kernel.conntrack, clock, log: cniLog }),
    records: fileRecordStore(join(config.stateDir, "attachments")),
    pending: filePendingStore(join(config.stateDir, "pending"), cniLog),
    host: linuxHost({ nodeName, podMTUBytes: () => config.podInterfaceMTUBytes || felix.podMTUBytes }),
    pods: podSource(cache.pods, client),
    namespaces: namespaceSource(cache.namespaces, client),
    delegates: execPlugins(),
    podCIDRs: async () => (cache.nodes.get(nodeName) ?? (await client.get(NODES, nodeName))).spec?.podCIDRs ?? [],
    segments: new Set(),
    reservations: cache.reservationSource(),
    holders: {
      ...liveHolders(client),
      routed,
      takeAway: (held) => releaseHeld({ store, clock, random }, held),
    },
    endpoints: new EndpointBook(felix),
    locks: new KeyedLocks(),
    clock,
    log: cniLog,
    podStatus,
    ...(config.journalFileBytes > 0 && { journal }),
    datastoreAwaySinceMs: () => client.awaySinceMs(),
    // The collector tells of damaged ones.
    nodeBlocks: nodeBlocks(client, sources, nodeName, () => {}),
    releaseWaitMs: RELEASE_WAIT_MS,
  };

  // The records come first: Felix must know every pod that runs before it compares the kernel with what it wants.
  const live = await announce(cni);
  log.info({ endpoints: live, server: credentials.server.href }, "Starting");
  cache.affinities.onChange(({ type, old }) => {
    if (type === "deleted" && old.spec.node === nodeName) void allocator.restoreClaim(parseCIDR(old.spec.cidr));
  });
  cache.start();
  felix.start();
  foreign.start();
  if (plan !== undefined) {
    const problem = await settle(felix.health, clock);
    process.stdout.write(renderPlan(plan.changes, felix.findings()));
    if (problem !== undefined) process.stderr.write(`gingham-agent: the plan is not complete: ${problem}\n`);
    process.exit(problem === undefined ? 0 : 1);
  }
  tunnelAddresses.start();
  const listeners = [
    await settings.once(
      async ({ healthHost, healthPort }) => await serveHealth(felix.health, { host: healthHost, port: healthPort }),
    ),
    await settings.once(
      async ({ metricsHost, metricsPort }) =>
        await serveMetrics(
          metrics,
          { host: metricsHost, port: metricsPort },
          {
            read: async (ip) => renderHistory(nodeName, ip, await readAddressHistory(config.stateDir, ip)),
            isRemote: config.hasRemoteHistory,
          },
        ),
    ),
  ];
  const stop = new AbortController();
  // No pod is made before strangers are dropped; a node that cannot have the table says so, and makes pods.
  await packetFilter?.firstTry;
  const status = (): NodeReport => ({
    node: nodeName,
    pid: process.pid,
    startedMs,
    readiness: felix.health.readiness(),
    blocks: [...allocator.blockStatuses()].map(([cidr, { used, free, borrowed }]) => ({ cidr, used, free, borrowed })),
    ...felix.status(),
  });
  const server = await listenCNI({
    socketPath: config.socketPath,
    log: cniLog,
    status,
    execute: async (env, stdin, signal) => {
      using _call = podStatus.standAside();
      const startMs = clock.nowMs();
      const reply = await execute(cni, env, stdin, signal);
      metrics.cniRequest(env["CNI_COMMAND"] ?? "", reply.errorCode, clock.nowMs() - startMs);
      return reply;
    },
  });
  log.info({ socket: config.socketPath }, "Serving CNI");

  void sweep(cni)
    .catch((err: unknown) => cniLog.error({ err }, "The first sweep of attachments failed; it is tried again"))
    .then(() => sweepPeriodically(cni, SWEEP_INTERVAL_MS, stop.signal));
  void repairPeriodically({ cni, pods: knownPods(cache.pods), queue: podStatus, routed, random }, stop.signal);
  if (config.collect !== "off") {
    const onDamaged = (damaged: ReadonlyMap<string, string>): void => {
      metrics.damaged(damaged.keys());
      for (const [block, why] of damaged) ipamLog.warn({ block, why }, "A damaged block is left alone");
    };
    const collector = new NodeCollector({
      cni: { ...cni, log: ipamLog },
      blocks: nodeBlocks(client, sources, nodeName, onDamaged),
      routed,
      isDryRun: config.collect === "dry-run",
      onFreed: (addresses) => metrics.collected(addresses),
    });
    collector.run(stop.signal).catch((err: unknown) => ipamLog.error({ err }, "Collection ended"));
  }
  cache.allocationSynced
    .then(() => allocator.warmUp([4, 6]))
    .catch((err: unknown) => ipamLog.warn({ err }, "Blocks could not be read in advance; the first ADD does it"));
  void allocator.refreshPeriodically(stop.signal);
  const onHintError = (err: unknown): void =>
    kubeLog.warn({ err }, "Borrowed blocks are not announced; it is tried again");
  void publishBorrows({ client, clock, nodeName, nodes, borrowed, onError: onHintError }, stop.signal);

  const shutDown = async (signal: string): Promise<void> => {
    log.info({ signal }, "Stopping; pods, routes and the packet filter stay as they are");
    stop.abort();
    settings.stop();
    await Promise.all([server.close(), lock?.close()]);
    // The next agent knows nothing of what this one owes. A failure has been logged.
    await Promise.all([cni.conntrack.drain().catch(() => {}), podStatus.drain(POD_STATUS_WAIT_MS)]);
    await Promise.all([
      tunnelAddresses.stop(),
      felix.stop(),
      foreign.stop(),
      cache.stop(),
      ...listeners.map((listener) => listener.close()),
    ]);
    allocator.close();
    await Promise.all([kernel.close(), journal.close()]);
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void shutDown(signal));
}

main().catch((error: unknown) => {
  process.stderr.write(`gingham-agent: ${describeError(error)}\n`);
  process.exit(1);
});
