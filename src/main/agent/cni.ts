// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import type { NodeBlocks } from "../../cni/collect/node-blocks.ts";
import type { CNI } from "../../cni/commands/cni.ts";
import { ConntrackFlusher } from "../../cni/conntrack/flusher.ts";
import { EndpointBook } from "../../cni/endpoint-book.ts";
import { linuxHost } from "../../cni/host.ts";
import { httpGate } from "../../cni/http-gate.ts";
import { openJournal } from "../../cni/journal/node-journal.ts";
import { KeyedLocks } from "../../cni/locks.ts";
import { PodStatusQueue } from "../../cni/pod-status/queue.ts";
import { filePendingStore } from "../../cni/records/pending-store.ts";
import { fileRecordStore } from "../../cni/records/record-store.ts";
import { NODES } from "../../crds/core.ts";
import type { Felix } from "../../felix/felix.ts";
import { routedAddresses } from "../../felix/routed.ts";
import { releaseHeld } from "../../ipam/release-held.ts";
import { liveHolders } from "../../kube/holder-source.ts";
import { nodeBlocks } from "../../kube/node-blocks.ts";
import { namespaceSource, podSource } from "../../kube/pod-source.ts";
import { kubePodStatus } from "../../kube/pod-status.ts";
import { systemClock as clock, steadyClock } from "../../lib/system-clock.ts";
import type { Base } from "./base.ts";
import { hostPlugins } from "./conflist.ts";
import type { NodeIPAM } from "./ipam.ts";

const RELEASE_WAIT_MS = 5000;

/** What CNI calls work with, and what of it has to be drained and closed. */
export interface AgentCNI extends CNI {
  readonly podStatus: PodStatusQueue;
  readonly nodeBlocks: NodeBlocks;
  closeJournal(): Promise<void>;
}

export function makeCNI(base: Base, { store, sources, allocator }: NodeIPAM, felix: Felix): AgentCNI {
  const { nodeName, config, cluster, kernel, metrics } = base;
  const { client, cache } = cluster;
  const random = Math.random;
  const log = base.logs.of("cni");
  const journal = openJournal({
    stateDir: config.stateDir,
    maxBytes: config.journalFileBytes,
    clock,
    onError: (err) => log.warn({ err }, "The journal cannot be written; what happens now will not be in it"),
  });
  return {
    addresses: allocator,
    wiring: kernel.wiring,
    conntrack: new ConntrackFlusher({ conntrack: kernel.conntrack, clock, log }),
    records: fileRecordStore(join(config.stateDir, "attachments")),
    pending: filePendingStore(join(config.stateDir, "pending"), log),
    host: linuxHost({
      nodeName,
      podMTUBytes: () => config.podInterfaceMTUBytes || felix.podMTUBytes,
      ownAddresses: () => felix.ownAddresses,
    }),
    pods: podSource(cache.pods, client),
    namespaces: namespaceSource(cache.namespaces, client),
    delegates: hostPlugins(base),
    podCIDRs: async () => (cache.nodes.get(nodeName) ?? (await client.get(NODES, nodeName))).spec?.podCIDRs ?? [],
    segments: new Set(),
    reservations: cache.reservationSource(),
    holders: {
      ...liveHolders(client),
      routed: () => routedAddresses(kernel.routes),
      takeAway: (held) => releaseHeld({ store, clock, random }, held),
    },
    gate: httpGate,
    endpoints: new EndpointBook(felix),
    locks: new KeyedLocks(),
    clock,
    log,
    afterAnswer: setImmediate,
    podStatus: new PodStatusQueue({ store: kubePodStatus(client), clock: steadyClock, random, log, metrics }),
    ...(config.journalFileBytes > 0 && { journal }),
    closeJournal: () => journal.close(),
    datastoreAwaySinceMs: async () => {
      const sinceMs = await client.awaySinceMs();
      return sinceMs === undefined ? undefined : clock.nowMs() - (steadyClock.nowMs() - sinceMs);
    },
    // The collector tells of damaged ones.
    nodeBlocks: nodeBlocks(client, sources, nodeName, () => {}),
    releaseWaitMs: RELEASE_WAIT_MS,
  };
}
