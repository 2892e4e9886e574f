// SPDX-License-Identifier: Apache-2.0
import { Counter, Gauge, Registry } from "prom-client";
import type { CollectionPlan } from "../ipam/gc/types.ts";
import { cidrFamily } from "../net/cidr.ts";
import { bitsOf } from "../net/ip.ts";
import type { CollectorSettings, Freed, PoolReport } from "./ports.ts";

/** The controller's metrics. */
export interface ControllerMetrics {
  census(plan: CollectionPlan, settings: CollectorSettings): void;
  freed(things: readonly Freed[]): void;
  pools(report: PoolReport): void;
  failed(): void;
  leads(isLeader: boolean): void;
  readonly contentType: string;
  /** Everything, in Prometheus' text format. */
  text(): Promise<string>;
}

/**
 * Names beginning with `ipam_` mean what they mean in Calico's kube-controllers, so that its dashboards go on working.
 *
 * Source: calico-interop 2.10.
 */
export function createControllerMetrics(): ControllerMetrics {
  const registry = new Registry();
  const registers = [registry];
  const gauge = (name: string, help: string, labelNames: readonly string[]): Gauge =>
    new Gauge({ name, help, labelNames, registers });
  const byPool = ["ippool", "node"];
  const poolSize = gauge("ipam_ippool_size", "Addresses of the pool", ["ippool"]);
  const poolReserved = gauge("ipam_ippool_reserved", "Addresses of the pool that IPReservations set aside", ["ippool"]);
  const problems = gauge("gingham_ippool_problems", "What is wrong with a pool, by its condition's reason", [
    "ippool",
    "reason",
  ]);
  const orphaned = gauge("gingham_ipam_orphaned_blocks", "Blocks with addresses in use that are in no pool", []);
  const inUse = gauge("ipam_allocations_in_use", "Addresses in use", byPool);
  const borrowed = gauge("ipam_allocations_borrowed", "Addresses in use out of another node's block", byPool);
  const blocks = gauge("ipam_blocks", "Blocks that the node owns", byPool);
  const candidates = gauge("ipam_allocations_gc_candidates", "Addresses that look leaked", byPool);
  const reclamations = new Counter({
    name: "ipam_allocations_gc_reclamations",
    help: "Leaked addresses that were freed",
    labelNames: byPool,
    registers,
  });
  const perNode = {
    inUse: gauge("ipam_allocations_per_node", "Addresses in use", ["node"]),
    borrowed: gauge("ipam_allocations_borrowed_per_node", "Addresses in use out of another node's block", ["node"]),
    blocks: gauge("ipam_blocks_per_node", "Blocks that the node owns", ["node"]),
  };
  const freed = new Counter({
    name: "gingham_collector_freed_total",
    help: "Things that were freed, by kind: address, handle, affinity, block, tombstone",
    labelNames: ["kind"],
    registers,
  });
  const damaged = gauge("gingham_collector_damaged_blocks", "Blocks that contradict themselves; see the log", []);
  const failures = new Counter({ name: "gingham_collector_failures_total", help: "Releases that failed", registers });
  const leader = gauge("gingham_controller_leader", "1 while this process leads", []);
  leader.set(0);
  for (const kind of [
    "address",
    "handle",
    "affinity",
    "block",
    "tombstone",
  ] as const satisfies readonly Freed["kind"][])
    freed.inc({ kind }, 0);

  return {
    census: ({ tallies, damaged: names }, { pools }) => {
      for (const one of [poolSize, inUse, borrowed, blocks, candidates, ...Object.values(perNode)]) one.reset();
      damaged.set(names.length);
      for (const { name, cidr } of pools)
        poolSize.set({ ippool: name }, 2 ** (bitsOf(cidrFamily(cidr)) - cidr.prefixLength));
      for (const tally of tallies) {
        const { node } = tally;
        const labels = { ippool: tally.pool, node };
        inUse.set(labels, tally.inUse);
        borrowed.set(labels, tally.borrowed);
        blocks.set(labels, tally.blocks);
        candidates.set(labels, tally.candidates);
        // So that increase() sees the first one.
        reclamations.inc(labels, 0);
        perNode.inUse.inc({ node }, tally.inUse);
        perNode.borrowed.inc({ node }, tally.borrowed);
        perNode.blocks.inc({ node }, tally.blocks);
      }
    },
    pools: ({ verdicts, orphans, reserved }) => {
      for (const one of [poolReserved, problems]) one.reset();
      for (const [ippool, addresses] of reserved) poolReserved.set({ ippool }, addresses);
      for (const { pool, problems: found } of verdicts)
        for (const { reason } of found) problems.set({ ippool: pool.name, reason }, 1);
      orphaned.set(orphans.reduce((sum, { blocks }) => sum + blocks.length, 0));
    },
    freed: (things) => {
      for (const { kind, node, pool } of things) {
        freed.inc({ kind });
        if (kind === "address") reclamations.inc({ ippool: pool, node });
      }
    },
    failed: () => failures.inc(),
    leads: (isLeader) => leader.set(isLeader ? 1 : 0),
    contentType: registry.contentType,
    text: async () => await registry.metrics(),
  };
}
