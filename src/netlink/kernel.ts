// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import type { Conntrack } from "../cni/conntrack/ports.ts";
import type { PodWiring } from "../cni/ports.ts";
import type { TableChange, TableChanges } from "../felix/nft/ports.ts";
import { TABLE_NAME } from "../felix/nft/table.ts";
import type { EchoPort } from "../felix/path-mtu/ports.ts";
import type { PodLinks, RouteDataplane, TunnelDataplane } from "../felix/ports.ts";
import type { SelfTestPort } from "../felix/self-test/ports.ts";
import { Conn } from "./conn.ts";
import { NetlinkError } from "./errors.ts";
import { KernelConntrack } from "./ops/conntrack.ts";
import { KernelEcho } from "./ops/echo.ts";
import { KernelPodLinks } from "./ops/pod-links.ts";
import { KernelPodWiring } from "./ops/pod-wiring.ts";
import { KernelRouteDataplane } from "./ops/route-dataplane.ts";
import { KernelSelfTest } from "./ops/self-test.ts";
import { TableMonitor } from "./ops/table-monitor.ts";
import { KernelTunnelDataplane } from "./ops/tunnel-dataplane.ts";

/** Everything that the rest of the project asks of the kernel's network. */
export interface Kernel {
  readonly wiring: PodWiring;
  readonly routes: RouteDataplane;
  readonly tunnels: TunnelDataplane;
  readonly podLinks: PodLinks;
  readonly conntrack: Conntrack;
  /** Of the packet filter's table. */
  readonly tables: TableChanges;
  readonly selfTest: SelfTestPort;
  readonly echo: EchoPort;
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
  const wiring = new KernelPodWiring(wiringConn);
  return {
    wiring,
    routes,
    tunnels,
    podLinks: new KernelPodLinks(),
    conntrack,
    selfTest: new KernelSelfTest(wiring),
    echo: new KernelEcho(),
    tables: {
      watch: (onChange) => watchTable(onChange),
    },
    async close() {
      await conntrack.close();
      wiringConn.close();
      routes.close();
    },
  };
}

/** A kernel without netfilter has no table either, and `nft` says so. */
function watchTable(onChange: (change: TableChange) => void): () => void {
  try {
    const monitor = new TableMonitor({ table: TABLE_NAME, onChange });
    return () => monitor.close();
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === constants.errno.EPROTONOSUPPORT) return () => {};
    throw error;
  }
}
