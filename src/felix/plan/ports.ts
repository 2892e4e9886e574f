// SPDX-License-Identifier: Apache-2.0
import type { Family } from "../../net/ip.ts";
import type { PacketFilterPort } from "../nft/ports.ts";
import type { NodeStatusPort, PodLinks, RouteDataplane, TunnelDataplane } from "../ports.ts";

/** Everything by which Felix changes the world. */
export interface DriverPorts {
  readonly routes: RouteDataplane;
  readonly tunnels: TunnelDataplane;
  readonly podLinks: PodLinks;
  readonly filter: PacketFilterPort;
  readonly node: NodeStatusPort;
  readonly enableForwarding: (families: readonly Family[]) => void;
}

/** Where in the kernel, or elsewhere, a change would be. */
export type PlannedArea = "link" | "address" | "route" | "neighbour" | "nft" | "sysctl" | "node";

/** A change that was asked for and not made. */
export interface PlannedChange {
  readonly area: PlannedArea;
  /** In the words of `ip`, `bridge`, `nft` and `sysctl`, one line or several. */
  readonly text: string;
}
