// SPDX-License-Identifier: Apache-2.0
import { NodeCollector } from "../../cni/collect/collect.ts";
import { repairPeriodically } from "../../cni/pod-status/repair.ts";
import { sweep, sweepPeriodically, workOffPeriodically } from "../../cni/reconcile.ts";
import { routedAddresses } from "../../felix/routed.ts";
import { deleteOrphanHandle } from "../../ipam/release.ts";
import { publishBorrows } from "../../kube/borrow-hints.ts";
import { nodeBlocks } from "../../kube/node-blocks.ts";
import { registerNode } from "../../kube/own-node.ts";
import { knownPods } from "../../kube/pod-status.ts";
import { shrinkHeap } from "../../lib/heap.ts";
import { systemClock as clock } from "../../lib/system-clock.ts";
import type { Base } from "./base.ts";
import type { AgentCNI } from "./cni.ts";
import type { NodeIPAM } from "./ipam.ts";

const SWEEP_INTERVAL_MS = 20_000;
/** Nearly always a look at an empty folder. */
const PENDING_INTERVAL_MS = 1000;
/** When the lists of the start have become what is kept of them. */
const SHRINK_AFTER_MS = 10_000;

/** What the agent does unasked beside its routes, until the signal aborts. */
export function startUpkeep(
  base: Base,
  cni: AgentCNI,
  { allocator, sources, store }: NodeIPAM,
  signal: AbortSignal,
): void {
  const { nodeName, config, cluster, kernel, metrics, logs } = base;
  const { client, cache } = cluster;
  const log = logs.of("ipam");
  const routed = () => routedAddresses(kernel.routes);
  void sweep(cni)
    .catch((err: unknown) => cni.log.error({ err }, "The first sweep of attachments failed; it is tried again"))
    .then(() => sweepPeriodically(cni, SWEEP_INTERVAL_MS, signal));
  void workOffPeriodically(cni, PENDING_INTERVAL_MS, signal);
  const pods = knownPods(cache.pods);
  void repairPeriodically({ cni, pods, queue: cni.podStatus, routed, random: Math.random }, signal);
  if (config.collect !== "off") {
    const onDamaged = (damaged: ReadonlyMap<string, string>): void => {
      metrics.damaged(damaged.keys());
      for (const [block, why] of damaged) log.warn({ block, why }, "A damaged block is left alone");
    };
    const collector = new NodeCollector({
      cni: { ...cni, log },
      blocks: nodeBlocks(client, sources, nodeName, onDamaged),
      routed,
      isDryRun: config.collect === "dry-run",
      deleteHandle: (orphan) => deleteOrphanHandle({ store, clock, random: Math.random }, orphan),
      onFreed: (addresses) => metrics.collected(addresses),
      onHandlesDeleted: (handles) => metrics.collectedHandles(handles),
    });
    collector.run(signal).catch((err: unknown) => log.error({ err }, "Collection ended"));
  }
  if (config.registersNode) {
    const onRefused = (err: unknown): void =>
      log.warn({ err }, "This machine's Node cannot be made; it is tried again");
    void registerNode({ client, clock, random: Math.random, nodeName }, onRefused, signal);
  }
  clock.sleep(SHRINK_AFTER_MS, signal).then(shrinkHeap, () => {});
  cache.allocationSynced
    .then(() => allocator.warmUp([4, 6]))
    .catch((err: unknown) => log.warn({ err }, "Blocks could not be read in advance; the first ADD does it"));
  void allocator.refreshPeriodically(signal);
  const { nodes, borrowed } = cache;
  const onError = (err: unknown): void =>
    logs.of("kube").warn({ err }, "Borrowed blocks are not announced; it is tried again");
  void publishBorrows({ client, clock, nodeName, nodes, borrowed, onError }, signal);
}
