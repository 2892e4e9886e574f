// SPDX-License-Identifier: Apache-2.0
import type { AddrFacts, LinkFacts, RouteFacts, SysctlFacts, WiringFacts, WiringQuery } from "../../cni/ports.ts";
import { hostCIDR } from "../../net/cidr.ts";
import type { Family, IP } from "../../net/ip.ts";
import type { Conn } from "../conn.ts";
import { openConnIn } from "../netns.ts";
import { hasIPv6, readSysctl } from "../sysctl.ts";
import { IFF_UP, RT_TABLE_MAIN } from "../wire/constants.ts";
import type { LinkMessage } from "../wire/link.ts";
import type { RouteMessage } from "../wire/route.ts";
import { listAddrs } from "./addr.ts";
import { findLink, listLinks } from "./link.ts";
import { hostSysctls } from "./pod-requests.ts";
import { findRoute, listRoutes } from "./route.ts";
import { kernelRouteOf } from "./route-dataplane.ts";

type NameOf = (index: number) => string | undefined;

/**
 * Reads what the kernel has of an attachment, from the calling thread's namespace, which is the host's.
 *
 * The host is asked only for what is named: its tables may hold a route for each of thousands of nodes. The pod's are
 * small and read whole.
 *
 * @throws WiringError `NetnsGone`; NetlinkError
 */
export function inspectWiring(conn: Conn, query: WiringQuery): WiringFacts {
  using podConn = openConnIn(query.netns);
  const hostLink = findLink(conn, { name: query.hostIface });
  const podLinks = listLinks(podConn);
  const contLink = podLinks.find(({ name }) => name === query.contIface);
  const podNames = new Map(podLinks.map(({ index, name }) => [index, name]));
  const hostName: NameOf = (index) => (index === hostLink?.index ? query.hostIface : findLink(conn, { index })?.name);
  return {
    ...(hostLink && { hostLink: linkFacts(hostLink) }),
    ...(contLink && { contLink: linkFacts(contLink) }),
    hostAddrs: addrFacts(conn, hostLink),
    contAddrs: addrFacts(podConn, contLink),
    contRoutes: ([4, 6] as const).flatMap((family) => podRoutes(podConn, family, (index) => podNames.get(index))),
    hostRoutes: query.ips.map((ip) => hostRoute(conn, ip, hostName)),
    hostSysctls: hostSysctls(query, hasIPv6()).map(([path, value]) => sysctlFacts(path, String(value))),
  };
}

function linkFacts({ index, address, mtu, flags, link }: LinkMessage): LinkFacts {
  return {
    ifIndex: index,
    ...(address !== undefined && { mac: address }),
    mtuBytes: mtu ?? 0,
    isUp: (flags & IFF_UP) !== 0,
    ...(link !== undefined && { peerIfIndex: link }),
  };
}

function addrFacts(conn: Conn, link: LinkMessage | undefined): AddrFacts[] {
  if (link === undefined) return [];
  // The kernel's filter is only trusted as a saving.
  return listAddrs(conn, { index: link.index }).flatMap(({ index, prefixLength, local, address }) => {
    const ip = local ?? address;
    return ip === undefined || index !== link.index ? [] : [{ ip, prefixLength }];
  });
}

function podRoutes(conn: Conn, family: Family, nameOf: NameOf): RouteFacts[] {
  return listRoutes(conn, { family, table: RT_TABLE_MAIN }, (route) => routeFacts(route, nameOf));
}

function hostRoute(conn: Conn, ip: IP, nameOf: NameOf): WiringFacts["hostRoutes"][number] {
  const found = findRoute(conn, hostCIDR(ip));
  const route = found === undefined ? undefined : routeFacts(found, nameOf);
  return { ip, ...(route && { route }) };
}

function routeFacts(message: RouteMessage, nameOf: NameOf): RouteFacts | undefined {
  const route = kernelRouteOf(message);
  if (route?.type !== "unicast") return undefined;
  const { dst, ifIndex, gateway, protocol, scope } = route;
  const dev = ifIndex === undefined ? undefined : nameOf(ifIndex);
  return { dst, ...(dev !== undefined && { dev }), ...(gateway !== undefined && { gateway }), protocol, scope };
}

function sysctlFacts(path: readonly string[], expected: string): SysctlFacts {
  const actual = readSysctl(path);
  return { path: ["net", ...path].join("/"), expected, ...(actual !== undefined && { actual }) };
}
