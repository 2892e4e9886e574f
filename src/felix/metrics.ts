// SPDX-License-Identifier: Apache-2.0
import { Counter, Gauge, Histogram, Registry, Summary } from "prom-client";
import { CNI_CODE } from "../cni/errors.ts";
import type { PodStatusMetrics, PodStatusOutcome } from "../cni/pod-status/ports.ts";
import { COUNTERS } from "./nft/layout.ts";
import type { PacketFilterMetrics } from "./nft/ports.ts";
import type { FelixMetrics, Health, HealthReport } from "./ports.ts";

/** All of the agent's metrics. Felix gets `felix`; the CNI server and the allocator call the other methods. */
export interface AgentMetrics extends PodStatusMetrics {
  readonly felix: FelixMetrics;
  readonly packetFilter: PacketFilterMetrics;
  /** One CNI request. `code` is the CNI error's number, 0 for success. Units: milliseconds. */
  cniRequest(command: string, code: number, durationMs: number): void;
  /** Addresses of this node that were freed, since neither a record nor a pod has them. */
  collected(addresses: number): void;
  /** Handles without addresses that the collector deleted. */
  collectedHandles(handles: number): void;
  /** Whose readiness is told, check by check, whenever somebody reads the metrics. */
  followReadiness(health: Pick<Health, "readiness">): void;
  /** Blocks of this node that are left alone because they are damaged, by name: all of them, each time. */
  damaged(blocks: Iterable<string>): void;
  readonly contentType: string;
  /** Everything, in Prometheus' text format. */
  text(): Promise<string>;
}

/** Source: CNI SPEC 1.1.0, Section 2. */
const COMMANDS: readonly string[] = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];

/** All results, as keys, so that none is forgotten. */
const POD_STATUS_RESULTS: Readonly<Record<PodStatusOutcome, true>> = {
  written: true,
  unneeded: true,
  failed: true,
  forbidden: true,
  dropped: true,
};

const CHANGES = ["updated", "deleted", "failed"] as const;

/** Calico's code for the state of the datastore connection. Source: felix_resync_state: 1 wait, 2 resync, 3 in sync. */
const RESYNC_STATE = { resync: 2, inSync: 3 } as const;

/**
 * Makes the metrics in a registry of their own. Names beginning with `felix_` mean what they mean in Calico, so
 * that its dashboards go on working; the others begin with `gingham_`. What is counted by label begins at 0 for each known
 * value: Prometheus sees no step from nothing to 1, so `increase()` would miss the first failure.
 *
 * Source: calico-interop 4.8.
 */
export function createMetrics(nodeName: string): AgentMetrics {
  const registry = new Registry();
  const registers = [registry];
  new Gauge({ name: "felix_host", help: "Name of this node, with value 1", labelNames: ["host"], registers }).set(
    { host: nodeName },
    1,
  );
  new Gauge({
    name: "process_resident_memory_bytes",
    help: "Resident memory of the agent, in bytes",
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  const cniRequests = new Counter({
    name: "gingham_cni_requests_total",
    help: "CNI requests by command and CNI error code (0: success)",
    labelNames: ["command", "code"],
    registers,
  });
  const cniDuration = new Histogram({
    name: "gingham_cni_duration_seconds",
    help: "Duration of CNI requests, in seconds",
    labelNames: ["command"],
    buckets: [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30],
    registers,
  });
  for (const command of ["ADD", "DEL"])
    for (const code of [0, ...Object.values(CNI_CODE)]) cniRequests.inc({ command, code: String(code) }, 0);
  const collected = new Counter({
    name: "gingham_ipam_collected_total",
    help: "Leaked addresses of this node that its agent freed",
    registers,
  });
  const collectedHandles = new Counter({
    name: "gingham_ipam_collected_handles_total",
    help: "Handles of this node without addresses that its agent deleted",
    registers,
  });
  const damaged = new Gauge({
    name: "gingham_ipam_damaged_blocks",
    help: "Blocks of this node that are left alone because they contradict themselves or cannot be read, each with value 1",
    labelNames: ["block"],
    registers,
  });
  let readiness: () => HealthReport["checks"] = () => ({});
  new Gauge({
    name: "gingham_ready",
    help: "1 for each check of the agent's readiness that is passed, 0 for one that fails",
    labelNames: ["check"],
    registers,
    collect() {
      this.reset();
      for (const [check, { ok }] of Object.entries(readiness())) this.set({ check }, ok ? 1 : 0);
    },
  });
  const podStatus = new Counter({
    name: "gingham_pod_status_writes_total",
    help: "Writes of pods' annotations by result: written, unneeded, failed, forbidden, dropped",
    labelNames: ["result"],
    registers,
  });
  for (const result of Object.keys(POD_STATUS_RESULTS)) podStatus.inc({ result }, 0);
  const podStatusWaiting = new Gauge({
    name: "gingham_pod_status_waiting",
    help: "Pods of this node whose annotations are still to be written",
    registers,
  });
  return {
    felix: createFelixMetrics(registry),
    packetFilter: createPacketFilterMetrics(registry),
    cniRequest: (given, code, durationMs) => {
      // Whatever stands in CNI_COMMAND must not make new series.
      const command = COMMANDS.includes(given) ? given : "other";
      cniRequests.inc({ command, code: String(code) });
      cniDuration.observe({ command }, durationMs / 1000);
    },
    collected: (addresses) => collected.inc(addresses),
    collectedHandles: (handles) => collectedHandles.inc(handles),
    followReadiness: (health) => {
      readiness = () => health.readiness().checks;
    },
    damaged: (blocks) => {
      damaged.reset();
      for (const block of blocks) damaged.set({ block }, 1);
    },
    podStatus: (result) => podStatus.inc({ result }),
    podStatusWaiting: (pods) => podStatusWaiting.set(pods),
    contentType: registry.contentType,
    text: async () => await registry.metrics(),
  };
}

function createPacketFilterMetrics(registry: Registry): PacketFilterMetrics {
  const registers = [registry];
  const counter = (name: string, help: string): Counter => new Counter({ name, help, registers });
  const calls = counter("felix_nft_calls", "Times that the table in nftables was read or written");
  const errors = counter("felix_nft_errors", "Times that nft could not do what it was asked for");
  const repairs = counter(
    "gingham_nft_repairs_total",
    "Things in the table that others had changed, and that were restored",
  );
  const dropped = new Counter({
    name: "gingham_dropped_packets_total",
    help: "Packets that the table dropped, by its counter; read when the table is",
    labelNames: ["counter"],
    registers,
  });
  for (const name of Object.values(COUNTERS)) dropped.inc({ counter: name }, 0);
  return {
    filterTurn: (ok) => {
      calls.inc();
      if (!ok) errors.inc();
    },
    filterRepaired: (count) => repairs.inc(count),
    filterDropped: (name, packets) => dropped.inc({ counter: name }, packets),
  };
}

function createFelixMetrics(registry: Registry): FelixMetrics {
  const registers = [registry];
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers });
  const counter = (name: string, help: string): Counter => new Counter({ name, help, registers });
  const summary = (name: string, help: string): Summary =>
    new Summary({ name, help, percentiles: [0.5, 0.9, 0.99], maxAgeSeconds: 600, ageBuckets: 5, registers });

  const routes = gauge("felix_route_table_num_routes", "Routes of this agent in the kernel");
  const resyncSeconds = summary("felix_route_table_resync_seconds", "Time to list and compare all routes, in seconds");
  const applySeconds = summary("felix_int_dataplane_apply_time_seconds", "Time of one dataplane update, in seconds");
  const failures = counter("felix_int_dataplane_failures", "Dataplane updates that failed and are retried");
  const resyncsStarted = counter("felix_resyncs_started", "Times that the datastore was read from the beginning");
  const resyncState = gauge("felix_resync_state", "1: waiting for the datastore, 2: reading it, 3: in sync");
  const hosts = gauge("felix_cluster_num_hosts", "Nodes of the cluster");
  const endpoints = gauge("felix_active_local_endpoints", "Pod interfaces of this node");
  const pending = gauge("gingham_routes_pending", "Desired routes that the kernel does not have");
  const restored = counter("gingham_routes_restored_total", "Routes restored after others removed or changed them");
  const replaced = counter("gingham_routes_replaced_total", "Routes of others that a desired one took the place of");
  const changes = new Counter({
    name: "gingham_route_changes_total",
    help: "Changes of routes by operation: updated, deleted, failed",
    labelNames: ["op"],
    registers,
  });
  const settingsRestored = counter(
    "gingham_link_settings_restored_total",
    "Settings of pods' links restored after others changed them",
  );
  const tunnelEntries = gauge("gingham_tunnel_entries", "Neighbours and forwarding entries of the VXLAN devices");
  const tunnelsRestored = counter(
    "gingham_tunnels_restored_total",
    "VXLAN devices and entries restored after others removed or changed them",
  );
  const tunnelChanges = new Counter({
    name: "gingham_tunnel_changes_total",
    help: "Changes of VXLAN devices and their entries by operation: updated, deleted, failed",
    labelNames: ["op"],
    registers,
  });
  const podMTU = gauge("gingham_pod_mtu_bytes", "MTU that new pods get");
  const findings = new Gauge({
    name: "gingham_findings",
    help: "Things that a person should look at, by code; see the log",
    labelNames: ["code"],
    registers,
  });
  resyncState.set(RESYNC_STATE.resync);
  for (const op of CHANGES) for (const counted of [changes, tunnelChanges]) counted.inc({ op }, 0);

  return {
    datastoreResyncStarted: () => resyncsStarted.inc(),
    turn: (report) => {
      applySeconds.observe(report.durationMs / 1000);
      if (report.resyncMs !== undefined) resyncSeconds.observe(report.resyncMs / 1000);
      for (const op of CHANGES) changes.inc({ op }, report[op]);
      restored.inc(report.restored);
      replaced.inc(report.replacedForeign);
      const { tunnels } = report;
      if (tunnels !== undefined) {
        for (const op of CHANGES) tunnelChanges.inc({ op }, tunnels[op]);
        tunnelsRestored.inc(tunnels.restored.length);
      }
      if (report.failed + (tunnels?.failed ?? 0) > 0) failures.inc();
    },
    settingsRestored: (count) => settingsRestored.inc(count),
    turnFailed: () => failures.inc(),
    gauges: (now) => {
      routes.set(now.routes);
      pending.set(now.pendingRoutes);
      tunnelEntries.set(now.tunnelEntries);
      podMTU.set(now.podMTUBytes);
      hosts.set(now.hosts);
      endpoints.set(now.localEndpoints);
      resyncState.set(now.isInSync ? RESYNC_STATE.inSync : RESYNC_STATE.resync);
      findings.reset();
      for (const [code, count] of now.findings) findings.set({ code }, count);
    },
  };
}
