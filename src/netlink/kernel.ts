// SPDX-License-Identifier: Apache-2.0
import type { Conntrack } from "../cni/conntrack/ports.ts";
import type { PodWiring } from "../cni/ports.ts";
import type { RouteDataplane, TunnelDataplane } from "../felix/ports.ts";
import { Conn } from "./conn.ts";
import { KernelConntrack } from "./ops/conntrack.ts";
import { KernelPodWiring } from "./ops/pod-wiring.ts";
import { KernelRouteDataplane } from "./ops/route-dataplane.ts";
import { KernelTunnelDataplane } from "./ops/tunnel-dataplane.ts";

/** Everything that the rest of the project asks of the kernel's network. */
export interface Kernel {
  readonly wiring: PodWiring;
  readonly routes: RouteDataplane;
  readonly tunnels: TunnelDataplane;
  readonly conntrack: Conntrack;
  close(): Promise<void>;
}

/**
 * The kernel from the calling thread, in the namespace that the thread is in: for the standalone plugin, for tests, and
 * inside the agent's workers. Every call blocks the thread while the kernel works.
 *
 * @throws NetlinkError
 */
export function createDirectKernel(): Kernel {
  const wiringConn = Conn.open();
  const felixConn = Conn.open();
  const tunnels = new KernelTunnelDataplane(felixConn);
  const routes = new KernelRouteDataplane(felixConn, { wiringPortID: wiringConn.portID, tunnels: tunnels.watched });
  const conntrack = new KernelConntrack(wiringConn);
  return {
    wiring: new KernelPodWiring(wiringConn),
    routes,
    tunnels,
    conntrack,
    async close() {
      await conntrack.close();
      wiringConn.close();
      routes.close();
    },
  };
}
