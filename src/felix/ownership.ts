// SPDX-License-Identifier: Apache-2.0
import { cidrSize } from "../net/cidr.ts";
import type { Family } from "../net/ip.ts";
import type { KernelRoute } from "./ports.ts";

/**
 * How an agent that remembers nothing knows what in the kernel is its own. One test for each kind of object; an object
 * that fails it is never deleted.
 */

/** rtm_protocol of every route that Gingham writes. It shows as `proto 80`. Never change it. */
export const ROUTE_PROTOCOL = 80;

/** Beginning of the name of every pod interface on the host. Never change it. */
export const WORKLOAD_IFACE_PREFIX = "cali";

/**
 * The VXLAN device by family of the pods. All permanent neighbours and forwarding entries on it are ours, and its only
 * address of global scope is the tunnel address. Calico's names: a node that moves to Gingham keeps its device, and
 * tools look for them. Source: calico-interop 4.4.
 */
export const VXLAN_DEVICES: Readonly<Record<Family, string>> = { 4: "vxlan.calico", 6: "vxlan-v6.calico" };

/**
 * The IP-in-IP device, of IPv4. It comes with the kernel's module and cannot be deleted, and other programs use it, too (IPVS
 * by tunnelling): ours are the addresses on it that are in an IPPool or that this process has put there, nothing else.
 * Calico's name, too. Source: calico-interop 4.4.
 */
export const IPIP_DEVICE = "tunl0";

/**
 * Whose a route of the main table is. `workload`: ours, to a pod; `cluster`: ours, to a block; `foreign`: not ours.
 *
 * The protocol alone decides what is ours, so a route that the kernel, Calico (protocol 3) or an administrator put on a
 * `cali` link is left alone. The link decides which of ours may belong to an ADD that is still under way: those get
 * a grace before they are removed as unknown. So a link that is not in the list yet counts as a pod's.
 *
 * @param linkName the name of a link by its index; undefined when it is not known
 */
export function ownerOfRoute(
  route: KernelRoute,
  linkName: (ifIndex: number) => string | undefined,
): "workload" | "cluster" | "foreign" {
  if (route.protocol !== ROUTE_PROTOCOL) return "foreign";
  if (route.type === "blackhole" || route.ifIndex === undefined) return "cluster";
  return (linkName(route.ifIndex) ?? WORKLOAD_IFACE_PREFIX).startsWith(WORKLOAD_IFACE_PREFIX) ? "workload" : "cluster";
}

/** Whether this may be the route of an address that another node has borrowed; its tunnel address needs no gateway. */
export function isBehindNode(
  { dst, gateway, ifIndex }: KernelRoute,
  linkName: (ifIndex: number) => string | undefined,
): boolean {
  const devices: readonly (string | undefined)[] = Object.values(VXLAN_DEVICES);
  return (
    cidrSize(dst) === 1 && (gateway !== undefined || (ifIndex !== undefined && devices.includes(linkName(ifIndex))))
  );
}
