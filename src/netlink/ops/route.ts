// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import { type CIDR, cidrFamily, formatCIDR } from "../../net/cidr.ts";
import type { Family } from "../../net/ip.ts";
import type { IPv4 } from "../../net/ipv4.ts";
import type { IPv6 } from "../../net/ipv6.ts";
import type { Conn, Request } from "../conn.ts";
import { NetlinkError } from "../errors.ts";
import {
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  RT_SCOPE_NOWHERE,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_MAIN,
  RT_TABLE_UNSPEC,
  RTM_DELROUTE,
  RTM_F_FIB_MATCH,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  RTN_UNICAST,
  RTN_UNSPEC,
  RTPROT_BOOT,
  RTPROT_UNSPEC,
} from "../wire/constants.ts";
import { decodeRoute, encodeRoute, type RouteMessage } from "../wire/route.ts";

/**
 * A route of the main table. As with `ip route`, what is not given is unicast, protocol boot and scope universe when it
 * is added, and anything when it is deleted.
 */
export type RouteSpec = Partial<Omit<RouteMessage, "family">> & { readonly dst: CIDR };

type Defaults = Pick<RouteMessage, "protocol" | "scope" | "type">;
const NEW: Defaults = { protocol: RTPROT_BOOT, scope: RT_SCOPE_UNIVERSE, type: RTN_UNICAST };
/** What the kernel takes as "any" when it looks for a route. */
const ANY: Defaults = { protocol: RTPROT_UNSPEC, scope: RT_SCOPE_NOWHERE, type: RTN_UNSPEC };

function routeRequest(type: number, flags: number, route: RouteSpec, defaults: Defaults): Request {
  const family = cidrFamily(route.dst);
  const message: RouteMessage = { family, tos: 0, table: RT_TABLE_MAIN, flags: 0, ...defaults, ...route };
  return {
    type,
    flags,
    encode: (w) => encodeRoute(w, message),
    describe: () => formatCIDR(route.dst) + (route.oif === undefined ? "" : ` dev ifindex ${route.oif}`),
  };
}

/** Adds a route; EEXIST when its destination and metric are taken. */
export function addRoute(route: RouteSpec): Request {
  return routeRequest(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route, NEW);
}

/** Adds a route, in place of the one with the same destination and metric where there is one, without a gap. */
export function replaceRoute(route: RouteSpec): Request {
  return routeRequest(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route, NEW);
}

/** Deletes the route that agrees in every property given; ESRCH when there is none. */
export function deleteRoute(route: RouteSpec): Request {
  return routeRequest(RTM_DELROUTE, 0, route, ANY);
}

const { EINVAL, ENETUNREACH, EHOSTUNREACH, EACCES } = constants.errno;
/** How a lookup ends at no route, at one that is a blackhole, unreachable, or prohibited. */
const NO_WAY: ReadonlySet<number> = new Set([EINVAL, ENETUNREACH, EHOSTUNREACH, EACCES]);

/**
 * The route that the kernel takes to an address, as it stands in the table; undefined when the address cannot be
 * reached.
 *
 * @throws NetlinkError
 */
export function findRoute(conn: Conn, dst: CIDR): RouteMessage | undefined {
  // Anything but zeros is refused here: the lookup goes by the rules, not by what a route should be like.
  const any: Defaults = { protocol: RTPROT_UNSPEC, scope: RT_SCOPE_UNIVERSE, type: RTN_UNSPEC };
  const [found] = conn.executeBatch([
    routeRequest(RTM_GETROUTE, 0, { dst, flags: RTM_F_FIB_MATCH, table: RT_TABLE_UNSPEC }, any),
  ]);
  if (found?.error !== undefined) {
    if (NO_WAY.has(found.error.errno)) return undefined;
    throw found.error;
  }
  const reply = found?.replies.find(({ type }) => type === RTM_NEWROUTE);
  return reply === undefined ? undefined : decodeRoute(reply.payload);
}

/** All routes of one family and table. @throws NetlinkError */
export function listRoutes<T = RouteMessage>(
  conn: Conn,
  filter: { readonly family: Family; readonly table: number },
  map: (route: RouteMessage) => T | undefined = (route) => route as T, // Without a map, T is its default.
): T[] {
  const { family, table } = filter;
  const dst: CIDR = { network: family === 4 ? (0 as IPv4) : (0n as IPv6), prefixLength: 0 };
  const request = routeRequest(RTM_GETROUTE, 0, { dst, table, scope: RT_SCOPE_UNIVERSE }, ANY);
  try {
    return conn.dump(request, (message) =>
      message.type === RTM_NEWROUTE ? map(decodeRoute(message.payload)) : undefined,
    );
  } catch (error) {
    // IPv4 makes a table with its first route, so in a new namespace even the main table may not exist.
    if (error instanceof NetlinkError && error.errno === constants.errno.ENOENT) return [];
    throw error;
  }
}
