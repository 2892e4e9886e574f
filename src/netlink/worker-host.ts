// SPDX-License-Identifier: Apache-2.0
import type { MessagePort } from "node:worker_threads";
import { createDirectKernel, type Kernel } from "./kernel.ts";
import { type BatchFailure, type Call, type Changes, type KernelCalls, packError, type WorkerMessage } from "./rpc.ts";

/** The worker's side: answers calls from the port until `close`. Tells `ready` when the sockets are open. */
export function serveKernel(port: MessagePort): void {
  const kernel = createDirectKernel();
  const post = (message: WorkerMessage): void => port.postMessage(message);
  const calls = kernelCalls(kernel, post);
  port.on("message", (call: Call) => {
    // Each method takes exactly what the client's method of the same name was typed to send.
    const method = calls[call.method] as (...args: readonly unknown[]) => Promise<unknown>;
    method(...call.args).then(
      (value) => {
        post({ kind: "result", id: call.id, value });
        if (call.method === "close") port.close();
      },
      (error: unknown) => post({ kind: "error", id: call.id, error: packError(error) }),
    );
  });
  post({ kind: "ready" });
}

function kernelCalls(kernel: Kernel, post: (message: WorkerMessage) => void): KernelCalls {
  const { wiring, routes, tunnels, podLinks, conntrack, tables, selfTest, echo } = kernel;
  const watches: { readonly [T in keyof Changes]: () => () => void } = {
    routes: () => routes.watch((change) => post({ kind: "change", topic: "routes", change })),
    tables: () => tables.watch((change) => post({ kind: "change", topic: "tables", change })),
  };
  const stops = new Map<keyof Changes, () => void>();
  return {
    identifyNetns: (path) => wiring.identifyNetns(path),
    wire: (plan) => wiring.wire(plan),
    unwire: (link) => wiring.unwire(link),
    unwireFromNetns: (pod) => wiring.unwireFromNetns(pod),
    inspect: (query) => wiring.inspect(query),
    flushConntrack: (ips) => conntrack.flush(ips),
    selfTest: (pair) => selfTest.exchange(pair),
    echo: (to, packetBytes) => echo.echo(to, packetBytes),
    listRoutes: (family) => routes.listRoutes(family),
    listLinks: () => routes.listLinks(),
    listAddrs: () => routes.listAddrs(),
    replaceRoutes: async (changes) => failuresOf((await routes.replaceRoutes(changes)).map(({ error }) => error)),
    deleteRoutes: async (changes) => failuresOf((await routes.deleteRoutes(changes)).map(({ error }) => error)),
    changeDevice: (change) => tunnels.changeDevice(change),
    listEntries: (ifIndex) => tunnels.listEntries(ifIndex),
    replaceEntries: async (entries) => failuresOf(await tunnels.replaceEntries(entries)),
    deleteEntries: async (entries) => failuresOf(await tunnels.deleteEntries(entries)),
    listChangedSettings: (links) => podLinks.listChanged(links),
    writeSettings: async (settings) => failuresOf(await podLinks.write(settings)),
    async watch(topic) {
      if (!stops.has(topic)) stops.set(topic, watches[topic]());
    },
    async unwatch(topic) {
      stops.get(topic)?.();
      stops.delete(topic);
    },
    close: () => kernel.close(),
  };
}

function failuresOf(errors: readonly (Error | undefined)[]): BatchFailure[] {
  return errors.flatMap((error, index) => (error === undefined ? [] : [{ index, error: packError(error) }]));
}
