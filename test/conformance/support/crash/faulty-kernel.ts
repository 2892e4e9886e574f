// SPDX-License-Identifier: Apache-2.0
import { type Kernel, createDirectKernel as realDirectKernel } from "../../../../src/netlink/kernel.ts";
import { type KernelOptions, createKernel as realKernel } from "../../../../src/netlink/worker.ts";
import { around } from "./points.ts";

/** The agent's kernel, with a fault point at each call that changes it. */
export async function createKernel(options: KernelOptions): Promise<Kernel> {
  return withPoints(await realKernel(options));
}

/** The standalone program's. */
export function createDirectKernel(): Kernel {
  return withPoints(realDirectKernel());
}

function withPoints(kernel: Kernel): Kernel {
  const { wiring, conntrack } = kernel;
  return {
    routes: kernel.routes,
    tunnels: kernel.tunnels,
    podLinks: kernel.podLinks,
    tables: kernel.tables,
    selfTest: kernel.selfTest,
    echo: kernel.echo,
    close: () => kernel.close(),
    conntrack: { flush: (ips) => around("flush conntrack", () => conntrack.flush(ips)) },
    wiring: {
      identifyNetns: (path) => wiring.identifyNetns(path),
      inspect: (query) => wiring.inspect(query),
      wire: (plan) => around("wire", () => wiring.wire(plan)),
      unwire: (link) => around("unwire", () => wiring.unwire(link)),
      unwireFromNetns: (pod) => around("unwire from netns", () => wiring.unwireFromNetns(pod)),
    },
  };
}
