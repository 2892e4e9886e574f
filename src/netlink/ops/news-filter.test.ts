// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { encodeAddr } from "../wire/addr.ts";
import { MessageWriter } from "../wire/attribute.ts";
import * as c from "../wire/constants.ts";
import { encodeLink } from "../wire/link.ts";
import type { NetlinkMessage } from "../wire/message.ts";
import { encodeRoute } from "../wire/route.ts";
import { NewsFilter } from "./news-filter.ts";

const OWN_PORT = 77;
const TUNNEL = 9;
const MADE = 0xffffffff;

function message(type: number, encode: (w: MessageWriter) => void, portID = 0): NetlinkMessage {
  const writer = new MessageWriter();
  encode(writer);
  return { type, flags: 0, seq: 0, portID, payload: writer.bytes().slice() };
}

function link(name: string, { index = 5, flags = 0, change = 0, type = c.RTM_NEWLINK }): NetlinkMessage {
  const info = { family: c.AF_UNSPEC, hardwareType: 1, index, flags, change, name };
  return message(type, (w) => encodeLink(w, info));
}

function route(
  type: number,
  dst: string,
  protocol: number,
  { table = c.RT_TABLE_MAIN, portID = 0 } = {},
): NetlinkMessage {
  const cidr = parseCIDR(dst);
  const family = dst.includes(":") ? 6 : 4;
  const base = { family, dst: cidr, tos: 0, table, protocol, scope: 0, type: c.RTN_UNICAST, flags: 0, oif: 5 } as const;
  return message(type, (w) => encodeRoute(w, base), portID);
}

function addr(ip: string, scope: number, index = 5): NetlinkMessage {
  const address = parseIP(ip);
  const family = ip.includes(":") ? c.AF_INET6 : c.AF_INET;
  return message(c.RTM_NEWADDR, (w) => encodeAddr(w, { family, index, prefixLength: 64, scope, flags: 0, address }));
}

function filter(): NewsFilter {
  return new NewsFilter({ ownPortIDs: new Set([OWN_PORT]), tunnels: new Set([TUNNEL]) });
}

/** Of all links together, unless an index says otherwise. */
function netconf(forwarding: number | undefined, index = -1, proxy?: number): NetlinkMessage {
  return message(c.RTM_NEWNETCONF, (w) => {
    w.u32(c.AF_INET);
    w.attrU32(c.NETCONFA_IFINDEX, index >>> 0);
    if (forwarding !== undefined) w.attrU32(c.NETCONFA_FORWARDING, forwarding);
    if (proxy !== undefined) w.attrU32(c.NETCONFA_PROXY_NEIGH, proxy);
  });
}

describe("NewsFilter", () => {
  test("leaves out all that an ADD brings with it", () => {
    const news = filter();
    const brought = [
      link("cali1", { change: MADE }),
      link("cali1", { flags: c.IFF_UP, change: c.IFF_UP }),
      link("cali1", { flags: c.IFF_UP }),
      route(c.RTM_NEWROUTE, "10.0.0.5/32", 80, { portID: OWN_PORT }),
      route(c.RTM_NEWROUTE, "fe80::/64", c.RTPROT_KERNEL),
      route(c.RTM_NEWROUTE, "ff00::/8", c.RTPROT_KERNEL, { table: 255 }),
      addr("fe80::1", c.RT_SCOPE_LINK),
      netconf(1, 5, 0),
      netconf(0, 5, 0),
      netconf(undefined, 5, 1),
      netconf(1, 5),
      netconf(undefined, 5),
    ];
    expect(brought.map((each) => news.passes(each))).toEqual(brought.map(() => false));
  });

  test("passes a pod's link that flaps, from the first time down on", () => {
    const news = filter();
    news.passes(link("cali1", { change: MADE }));
    news.passes(link("cali1", { flags: c.IFF_UP, change: c.IFF_UP }));
    expect(news.passes(link("cali1", { change: c.IFF_UP }))).toBe(true);
    expect(news.passes(link("cali1", { flags: c.IFF_UP, change: c.IFF_UP }))).toBe(true);
  });

  test("passes a pod's link that goes up and that it has not seen being made, or whose index was another's", () => {
    const news = filter();
    expect(news.passes(link("cali1", { flags: c.IFF_UP, change: c.IFF_UP }))).toBe(true);
    news.passes(link("cali2", { index: 6, change: MADE }));
    expect(news.passes(link("cali2", { index: 6, type: c.RTM_DELLINK }))).toBe(true);
    expect(news.passes(link("cali3", { index: 6, flags: c.IFF_UP, change: c.IFF_UP }))).toBe(true);
  });

  test.each([
    ["another's link that is made", link("eth1", { change: MADE })],
    ["another's link that changes", link("eth1", {})],
    ["a pod's link that goes", link("cali1", { type: c.RTM_DELLINK })],
    ["a route of ours that goes", route(c.RTM_DELROUTE, "10.0.0.5/32", 80)],
    ["a route of others that comes", route(c.RTM_NEWROUTE, "10.0.0.5/32", c.RTPROT_STATIC)],
    ["a route that others write under our protocol", route(c.RTM_NEWROUTE, "10.0.0.5/32", 80)],
    ["a segment of this node", route(c.RTM_NEWROUTE, "fd00:1::/64", c.RTPROT_KERNEL)],
    ["an address", addr("192.0.2.1", c.RT_SCOPE_UNIVERSE)],
    ["a global address", addr("2001:db8::1", c.RT_SCOPE_UNIVERSE)],
    ["forwarding that is switched off", netconf(0)],
    ["forwarding of one link that is switched off", netconf(0, 5)],
    ["a proxy that is switched off", netconf(undefined, 5, 0)],
    ["any address of a tunnel", addr("fe80::1", c.RT_SCOPE_LINK, TUNNEL)],
  ])("passes %s", (_what, news) => {
    expect(filter().passes(news)).toBe(true);
  });

  test("leaves out what happens in other tables, and what this process does itself", () => {
    const others = route(c.RTM_NEWROUTE, "10.0.0.5/32", c.RTPROT_STATIC, { table: 255 });
    const own = route(c.RTM_DELROUTE, "10.0.0.5/32", 80, { portID: OWN_PORT });
    const unimportant = [others, own, netconf(1), netconf(0, -2), netconf(undefined)];
    expect(unimportant.map((each) => filter().passes(each))).toEqual(unimportant.map(() => false));
  });
});
