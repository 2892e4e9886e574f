// SPDX-License-Identifier: Apache-2.0
import type { CIDR } from "../net/cidr.ts";
import type { Family, IP } from "../net/ip.ts";

/** A route of the main table in the terms that Felix compares. Two routes are the same key when family, dst and metric are. */
export interface KernelRoute {
  readonly dst: CIDR;
  readonly type: "unicast" | "blackhole";
  /** 0 is the kernel's default (IPv6 reads it back as 1024; the adapter hides that). */
  readonly metric: number;
  /** rtm_protocol. Ours is 80, see `ownership.ts`. */
  readonly protocol: number;
  /** Device by index; absent for blackholes. */
  readonly ifIndex?: number;
  readonly gateway?: IP;
  /** RTNH_F_ONLINK: the gateway is on the link whatever the addresses say. */
  readonly onlink: boolean;
  readonly scope: "universe" | "link";
}

export interface KernelLink {
  readonly ifIndex: number;
  readonly name: string;
  readonly up: boolean;
  readonly mtuBytes: number;
}

export interface KernelAddr {
  readonly ifIndex: number;
  readonly ip: IP;
  readonly prefixLength: number;
}

/** Outcome of one change of a batch; one bad route never stops the others. */
export interface RouteResult {
  readonly route: KernelRoute;
  readonly error?: Error;
}

/** One RTM_NEWROUTE (present) or RTM_DELROUTE (not present) of the main table, whoever caused it. */
export interface RouteEvent {
  readonly present: boolean;
  readonly route: KernelRoute;
}

/** What a kernel notification says. */
export interface KernelChange {
  readonly kind: "route" | "link" | "addr" | "overrun";
  /**
   * For `route`: what changed, in the kernel's order. Absent when the adapter does not tell; Felix then lists all
   * routes again, so an adapter that tells saves that work after each change (Felix's own ones included).
   */
  readonly routes?: readonly RouteEvent[];
  /**
   * For `link` and `addr`: the device that it happened to. It matters since the kernel drops the IPv4 routes of a link
   * that goes down, or loses its last address, without a word. Absent when the adapter does not tell; Felix then lists
   * all routes again.
   */
  readonly ifIndex?: number;
}

/** What Felix asks of the kernel. Implemented by `netlink/ops/route-dataplane`, in a worker thread. */
export interface RouteDataplane {
  /** All routes of the main table of one family, retried while the kernel says that the dump was interrupted. */
  listRoutes(family: Family): Promise<readonly KernelRoute[]>;
  listLinks(): Promise<readonly KernelLink[]>;
  listAddrs(): Promise<readonly KernelAddr[]>;
  /** Creates or replaces each route (NLM_F_CREATE | NLM_F_REPLACE). Shape: results in the order of the routes. */
  replaceRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]>;
  /** Deletes each route; one that is gone already is a success. Shape: results in the order of the routes. */
  deleteRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]>;
  /**
   * Calls back, soon after, when routes or links changed in the kernel; `overrun` when events were lost and only a
   * full resync helps. Returns how to stop.
   */
  watch(onChange: (change: KernelChange) => void): () => void;
}

/** A pod interface of this node: what the attachment records say. */
export interface WorkloadEndpoint {
  readonly hostIface: string;
  readonly hostIfIndex: number;
  readonly ips: readonly IP[];
}
