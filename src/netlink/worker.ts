// SPDX-License-Identifier: Apache-2.0
import { Worker } from "node:worker_threads";
import type { Conntrack } from "../cni/conntrack/ports.ts";
import type { PodWiring } from "../cni/ports.ts";
import type { TableChanges } from "../felix/nft/ports.ts";
import type { KernelRoute, RouteDataplane, RouteResult, TunnelDataplane } from "../felix/ports.ts";
import type { SelfTestPort } from "../felix/self-test/ports.ts";
import { KernelWorkerError } from "./errors.ts";
import type { Kernel } from "./kernel.ts";
import { identifyNetns } from "./netns.ts";
import {
  type BatchFailure,
  type Call,
  type Changes,
  type KernelCalls,
  unpackError,
  type WorkerMessage,
} from "./rpc.ts";

export interface KernelOptions {
  /** A worker died by itself. Its calls have been rejected; the process should end and restart into a resync. */
  readonly onFatal: (error: KernelWorkerError) => void;
  /** File of the worker's entry. @default src/main/kernel-worker.ts, or kernel-worker.mjs beside the bundle */
  readonly workerURL?: URL;
}

/**
 * Starts the kernel's two threads, in the network namespace of the calling one: netlink calls block and setns moves a
 * thread, so the main thread does neither. One wires and routes; the other deletes, links (which waits 20 ms and more in
 * the kernel) and tracked connections, and must not hold up an ADD.
 *
 * @throws KernelWorkerError when a worker does not start; NetlinkError when it may not open its sockets
 */
export async function createKernel(options: KernelOptions): Promise<Kernel> {
  const url = options.workerURL ?? defaultWorkerURL();
  const [main, deletions] = [
    new KernelClient("wiring", url, options.onFatal),
    new KernelClient("deletion", url, options.onFatal),
  ];
  const close = async (): Promise<void> => {
    await Promise.all([main.close(), deletions.close()]);
  };
  try {
    await Promise.all([main.ready, deletions.ready]);
  } catch (error) {
    await close();
    throw error;
  }
  const conntrack: Conntrack = { flush: (ips) => deletions.call("flushConntrack", ips) };
  const [routes, tunnels] = [routesOver(main), tunnelsOver(main)];
  const tables: TableChanges = { watch: (onChange) => main.watch("tables", onChange) };
  // It deletes links, too.
  const selfTest: SelfTestPort = { exchange: (pair) => deletions.call("selfTest", pair) };
  return { wiring: wiringOver(main, deletions), routes, tunnels, conntrack, tables, selfTest, close };
}

function defaultWorkerURL(): URL {
  const isSource = import.meta.url.endsWith(".ts");
  return new URL(isSource ? "../main/kernel-worker.ts" : "./kernel-worker.mjs", import.meta.url);
}

function wiringOver(main: KernelClient, deletions: KernelClient): PodWiring {
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

interface Pending {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

/** The main thread's side of one worker. After it died or was closed, every call rejects. */
class KernelClient {
  readonly ready: Promise<void>;
  readonly #name: string;
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners: { readonly [T in keyof Changes]: Set<(change: Changes[T]) => void> } = {
    routes: new Set(),
    tables: new Set(),
  };
  readonly #onFatal: (error: KernelWorkerError) => void;
  readonly #started = Promise.withResolvers<void>();
  #nextID = 1;
  #isReady = false;
  #isClosing = false;
  #ended: Error | undefined;

  constructor(name: string, url: URL, onFatal: (error: KernelWorkerError) => void) {
    this.#name = name;
    this.#onFatal = onFatal;
    this.ready = this.#started.promise;
    this.#worker = new Worker(url, { name: `gingham-${name}`, trackUnmanagedFds: false });
    this.#worker.on("message", (message: WorkerMessage) => this.#onMessage(message));
    this.#worker.on("error", (cause) => this.#end("failed", cause));
    this.#worker.on("messageerror", (cause) => this.#end("sent what cannot be read", cause));
    this.#worker.on("exit", (code) => this.#end(`exited with code ${code}`));
  }

  call<M extends keyof KernelCalls>(method: M, ...args: Parameters<KernelCalls[M]>): ReturnType<KernelCalls[M]> {
    const { promise, resolve, reject } = Promise.withResolvers<never>();
    if (this.#ended !== undefined) reject(this.#ended);
    else {
      const id = this.#nextID++;
      this.#pending.set(id, { resolve, reject });
      const call: Call = { id, method, args };
      this.#worker.postMessage(call);
    }
    return promise as ReturnType<KernelCalls[M]>; // The worker runs the method of the same name.
  }

  watch<T extends keyof Changes>(topic: T, onChange: (change: Changes[T]) => void): () => void {
    const listeners = this.#listeners[topic];
    const listener = (change: Changes[T]): void => onChange(change);
    listeners.add(listener);
    // Whoever listens must not believe that nothing changes when nobody watches.
    if (listeners.size === 1) this.call("watch", topic).catch((error: unknown) => this.#end("cannot watch", error));
    return () => {
      if (listeners.delete(listener) && listeners.size === 0) this.call("unwatch", topic).catch(() => {});
    };
  }

  /** Lets the calls under way finish. */
  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    if (this.#isReady) await this.call("close").catch(() => {});
    await this.#worker.terminate();
  }

  #onMessage(message: WorkerMessage): void {
    switch (message.kind) {
      case "ready":
        this.#isReady = true;
        this.#started.resolve();
        return;
      case "result":
        this.#take(message.id)?.resolve(message.value as never); // See call().
        return;
      case "error":
        this.#take(message.id)?.reject(unpackError(message.error));
        return;
      case "change":
        this.#tell(message);
        return;
      default:
        message satisfies never;
    }
  }

  #tell(message: Extract<WorkerMessage, { readonly kind: "change" }>): void {
    if (message.topic === "routes") for (const listener of this.#listeners.routes) listener(message.change);
    else for (const listener of this.#listeners.tables) listener(message.change);
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  #end(how: string, cause?: unknown): void {
    if (this.#ended !== undefined) return;
    const ended = new KernelWorkerError(`Kernel worker ${this.#name} ${this.#isClosing ? "was closed" : how}`, {
      cause,
    });
    this.#ended = ended;
    for (const { reject } of this.#pending.values()) reject(ended);
    this.#pending.clear();
    this.#started.reject(ended);
    if (this.#isReady && !this.#isClosing) this.#onFatal(ended);
  }
}
