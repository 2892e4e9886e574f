// SPDX-License-Identifier: Apache-2.0
import type { CIDR } from "../../net/cidr.ts";
import { type Family, familyOf, type IP, ipFromBytes, ipToBytes } from "../../net/ip.ts";
import { AttributeReader, align4, LITTLE_ENDIAN, type MessageWriter } from "./attribute.ts";
import { type Codec, FieldTable, field, headerView, ip, u8, u32 } from "./codec.ts";
import * as c from "./constants.ts";
import { DecodeError } from "./errors.ts";
import { addressFamily, familyOfAF, prefixOf } from "./prefix.ts";

/**
 * RTM_*ROUTE.
 *
 * Source: linux/rtnetlink.h, struct rtmsg { u8 family; u8 dst_len; u8 src_len; u8 tos; u8 table; u8 protocol; u8 scope;
 * u8 type; u32 flags }; RTA_*.
 */
export interface RouteMessage {
  readonly family: Family;
  readonly dst: CIDR;
  readonly src?: CIDR;
  readonly tos: number;
  /** RT_TABLE_*, all 32 bits. */
  readonly table: number;
  /** RTPROT_*. */
  readonly protocol: number;
  /** RT_SCOPE_*. */
  readonly scope: number;
  /** RTN_*. */
  readonly type: number;
  /** RTNH_F_* (ONLINK) and RTM_F_*. */
  readonly flags: number;
  readonly gateway?: IP;
  /** Gateway of the other family (RTA_VIA). */
  readonly via?: IP;
  /** Outgoing device by ifindex. */
  readonly oif?: number;
  readonly iif?: number;
  /** The metric; the kernel leaves 0 out. */
  readonly priority?: number;
  readonly prefSrc?: IP;
  readonly metrics?: RouteMetrics;
  readonly multipath?: readonly NextHop[];
  readonly mark?: number;
  /** ICMPV6_ROUTER_PREF_*. */
  readonly preference?: number;
  /** Next-hop object. */
  readonly nextHopID?: number;
}

/** RTAX_*. Units: bytes. */
export interface RouteMetrics {
  readonly mtu?: number;
  readonly advMSS?: number;
}

/** Source: linux/rtnetlink.h, struct rtnexthop { u16 len; u8 flags; u8 hops; s32 ifindex }. */
export interface NextHop {
  readonly index: number;
  /** RTNH_F_*. */
  readonly flags: number;
  /** Weight minus one. */
  readonly hops: number;
  readonly gateway?: IP;
  readonly via?: IP;
}

const RTMSG_BYTES = 12;
const RTNEXTHOP_BYTES = 8;

/** struct rtvia { u16 family; u8 addr[] }. */
const via: Codec<IP> = {
  read(attributes) {
    const bytes = attributes.bytes();
    const family = familyOfAF(headerView(bytes, 2, "rtvia").getUint16(0, LITTLE_ENDIAN));
    if (bytes.length !== (family === 4 ? 6 : 18)) throw new DecodeError(`struct rtvia has ${bytes.length} bytes`);
    return ipFromBytes(bytes.subarray(2));
  },
  write(w, type, value) {
    const address = ipToBytes(value);
    const bytes = new Uint8Array(2 + address.length);
    new DataView(bytes.buffer).setUint16(0, addressFamily(familyOf(value)), LITTLE_ENDIAN);
    bytes.set(address, 2);
    w.attrBytes(type, bytes);
  },
};

const METRICS: FieldTable<RouteMetrics> = new FieldTable<RouteMetrics>([
  field("mtu", c.RTAX_MTU, u32),
  field("advMSS", c.RTAX_ADVMSS, u32),
]);

const metrics: Codec<RouteMetrics> = {
  read(attributes) {
    const into: RouteMetrics = {};
    METRICS.readAll(attributes.nested(), into);
    return into;
  },
  write: (w, type, value) => w.attrNested(type, () => METRICS.write(w, value)),
};

const HOP: FieldTable<NextHop> = new FieldTable<NextHop>([
  field("gateway", c.RTA_GATEWAY, ip),
  field("via", c.RTA_VIA, via),
]);

const multipath: Codec<readonly NextHop[]> = {
  read: (attributes) => decodeNextHops(attributes.bytes()),
  write: (w, type, hops) =>
    w.attrNested(type, () => {
      for (const hop of hops) {
        const start = w.length;
        w.u16(0);
        w.u8(hop.flags);
        w.u8(hop.hops);
        w.u32(hop.index);
        HOP.write(w, hop);
        w.patchU16(start, w.length - start);
      }
    }),
};

const FIELDS: FieldTable<RouteMessage> = new FieldTable<RouteMessage>([
  field("gateway", c.RTA_GATEWAY, ip),
  field("oif", c.RTA_OIF, u32),
  field("priority", c.RTA_PRIORITY, u32),
  field("prefSrc", c.RTA_PREFSRC, ip),
  field("metrics", c.RTA_METRICS, metrics),
  field("via", c.RTA_VIA, via),
  field("iif", c.RTA_IIF, u32),
  field("multipath", c.RTA_MULTIPATH, multipath),
  field("mark", c.RTA_MARK, u32),
  field("preference", c.RTA_PREF, u8),
  field("nextHopID", c.RTA_NH_ID, u32),
]);

/** Appends rtmsg and attributes. A table beyond the header's 8 bits travels in RTA_TABLE. */
export function encodeRoute(w: MessageWriter, route: RouteMessage): void {
  const { dst, src, table } = route;
  w.u8(addressFamily(route.family));
  w.u8(dst.prefixLength);
  w.u8(src?.prefixLength ?? 0);
  w.u8(route.tos);
  w.u8(table > 0xff ? c.RT_TABLE_COMPAT : table);
  w.u8(route.protocol);
  w.u8(route.scope);
  w.u8(route.type);
  w.u32(route.flags);
  if (dst.prefixLength > 0) w.attrIP(c.RTA_DST, dst.network);
  if (src !== undefined && src.prefixLength > 0) w.attrIP(c.RTA_SRC, src.network);
  if (table > 0xff) w.attrU32(c.RTA_TABLE, table);
  FIELDS.write(w, route);
}

/** Reads the payload of RTM_NEWROUTE or RTM_DELROUTE. @throws DecodeError, also for a family that is not of IP */
export function decodeRoute(payload: Uint8Array): RouteMessage {
  const view = headerView(payload, RTMSG_BYTES, "rtmsg");
  const family = familyOfAF(view.getUint8(0));
  let dst: IP | undefined;
  let src: IP | undefined;
  let table = view.getUint8(4);
  const rest: Partial<RouteMessage> = {};
  const attributes = new AttributeReader(payload, RTMSG_BYTES);
  while (attributes.next()) {
    if (attributes.type === c.RTA_DST) dst = attributes.ip();
    else if (attributes.type === c.RTA_SRC) src = attributes.ip();
    else if (attributes.type === c.RTA_TABLE) table = attributes.u32();
    else FIELDS.read(attributes, rest);
  }
  const srcLength = view.getUint8(2);
  return {
    ...rest,
    family,
    dst: prefixOf(family, view.getUint8(1), dst),
    ...(srcLength > 0 ? { src: prefixOf(family, srcLength, src) } : {}),
    tos: view.getUint8(3),
    table,
    protocol: view.getUint8(5),
    scope: view.getUint8(6),
    type: view.getUint8(7),
    flags: view.getUint32(8, LITTLE_ENDIAN),
  };
}

function decodeNextHops(bytes: Uint8Array): NextHop[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hops: NextHop[] = [];
  let at = 0;
  while (at + RTNEXTHOP_BYTES <= bytes.length) {
    const length = view.getUint16(at, LITTLE_ENDIAN);
    if (length < RTNEXTHOP_BYTES || at + length > bytes.length) {
      throw new DecodeError(
        `struct rtnexthop at offset ${at} has length ${length}, with ${bytes.length - at} bytes left`,
      );
    }
    const hop: NextHop = {
      flags: view.getUint8(at + 2),
      hops: view.getUint8(at + 3),
      index: view.getUint32(at + 4, LITTLE_ENDIAN),
    };
    HOP.readAll(new AttributeReader(bytes, at + RTNEXTHOP_BYTES, at + length), hop);
    hops.push(hop);
    at += align4(length);
  }
  return hops;
}
