// SPDX-License-Identifier: Apache-2.0
import { cidrContains, formatCIDR, hostCIDR } from "../../net/cidr.ts";
import { parseIPv4 } from "../../net/ipv4.ts";
import { ROUTE_PROTOCOL } from "../ownership.ts";
import type { KernelRoute } from "../ports.ts";
import type { RouteSink } from "./route-manager.ts";

/** Every pod's IPv4 gateway. Nothing has this address: the host answers for it by proxy ARP. */
const POD_GATEWAY = parseIPv4("169.254.1.1");
/** Each namespace's lo has this index. Source: net/core/dev.c, LOOPBACK_IFINDEX. */
const LOOPBACK_INDEX = 1;

const ROUTE: KernelRoute = {
  dst: hostCIDR(POD_GATEWAY),
  type: "unicast",
  metric: 0,
  protocol: ROUTE_PROTOCOL,
  ifIndex: LOOPBACK_INDEX,
  onlink: false,
  scope: "link",
};

/**
 * Lets proxy ARP answer for the pods' gateway on a node without a default route.
 *
 * The kernel answers for an address only if it would forward to it (net/ipv4/arp.c, arp_process: a unicast route over
 * another device). Nearly every node has a default route, and needs nothing; on one without, an ADD would succeed and
 * its pod reach nobody. The route leads to lo, so nothing about the gateway ever leaves the node.
 *
 * @param foreign the routes of others in the main table
 */
export function wantGatewayRoute(foreign: Iterable<KernelRoute>, sink: RouteSink): void {
  const key = formatCIDR(ROUTE.dst);
  for (const { dst, type } of foreign) {
    if (type === "unicast" && cidrContains(dst, POD_GATEWAY)) {
      sink.drop(key);
      return;
    }
  }
  sink.want(key, ROUTE);
}
