// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { type CIDR, cidrOf } from "../../net/cidr.ts";
import type { Family, IP } from "../../net/ip.ts";
import type { IPv4 } from "../../net/ipv4.ts";
import type { IPv6 } from "../../net/ipv6.ts";
import { type MAC, macFromBytes } from "../../net/mac.ts";
import type { AddrMessage } from "./addr.ts";
import type { ConntrackMessage, ConntrackTuple } from "./conntrack.ts";
import { AF_BRIDGE, AF_INET, AF_INET6 } from "./constants.ts";
import type { IfInfo } from "./ifinfo.ts";
import type { LinkMessage } from "./link.ts";
import type { BridgeInfo, IPIPInfo, LinkInfo, VethInfo, VXLANInfo } from "./link-info.ts";
import type { NeighMessage } from "./neigh.ts";
import type { NextHop, RouteMessage } from "./route.ts";
import type { RuleMessage } from "./rule.ts";

// What the property tests of the codec draw from. Only tests import this file.

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const text = fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" }).filter((s) => !s.includes("\0"));
const ipv4: fc.Arbitrary<IP> = u32.map((n) => n as IPv4);
const ipv6: fc.Arbitrary<IP> = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((n) => n as IPv6);
const ip = fc.oneof(ipv4, ipv6);
const mac: fc.Arbitrary<MAC> = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes);

function cidr(family: Family, minLength = 0): fc.Arbitrary<CIDR> {
  const bits = family === 4 ? 32 : 128;
  return fc
    .tuple(family === 4 ? ipv4 : ipv6, fc.integer({ min: minLength, max: bits }))
    .map(([address, length]) => cidrOf(address, length));
}

/** A record in which the keys named are always there, and any other may be absent (never undefined). */
function some<T extends object>(
  model: { [K in keyof T]-?: fc.Arbitrary<T[K]> },
  required: (keyof T)[],
): fc.Arbitrary<T> {
  // fast-check's own type of the result is wider than the message's.
  return fc.record(model, { requiredKeys: required, noNullPrototype: true }) as unknown as fc.Arbitrary<T>;
}

const ifInfoModel: { [K in keyof IfInfo]-?: fc.Arbitrary<NonNullable<IfInfo[K]>> } = {
  family: u8,
  hardwareType: u16,
  index: u32,
  flags: u32,
  change: u32,
  name: text,
  mtu: u32,
  address: mac,
  group: u32,
  alias: text,
  txQueueLength: u32,
  master: u32,
  link: u32,
  linkNetnsID: u32,
  operState: u8,
  netnsFD: u32,
  netnsPID: u32,
  txQueues: u32,
  rxQueues: u32,
  extMask: u32,
};
const IFINFO_REQUIRED: (keyof IfInfo)[] = ["family", "hardwareType", "index", "flags", "change"];

const peer = some<IfInfo>(ifInfoModel as never, IFINFO_REQUIRED); // exactOptionalPropertyTypes makes the models differ.

const veth: fc.Arbitrary<VethInfo> = fc.oneof(
  fc.constant<VethInfo>({ kind: "veth" }),
  peer.map((p): VethInfo => ({ kind: "veth", peer: p })),
);
const vxlan = some<VXLANInfo>(
  {
    kind: fc.constant("vxlan"),
    id: u32,
    group: ip,
    local: ip,
    link: u32,
    port: u16,
    ttl: u8,
    tos: u8,
    learning: fc.boolean(),
    ageing: u32,
    limit: u32,
    proxy: fc.boolean(),
    rsc: fc.boolean(),
    l2miss: fc.boolean(),
    l3miss: fc.boolean(),
    udpChecksum: fc.boolean(),
    udpZeroChecksum6Tx: fc.boolean(),
    udpZeroChecksum6Rx: fc.boolean(),
  } as never,
  ["kind"],
);
const bridge = some<BridgeInfo>(
  {
    kind: fc.constant("bridge"),
    forwardDelay: u32,
    helloTime: u32,
    maxAge: u32,
    ageingTime: u32,
    stpState: u32,
    priority: u16,
    vlanFiltering: fc.boolean(),
    groupForwardMask: u16,
    multicastSnooping: fc.boolean(),
  } as never,
  ["kind"],
);
const someIPv4 = fc.integer({ min: 1, max: 0xffffffff });
const ipip = some<IPIPInfo>(
  {
    kind: fc.constant("ipip"),
    local: someIPv4,
    remote: someIPv4,
    ttl: u8,
    pathMTUDiscovery: fc.boolean(),
  } as never,
  ["kind"],
);
const other: fc.Arbitrary<LinkInfo> = text
  .filter((name) => !["veth", "vxlan", "ipip", "bridge"].includes(name))
  .map((name) => ({ kind: "other", name }));

export const link: fc.Arbitrary<LinkMessage> = some<LinkMessage>(
  { ...ifInfoModel, info: fc.oneof(veth, vxlan, ipip, bridge, other) } as never,
  IFINFO_REQUIRED,
);

export const addr: fc.Arbitrary<AddrMessage> = some<AddrMessage>(
  {
    family: fc.constantFrom(AF_INET, AF_INET6),
    index: u32,
    prefixLength: u8,
    scope: u8,
    flags: u32,
    address: ip,
    local: ip,
    broadcast: ip,
    multicast: ip,
    label: text,
    routeMetric: u32,
    protocol: u8,
  } as never,
  ["family", "index", "prefixLength", "scope", "flags"],
);

export const neigh: fc.Arbitrary<NeighMessage> = some<NeighMessage>(
  {
    family: fc.constantFrom(AF_INET, AF_INET6, AF_BRIDGE),
    index: u32,
    state: u16,
    flags: u8,
    type: u8,
    dst: ip,
    linkAddress: mac,
    vlan: u16,
    port: u16,
    vni: u32,
    viaIndex: u32,
    master: u32,
    protocol: u8,
  } as never,
  ["family", "index", "state", "flags", "type"],
);

const nextHop = some<NextHop>({ index: u32, flags: u8, hops: u8, gateway: ip, via: ip } as never, [
  "index",
  "flags",
  "hops",
]);

export const route: fc.Arbitrary<RouteMessage> = fc.constantFrom<Family>(4, 6).chain((family) =>
  some<RouteMessage>(
    {
      family: fc.constant(family),
      dst: cidr(family),
      src: cidr(family, 1),
      tos: u8,
      table: u32,
      protocol: u8,
      scope: u8,
      type: u8,
      flags: u32,
      gateway: ip,
      via: ip,
      oif: u32,
      iif: u32,
      priority: u32,
      prefSrc: ip,
      metrics: fc.record({ mtu: u32, advMSS: u32 }, { requiredKeys: [], noNullPrototype: true }),
      multipath: fc.array(nextHop, { maxLength: 4 }),
      mark: u32,
      preference: u8,
      nextHopID: u32,
    } as never,
    ["family", "dst", "tos", "table", "protocol", "scope", "type", "flags"],
  ),
);

export const rule: fc.Arbitrary<RuleMessage> = fc.constantFrom<Family>(4, 6).chain((family) =>
  some<RuleMessage>(
    {
      family: fc.constant(family),
      dst: cidr(family, 1),
      src: cidr(family, 1),
      tos: u8,
      table: u32,
      action: u8,
      flags: u32,
      priority: u32,
      mark: u32,
      markMask: u32,
      inIface: text,
      outIface: text,
      goto: u32,
      suppressPrefixLength: fc.integer({ min: -0x80000000, max: 0x7fffffff }),
      protocol: u8,
    } as never,
    ["family", "tos", "table", "action", "flags"],
  ),
);

const tuple: fc.Arbitrary<ConntrackTuple> = fc.constantFrom(ipv4, ipv6).chain((address) =>
  some<ConntrackTuple>(
    {
      src: address,
      dst: address,
      zone: u16,
      protocol: u8,
      srcPort: u16,
      dstPort: u16,
      icmpID: u16,
      icmpType: u8,
      icmpCode: u8,
      icmpv6ID: u16,
      icmpv6Type: u8,
      icmpv6Code: u8,
    } as never,
    ["src", "dst"],
  ),
);

export const conntrack: fc.Arbitrary<ConntrackMessage> = some<ConntrackMessage>(
  {
    family: fc.constantFrom(AF_INET, AF_INET6),
    original: tuple,
    reply: tuple,
    status: u32,
    timeout: u32,
    id: u32,
    zone: u16,
  } as never,
  ["family"],
);
