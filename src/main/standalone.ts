// SPDX-License-Identifier: Apache-2.0
// gingham-standalone: one CNI call in a process of its own, for machines without an agent. The launcher executes it when
// nobody listens on the agent's socket and the network configuration names a kubeconfig.
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { ConntrackFlusher } from "../cni/conntrack/flusher.ts";
import { execPlugins } from "../cni/delegation/exec-plugin.ts";
import { EndpointBook } from "../cni/endpoint-book.ts";
import { CNIError } from "../cni/errors.ts";
import type { Task } from "../cni/executor.ts";
import { linuxHost } from "../cni/host.ts";
import { httpGate } from "../cni/http-gate.ts";
import { openJournal } from "../cni/journal/node-journal.ts";
import { KeyedLocks } from "../cni/locks.ts";
import { PodStatusQueue } from "../cni/pod-status/queue.ts";
import type { Logger } from "../cni/ports.ts";
import { filePendingStore } from "../cni/records/pending-store.ts";
import { fileRecordStore } from "../cni/records/record-store.ts";
import { runOnce, type Standalone } from "../cni/standalone.ts";
import { NODES } from "../crds/core.ts";
import { routedAddresses } from "../felix/routed.ts";
import { createAllocator } from "../ipam/allocator/allocator.ts";
import { KubeStore, listedObjects } from "../ipam/kube-store.ts";
import { releaseHeld } from "../ipam/release-held.ts";
import { sourcesOf } from "../ipam/sources.ts";
import { HTTPKubeClient } from "../kube/client.ts";
import { liveHolders, reservationSource } from "../kube/holder-source.ts";
import { loadKubeConfig } from "../kube/kube-config.ts";
import { namespaceSource, podSource } from "../kube/pod-source.ts";
import { kubePodStatus } from "../kube/pod-status.ts";
import { describeError } from "../lib/errors.ts";
import { systemClock as clock } from "../lib/system-clock.ts";
import { createDirectKernel } from "../netlink/kernel.ts";

const RELEASE_WAIT_MS = 5000;
/** The caller waits for it, as it does with Calico's plugin, but no longer than this; a failure fails no call. */
const POD_STATUS_WAIT_MS = 1000;
const JOURNAL_FILE_BYTES = 2 ** 21;

/** Warnings and errors go to stderr, where the runtime logs them; stdout holds the answer and nothing else. */
function stderrLog(): Logger {
  const write = (level: string) => (fields: object, message: string) => {
    const { err, ...rest } = fields as { err?: unknown };
    const line = { level, component: "standalone", ...rest, ...(err !== undefined && { err: describeError(err) }) };
    process.stderr.write(`${JSON.stringify({ ...line, msg: message }, bigintText)}\n`);
  };
  return { debug: () => {}, info: () => {}, warn: write("warn"), error: write("error") };
}

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}

async function make({ kubeconfig, nodeName: confNodeName }: Task): Promise<Standalone> {
  if (kubeconfig === undefined) {
    const what = "No agent is running, and the network configuration names no kubernetes.kubeconfig";
    throw new CNIError("TryAgainLater", `${what}; start gingham-agent on this node, or name a kubeconfig`);
  }
  const nodeName = process.env["NODENAME"] || confNodeName || hostname().toLowerCase();
  const client = new HTTPKubeClient({
    credentials: await loadKubeConfig({ kubeconfigPath: kubeconfig }),
    userAgent: `gingham-standalone/${nodeName}`,
    clock,
  });
  const store = new KubeStore(client);
  const allocator = createAllocator({
    store,
    sources: sourcesOf(listedObjects(client, nodeName), nodeName),
    clock,
    random: Math.random,
    nodeName,
  });
  const kernel = createDirectKernel();
  const stateDir = process.env["GINGHAM_STATE_DIR"] || "/var/lib/gingham";
  const log = stderrLog();
  const conntrack = new ConntrackFlusher({ conntrack: kernel.conntrack, clock, log });
  const podStatus = new PodStatusQueue({ store: kubePodStatus(client), clock, random: Math.random, log });
  const onError = (err: unknown): void => log.warn({ err }, "The journal cannot be written");
  const journal = openJournal({ stateDir, maxBytes: JOURNAL_FILE_BYTES, clock, onError });
  return {
    cni: {
      addresses: allocator,
      wiring: kernel.wiring,
      conntrack,
      records: fileRecordStore(join(stateDir, "attachments")),
      pending: filePendingStore(join(stateDir, "pending"), log),
      host: linuxHost({ nodeName, podMTUBytes: () => 0 }),
      pods: podSource(undefined, client),
      namespaces: namespaceSource(undefined, client),
      delegates: execPlugins(),
      podCIDRs: async () => (await client.get(NODES, nodeName)).spec?.podCIDRs ?? [],
      reservations: reservationSource(client),
      holders: {
        ...liveHolders(client),
        routed: () => routedAddresses(kernel.routes),
        takeAway: (held) => releaseHeld({ store, clock, random: Math.random }, held),
      },
      gate: httpGate,
      endpoints: new EndpointBook({ endpointUp: () => {}, endpointDown: () => {} }),
      locks: new KeyedLocks(),
      clock,
      log,
      podStatus,
      journal,
      releaseWaitMs: RELEASE_WAIT_MS,
    },
    async [Symbol.asyncDispose]() {
      // Nobody is there later to do it. A failure has been logged.
      await Promise.all([conntrack.drain().catch(() => {}), podStatus.drain(POD_STATUS_WAIT_MS)]);
      allocator.close();
      await Promise.all([kernel.close(), journal.close()]);
      client.close();
    },
  };
}

async function main(): Promise<void> {
  const { stdout, exitCode } = await runOnce(make, process.env, readFileSync(0, "utf8"));
  process.stdout.write(stdout);
  process.exitCode = exitCode;
}

main().catch((error: unknown) => {
  process.stderr.write(`gingham-standalone: ${describeError(error)}\n`);
  process.exitCode = 1;
});
