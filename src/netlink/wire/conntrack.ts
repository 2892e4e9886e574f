// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../../net/ip.ts";
import { AttributeReader, type MessageWriter } from "./attribute.ts";
import { type Codec, FieldTable, field, headerView, ip4, ip6, u8, u16BE, u32BE } from "./codec.ts";
import * as c from "./constants.ts";

/**
 * One direction of a tracked connection. Which of the protocol's fields there are depends on the protocol; together
 * they are what the kernel finds the connection by.
 *
 * Source: linux/netfilter/nfnetlink_conntrack.h, CTA_TUPLE_*, CTA_IP_*, CTA_PROTO_*.
 */
export interface ConntrackTuple {
  readonly src: IP;
  readonly dst: IP;
  /** Zone of this direction alone. */
  readonly zone?: number;
  /** IPPROTO_*. */
  readonly protocol?: number;
  /** TCP, UDP, SCTP and DCCP; the keys of GRE. */
  readonly srcPort?: number;
  readonly dstPort?: number;
  readonly icmpID?: number;
  readonly icmpType?: number;
  readonly icmpCode?: number;
  readonly icmpv6ID?: number;
  readonly icmpv6Type?: number;
  readonly icmpv6Code?: number;
}

/**
 * IPCTNL_MSG_CT_*: an entry of the connection tracking table, as far as it is needed to know it and to delete it.
 *
 * Source: linux/netfilter/nfnetlink.h, struct nfgenmsg { u8 family; u8 version; be16 res_id }; CTA_*.
 */
export interface ConntrackMessage {
  /** AF_INET or AF_INET6. */
  readonly family: number;
  /** The first packet's direction, as the sender sent it. */
  readonly original?: ConntrackTuple;
  /** The direction of the answers, as they arrive; it differs from the original reversed where there is NAT. */
  readonly reply?: ConntrackTuple;
  /** IPS_*. */
  readonly status?: number;
  /** Units: seconds. */
  readonly timeout?: number;
  /** Tells this entry from a later one with the same tuples. */
  readonly id?: number;
  /** Zone of both directions. */
  readonly zone?: number;
}

const NFGENMSG_BYTES = 4;

const ADDRESSES: FieldTable<ConntrackTuple> = new FieldTable<ConntrackTuple>([
  field("src", c.CTA_IP_V4_SRC, ip4),
  field("dst", c.CTA_IP_V4_DST, ip4),
  field("src", c.CTA_IP_V6_SRC, ip6),
  field("dst", c.CTA_IP_V6_DST, ip6),
]);

const PROTOCOL: FieldTable<ConntrackTuple> = new FieldTable<ConntrackTuple>([
  field("protocol", c.CTA_PROTO_NUM, u8),
  field("srcPort", c.CTA_PROTO_SRC_PORT, u16BE),
  field("dstPort", c.CTA_PROTO_DST_PORT, u16BE),
  field("icmpID", c.CTA_PROTO_ICMP_ID, u16BE),
  field("icmpType", c.CTA_PROTO_ICMP_TYPE, u8),
  field("icmpCode", c.CTA_PROTO_ICMP_CODE, u8),
  field("icmpv6ID", c.CTA_PROTO_ICMPV6_ID, u16BE),
  field("icmpv6Type", c.CTA_PROTO_ICMPV6_TYPE, u8),
  field("icmpv6Code", c.CTA_PROTO_ICMPV6_CODE, u8),
]);

const tuple: Codec<ConntrackTuple> = {
  read(attributes) {
    const into: { src?: IP; dst?: IP; zone?: number } = {};
    const nested = attributes.nested();
    while (nested.next()) {
      if (nested.type === c.CTA_TUPLE_IP) ADDRESSES.readAll(nested.nested(), into);
      else if (nested.type === c.CTA_TUPLE_PROTO) PROTOCOL.readAll(nested.nested(), into);
      else if (nested.type === c.CTA_TUPLE_ZONE) into.zone = nested.u16BE();
    }
    const { src, dst } = into;
    return src === undefined || dst === undefined ? undefined : { ...into, src, dst };
  },
  write(w, type, value) {
    w.attrNested(type, () => {
      w.attrNested(c.CTA_TUPLE_IP, () => ADDRESSES.write(w, value));
      w.attrNested(c.CTA_TUPLE_PROTO, () => PROTOCOL.write(w, value));
      if (value.zone !== undefined) w.attrU16BE(c.CTA_TUPLE_ZONE, value.zone);
    });
  },
};

const FIELDS: FieldTable<ConntrackMessage> = new FieldTable<ConntrackMessage>([
  field("original", c.CTA_TUPLE_ORIG, tuple),
  field("reply", c.CTA_TUPLE_REPLY, tuple),
  field("status", c.CTA_STATUS, u32BE),
  field("timeout", c.CTA_TIMEOUT, u32BE),
  field("id", c.CTA_ID, u32BE),
  field("zone", c.CTA_ZONE, u16BE),
]);

/** Appends nfgenmsg and attributes. */
export function encodeConntrack(w: MessageWriter, entry: ConntrackMessage): void {
  w.u8(entry.family);
  w.u8(c.NFNETLINK_V0);
  w.u16(0);
  FIELDS.write(w, entry);
}

/** Reads the payload of IPCTNL_MSG_CT_NEW or IPCTNL_MSG_CT_DELETE. @throws DecodeError */
export function decodeConntrack(payload: Uint8Array): ConntrackMessage {
  const view = headerView(payload, NFGENMSG_BYTES, "nfgenmsg");
  const entry: ConntrackMessage = { family: view.getUint8(0) };
  FIELDS.readAll(new AttributeReader(payload, NFGENMSG_BYTES), entry);
  return entry;
}
