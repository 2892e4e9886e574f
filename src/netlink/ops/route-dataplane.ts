// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import type { KernelAddr, KernelLink, KernelRoute, RouteDataplane, RouteResult } from "../../felix/ports.ts";
import { cidrFamily } from "../../net/cidr.ts";
import { type Family, familyOf } from "../../net/ip.ts";
import type { Conn, Request } from "../conn.ts";
import type { NetlinkError } from "../errors.ts";
import { type ChangeKind, Monitor, type Topic } from "../monitor.ts";
import * as c from "../wire/constants.ts";
import type { LinkMessage } from "../wire/link.ts";
import type { NetlinkMessage } from "../wire/message.ts";
import type { RouteMessage } from "../wire/route.ts";
import { listAddrs } from "./addr.ts";
import { listLinks } from "./link.ts";
import { ifIndexOf, NewsFilter, netconfIfIndexOf } from "./news-filter.ts";
import { replaceOverGateway } from "./onlink-gateway.ts";
import { deleteRoute, listRoutes, type RouteSpec, replaceRoute } from "./route.ts";

/** net/ipv6.h, IP6_RT_PRIO_USER: what IPv6 makes of a route without a metric. */
const IPV6_DEFAULT_METRIC = 1024;
/** Of IPv6, what nobody should be told to reach this machine by. Source: linux/if_addr.h. */
const TRANSIENT = c.IFA_F_TEMPORARY | c.IFA_F_DEPRECATED | c.IFA_F_TENTATIVE | c.IFA_F_DADFAILED;
/** Between two slices the monitor is read, so that the echo of a large batch does not overrun it. */
const SLICE_REQUESTS = 512;

/** What the port tells about. */
export type RouteChange = { readonly kind: ChangeKind };

/** Beyond whose notifications a dataplane passes on. */
export interface WatchScope {
  /** Of the conversation that makes pods' links: Felix hears of these from the attachment. */
  readonly wiringPortID?: number;
  /** The links whose neighbours and forwarding entries matter; a set that may grow. */
  readonly tunnels?: ReadonlySet<number>;
}

/**
 * Felix's view of the main table, links and addresses.
 *
 * Hazards: the kernel fills in IPv6's metric 1024 and a blackhole's device (lo), which are taken off again, or every
 * comparison would differ. A deletion without a metric matches an IPv4 route of any metric that agrees otherwise, so
 * whoever keeps two such routes apart only by metric deletes the one with metric 0 first.
 */
export class KernelRouteDataplane implements RouteDataplane {
  readonly #conn: Conn;
  readonly #news: NewsFilter;
  readonly #tunnels: ReadonlySet<number>;
  readonly #listeners = new Set<(change: RouteChange) => void>();
  /** IP-in-IP devices, as last listed: there are few. */
  #ipip: ReadonlySet<number> = new Set();
  #monitor: Monitor | undefined;

  /** The Conn must be Felix's own: its changes are told apart by it, and not reported back. */
  constructor(conn: Conn, { wiringPortID, tunnels = new Set() }: WatchScope = {}) {
    this.#conn = conn;
    this.#tunnels = tunnels;
    const ownPortIDs = new Set([conn.portID, ...(wiringPortID === undefined ? [] : [wiringPortID])]);
    this.#news = new NewsFilter({ ownPortIDs, tunnels });
  }

  async listRoutes(family: Family): Promise<readonly KernelRoute[]> {
    return listRoutes(this.#conn, { family, table: c.RT_TABLE_MAIN }, kernelRouteOf);
  }

  async listLinks(): Promise<readonly KernelLink[]> {
    const links = listLinks(this.#conn).map(kernelLinkOf);
    this.#ipip = new Set(links.flatMap(({ ifIndex, ipip }) => (ipip === undefined ? [] : [ifIndex])));
    return links;
  }

  async listAddrs(): Promise<readonly KernelAddr[]> {
    return listAddrs(this.#conn).flatMap(({ index, prefixLength, local, address, flags }) => {
      // On a point-to-point link `address` is the far end, and `local` ours.
      const ip = local ?? address;
      if (ip === undefined) return [];
      const addr = { ifIndex: index, ip, prefixLength };
      if (familyOf(ip) === 4) return [(flags & c.IFA_F_SECONDARY) === 0 ? addr : { ...addr, isSecondary: true }];
      return [(flags & TRANSIENT) === 0 ? addr : { ...addr, isTransient: true }];
    });
  }

  async replaceRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]> {
    return this.#apply(
      routes,
      (route) => replaceRoute(routeSpecOf(route)),
      (route, error) => replaceOverGateway(this.#conn, routeSpecOf(route), error),
    );
  }

  async deleteRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]> {
    const { ESRCH, ENODEV } = constants.errno;
    return this.#apply(
      routes,
      (route) => deleteRoute(routeSpecOf(route)),
      (_, error) => ([ESRCH, ENODEV].includes(error.errno) ? undefined : error),
    );
  }

  watch(onChange: (change: RouteChange) => void): () => void {
    // A function of its own for each call, so that the same callback can be given twice and stopped once.
    const listener = (change: RouteChange): void => onChange(change);
    this.#listeners.add(listener);
    this.#monitor ??= new Monitor({
      kinds: ["link", "addr", "route", "neigh", "forwarding"],
      classify: (topic, message) => this.#classify(topic, message),
      onChange: (kind) => {
        for (const l of this.#listeners) l({ kind });
      },
    });
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#closeMonitor();
    };
  }

  close(): void {
    this.#listeners.clear();
    this.#closeMonitor();
    this.#conn.close();
  }

  #closeMonitor(): void {
    this.#monitor?.close();
    this.#monitor = undefined;
  }

  #classify(topic: Topic, message: NetlinkMessage): ChangeKind | undefined {
    if (!this.#news.passes(message)) return undefined;
    if (topic === "forwarding") {
      return netconfIfIndexOf(message.payload) === c.NETCONFA_IFINDEX_ALL ? topic : "linkSetting";
    }
    if (topic !== "link" && topic !== "addr") return topic;
    const ifIndex = ifIndexOf(message.payload);
    return this.#tunnels.has(ifIndex) || this.#ipip.has(ifIndex) ? "tunnel" : topic;
  }

  #apply(
    routes: readonly KernelRoute[],
    request: (route: KernelRoute) => Request,
    /** What is left of an error; undefined: nothing. */
    mend: (route: KernelRoute, error: NetlinkError) => NetlinkError | undefined,
  ): readonly RouteResult[] {
    const results: RouteResult[] = [];
    for (let start = 0; start < routes.length; start += SLICE_REQUESTS) {
      const slice = routes.slice(start, start + SLICE_REQUESTS);
      const outcomes = this.#conn.executeBatch(slice.map(request));
      for (const [i, route] of slice.entries()) {
        const refusal = outcomes[i]?.error;
        const error = refusal && mend(route, refusal);
        results.push(error === undefined ? { route } : { route, error });
      }
      this.#monitor?.poll();
    }
    return results;
  }
}

function kernelLinkOf({ index, name = "", flags, mtu = 0, address, info }: LinkMessage): KernelLink {
  const base = { ifIndex: index, name, up: (flags & c.IFF_UP) !== 0, mtuBytes: mtu };
  if (info?.kind === "ipip") return { ...base, ipip: info.remote === undefined ? {} : { remoteIP: info.remote } };
  if (info?.kind !== "vxlan") return base;
  const { id = 0, port = 0, local, link, learning = false } = info;
  const vxlan = {
    vni: id,
    port,
    learning,
    ...(local === undefined ? {} : { localIP: local }),
    ...(link === undefined ? {} : { parentIfIndex: link }),
  };
  return { ...base, vxlan, ...(address === undefined ? {} : { mac: address }) };
}

/** The kernel's form of a route. Exported for its test. */
export function routeSpecOf(route: KernelRoute): RouteSpec {
  const isIPv6 = cidrFamily(route.dst) === 6;
  const priority = route.metric === 0 && isIPv6 ? IPV6_DEFAULT_METRIC : route.metric;
  return {
    dst: route.dst,
    type: route.type === "blackhole" ? c.RTN_BLACKHOLE : c.RTN_UNICAST,
    protocol: route.protocol,
    scope: route.scope === "link" && !isIPv6 ? c.RT_SCOPE_LINK : c.RT_SCOPE_UNIVERSE,
    flags: route.onlink ? c.RTNH_F_ONLINK : 0,
    ...(priority > 0 ? { priority } : {}),
    ...(route.ifIndex === undefined || route.type === "blackhole" ? {} : { oif: route.ifIndex }),
    ...(route.gateway === undefined ? {} : { gateway: route.gateway }),
  };
}

/** Undefined for kinds of routes that Felix neither writes nor compares (unreachable, multicast, clones). */
export function kernelRouteOf(route: RouteMessage): KernelRoute | undefined {
  const isBlackhole = route.type === c.RTN_BLACKHOLE;
  if ((!isBlackhole && route.type !== c.RTN_UNICAST) || (route.flags & c.RTM_F_CLONED) !== 0) return undefined;
  const { oif, gateway = route.via } = route;
  const metric = route.priority ?? 0;
  const isLinkScope = route.family === 4 ? route.scope === c.RT_SCOPE_LINK : isDeviceRoute(route);
  return {
    dst: route.dst,
    type: isBlackhole ? "blackhole" : "unicast",
    metric: route.family === 6 && metric === IPV6_DEFAULT_METRIC ? 0 : metric,
    protocol: route.protocol,
    onlink: (route.flags & c.RTNH_F_ONLINK) !== 0,
    scope: isLinkScope ? "link" : "universe",
    ...(isBlackhole || oif === undefined ? {} : { ifIndex: oif }),
    ...(gateway === undefined ? {} : { gateway }),
  };
}

/** IPv6 keeps no scope, so a route without a gateway reads back as link, which is what Felix writes there. */
function isDeviceRoute(route: RouteMessage): boolean {
  return route.type === c.RTN_UNICAST && route.gateway === undefined && route.oif !== undefined;
}
