// SPDX-License-Identifier: Apache-2.0
import type { Conntrack } from "../cni/conntrack/ports.ts";
import type { PodWiring } from "../cni/ports.ts";
import type { TableChanges } from "../felix/nft/ports.ts";
import type { EchoPort } from "../felix/path-mtu/ports.ts";
import type { KernelRoute, PodLinks, RouteDataplane, RouteResult, TunnelDataplane } from "../felix/ports.ts";
import type { SelfTestPort } from "../felix/self-test/ports.ts";
import type { KernelWorkerError } from "./errors.ts";
import type { Kernel } from "./kernel.ts";
import { KernelClient, OnDemandClient } from "./kernel-client.ts";
import { identifyNetns } from "./netns.ts";
import { type BatchFailure, unpackError } from "./rpc.ts";

export interface KernelOptions {
  /** A worker died by itself. Its calls have been rejected; the process should end and restart into a resync. */
  readonly onFatal: (error: KernelWorkerError) => void;
  /** File of the worker's entry. @default src/main/kernel-worker.ts, or kernel-worker.mjs beside the bundle */
  readonly workerURL?: URL;
  /** After how long without work the deleting thread ends. Units: milliseconds. @default 10_000 */
  readonly deletionIdleMs?: number;
}

/**
 * Starts the kernel's two threads, in the network namespace of the calling one: netlink calls block and setns moves a
 * thread, so the main thread does neither. One wires and routes; the other deletes, links (which waits 20 ms and more in
 * the kernel) and tracked connections, and must not hold up an ADD; it is there only while there is something to delete.
 *
 * @throws KernelWorkerError when the first worker does not start; NetlinkError when it may not open its sockets
 */
export async function createKernel(options: KernelOptions): Promise<Kernel> {
  const url = options.workerURL ?? defaultWorkerURL();
  const main = new KernelClient("wiring", url, options.onFatal);
  const startDeletions = (): KernelClient => {
    const client = new KernelClient("deletion", url, options.onFatal);
    // Its calls reject, if it does not start.
    client.ready.catch(() => {});
    return client;
  };
  const deletions = new OnDemandClient(startDeletions, options.deletionIdleMs);
  const close = async (): Promise<void> => {
    await Promise.all([main.close(), deletions.close()]);
  };
  try {
    await main.ready;
  } catch (error) {
    await close();
    throw error;
  }
  const conntrack: Conntrack = { flush: (ips) => deletions.call("flushConntrack", ips) };
  const [routes, tunnels] = [routesOver(main), tunnelsOver(main)];
  const podLinks: PodLinks = {
    listChanged: (links) => main.call("listChangedSettings", links),
    write: async (settings) => errorsOf(settings.length, await main.call("writeSettings", settings)),
  };
  const tables: TableChanges = { watch: (onChange) => main.watch("tables", onChange) };
  // It deletes links, too.
  const echo: EchoPort = { echo: (to, packetBytes) => deletions.call("echo", to, packetBytes) };
  const selfTest: SelfTestPort = { exchange: (pair) => deletions.call("selfTest", pair) };
  return { wiring: wiringOver(main, deletions), routes, tunnels, podLinks, conntrack, tables, selfTest, echo, close };
}

function defaultWorkerURL(): URL {
  const isSource = import.meta.url.endsWith(".ts");
  return new URL(isSource ? "../main/kernel-worker.ts" : "./kernel-worker.mjs", import.meta.url);
}

function wiringOver(main: KernelClient, deletions: OnDemandClient): PodWiring {
  return {
    // Opens and looks at one file: a trip to the worker and back would cost many times that.
    identifyNetns: async (path) => identifyNetns(path),
    wire: (plan) => main.call("wire", plan),
    unwire: (link) => deletions.call("unwire", link),
    unwireFromNetns: (pod) => deletions.call("unwireFromNetns", pod),
    inspect: (query) => main.call("inspect", query),
  };
}

function routesOver(main: KernelClient): RouteDataplane {
  return {
    listRoutes: (family) => main.call("listRoutes", family),
    listLinks: () => main.call("listLinks"),
    listAddrs: () => main.call("listAddrs"),
    replaceRoutes: async (routes) => withErrors(routes, await main.call("replaceRoutes", routes)),
    deleteRoutes: async (routes) => withErrors(routes, await main.call("deleteRoutes", routes)),
    watch: (onChange) => main.watch("routes", onChange),
  };
}

/** With routes, so that Felix's own changes of either are told apart from others'. */
function tunnelsOver(main: KernelClient): TunnelDataplane {
  return {
    changeDevice: (change) => main.call("changeDevice", change),
    listEntries: (ifIndex) => main.call("listEntries", ifIndex),
    replaceEntries: async (entries) => errorsOf(entries.length, await main.call("replaceEntries", entries)),
    deleteEntries: async (entries) => errorsOf(entries.length, await main.call("deleteEntries", entries)),
  };
}

function withErrors(routes: readonly KernelRoute[], failures: readonly BatchFailure[]): readonly RouteResult[] {
  const errors = errorsOf(routes.length, failures);
  return routes.map((route, i) => ({ route, ...(errors[i] && { error: errors[i] }) }));
}

function errorsOf(count: number, failures: readonly BatchFailure[]): readonly (Error | undefined)[] {
  const errors = new Array<Error | undefined>(count).fill(undefined);
  for (const { index, error } of failures) errors[index] = unpackError(error);
  return errors;
}
