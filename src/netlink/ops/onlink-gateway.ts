// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import { hostCIDR } from "../../net/cidr.ts";
import { familyOf } from "../../net/ip.ts";
import type { Conn } from "../conn.ts";
import type { NetlinkError } from "../errors.ts";
import { addRoute, deleteRoute, type RouteSpec, replaceRoute } from "./route.ts";

/**
 * Writes a route that IPv6 has refused for its gateway, if that can be helped.
 *
 * The kernel takes a gateway that is `onlink` only where no other route leads to it over another link (net/ipv6/route.c,
 * ip6_route_check_nh_onlink; default routes do not count). A tunnel's gateway is an address of the very block that is
 * routed, so a block's plain route bars the way for the one that shall take its place. For the moment of the change the
 * gateway has a route of its own, and no packet falls between.
 *
 * @returns undefined: it is written
 */
export function replaceOverGateway(conn: Conn, route: RouteSpec, refusal: NetlinkError): NetlinkError | undefined {
  const { gateway, oif, protocol, priority } = route;
  if (refusal.errno !== constants.errno.EINVAL || gateway === undefined || familyOf(gateway) === 4) return refusal;
  if (oif === undefined || protocol === undefined || priority === undefined) return refusal;
  const way: RouteSpec = { dst: hostCIDR(gateway), oif, protocol, priority };
  const [added] = conn.executeBatch([addRoute(way)]);
  if (added?.error !== undefined) return refusal;
  const [replaced] = conn.executeBatch([replaceRoute(route), deleteRoute(way)]);
  return replaced?.error;
}
