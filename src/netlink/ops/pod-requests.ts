// SPDX-License-Identifier: Apache-2.0

import { isPrimary } from "../../cni/plan.ts";
import type { WiringPlan } from "../../cni/ports.ts";
import { ROUTE_PROTOCOL } from "../../felix/ownership.ts";
import { cidrFamily, hostCIDR } from "../../net/cidr.ts";
import { bitsOf, type Family, familyOf, type IP } from "../../net/ip.ts";
import { type IPv4, parseIPv4 } from "../../net/ipv4.ts";
import { type IPv6, parseIPv6 } from "../../net/ipv6.ts";
import { type MAC, parseMAC } from "../../net/mac.ts";
import type { Request } from "../conn.ts";
import { AF_UNSPEC, IFA_F_NODAD, RT_SCOPE_LINK } from "../wire/constants.ts";
import type { IfInfo } from "../wire/ifinfo.ts";
import { replaceAddr } from "./addr.ts";
import { getLink, newLink, setLinkUp } from "./link.ts";
import { addRoute, replaceRoute } from "./route.ts";

/** What every pod sees as its gateway, on every node. Nothing has this address: the host answers by proxy ARP. */
export const POD_GATEWAY: IPv4 = parseIPv4("169.254.1.1");
/** The host end's address, as Calico has it on every workload interface. */
export const HOST_MAC: MAC = parseMAC("ee:ee:ee:ee:ee:ee");
/** The link-local address that follows from that MAC (RFC 4291 appendix A): the IPv6 gateway of every pod. */
export const HOST_LINK_LOCAL: IPv6 = parseIPv6("fe80::ecee:eeff:feee:eeee");
/** Source: net/ipv6.h, IP6_RT_PRIO_USER. */
const IPV6_DEFAULT_METRIC = 1024;
/** Each namespace's lo has this index. Source: linux/net.h, LOOPBACK_IFINDEX. */
const LOOPBACK_INDEX = 1;

/** One file under /proc/sys/net and its value. */
export type Sysctl = readonly [path: readonly string[], value: 0 | 1];

export function hasFamily(plan: Pick<WiringPlan, "ips">, family: Family): boolean {
  return plan.ips.some((ip) => familyOf(ip) === family);
}

/**
 * The pair in one message: the pod's end is born in its namespace under its final name, so nothing is ever moved or
 * renamed. Neither end is up yet, since the kernel refuses to raise half a pair (ENOTCONN).
 */
export function pairRequests(plan: WiringPlan, netnsFD: number): Request[] {
  const mtu = plan.mtuBytes > 0 ? { mtu: plan.mtuBytes } : {};
  const queues = plan.queues === undefined ? {} : { txQueues: plan.queues, rxQueues: plan.queues };
  const peer: IfInfo = {
    family: AF_UNSPEC,
    hardwareType: 0,
    index: 0,
    flags: 0,
    change: 0,
    name: plan.contIface,
    netnsFD,
    ...mtu,
    ...queues,
    ...(plan.contMAC === undefined ? {} : { address: plan.contMAC }),
  };
  const pair = newLink({ name: plan.hostIface, address: HOST_MAC, ...mtu, ...queues, info: { kind: "veth", peer } });
  return [pair, getLink({ name: plan.hostIface })];
}

/** Raises the host's end and routes each pod address to it. The gateway's address comes before anybody asks for it. */
export function hostRequests(plan: WiringPlan, hostIndex: number): Request[] {
  const routes = plan.ips.map((ip) =>
    replaceRoute({ dst: hostCIDR(ip), oif: hostIndex, scope: scopeOf(ip), protocol: ROUTE_PROTOCOL }),
  );
  const linkLocal = hasFamily(plan, 6)
    ? [
        replaceAddr({
          index: hostIndex,
          ip: HOST_LINK_LOCAL,
          prefixLength: 64,
          flags: IFA_F_NODAD,
          scope: RT_SCOPE_LINK,
        }),
      ]
    : [];
  return [setLinkUp(hostIndex), ...linkLocal, ...routes];
}

/**
 * The pod's side, in the order in which each step needs the one before. The last answers with the finished link.
 *
 * Every interface has the same gateway and default routes. The primary one's have the kernel's own metric; those of the
 * others a larger one, each its own, so that none is in another's way: two IPv6 routes of one metric would become one
 * with two next hops.
 */
export function podRequests(plan: WiringPlan, contIndex: number): Request[] {
  const addrs = plan.ips.map((ip) =>
    replaceAddr({
      index: contIndex,
      ip,
      prefixLength: bitsOf(familyOf(ip)),
      flags: familyOf(ip) === 6 ? IFA_F_NODAD : 0,
    }),
  );
  const metric = isPrimary(plan) ? {} : { priority: IPV6_DEFAULT_METRIC + contIndex };
  const gatewayRoute = hasFamily(plan, 4)
    ? [addRoute({ dst: hostCIDR(POD_GATEWAY), oif: contIndex, scope: RT_SCOPE_LINK, ...metric })]
    : [];
  const routes = plan.routes
    .filter((dst) => hasFamily(plan, cidrFamily(dst)))
    .map((dst) =>
      addRoute({ dst, oif: contIndex, gateway: cidrFamily(dst) === 4 ? POD_GATEWAY : HOST_LINK_LOCAL, ...metric }),
    );
  return [
    setLinkUp(LOOPBACK_INDEX),
    ...addrs,
    setLinkUp(contIndex),
    ...gatewayRoute,
    ...routes,
    getLink({ index: contIndex }),
  ];
}

/**
 * The host end's settings, all before it is up: proxy ARP and NDP without the kernel's random delay answer for the
 * gateway, and duplicate address detection would cost the pod its first second.
 *
 * Source: calico-interop.md 3.8.
 */
export function hostSysctls(plan: Pick<WiringPlan, "hostIface" | "ips">, hostHasIPv6: boolean): Sysctl[] {
  const { hostIface: name } = plan;
  const v4: Sysctl[] = [
    [["ipv4", "conf", name, "route_localnet"], 1],
    [["ipv4", "neigh", name, "proxy_delay"], 0],
    [["ipv4", "conf", name, "proxy_arp"], 1],
    [["ipv4", "conf", name, "forwarding"], 1],
  ];
  const v6: Sysctl[] = [
    [["ipv6", "conf", name, "accept_dad"], 0],
    [["ipv6", "conf", name, "disable_ipv6"], 0],
    [["ipv6", "conf", name, "proxy_ndp"], 1],
    [["ipv6", "conf", name, "forwarding"], 1],
  ];
  return [
    ...(hasFamily(plan, 4) ? v4 : []),
    ...(hasFamily(plan, 6) ? v6 : []),
    // A pod must not advertise itself as the host's router, whatever families it has.
    ...(hostHasIPv6 ? [[["ipv6", "conf", name, "accept_ra"], 0] satisfies Sysctl] : []),
  ];
}

/** The pod's settings. `all/disable_ipv6` reaches every interface of the namespace, and the default, by itself. */
export function podSysctls(plan: WiringPlan): Sysctl[] {
  const forward = plan.allowIPForwarding ? 1 : 0;
  const v6: Sysctl[] = [
    [["ipv6", "conf", "all", "disable_ipv6"], 0],
    [["ipv6", "conf", plan.contIface, "accept_dad"], 0],
    [["ipv6", "conf", "all", "forwarding"], forward],
  ];
  return [[["ipv4", "ip_forward"], forward], ...(hasFamily(plan, 6) ? v6 : [])];
}

/** IPv6 routes have no scope; the kernel keeps universe whatever is asked. */
function scopeOf(ip: IP): number {
  return familyOf(ip) === 4 ? RT_SCOPE_LINK : 0;
}
