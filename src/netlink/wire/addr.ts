// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../../net/ip.ts";
import { AttributeReader, LITTLE_ENDIAN, type MessageWriter } from "./attribute.ts";
import { FieldTable, field, headerView, ip, string, u8, u32 } from "./codec.ts";
import * as c from "./constants.ts";

/**
 * RTM_*ADDR.
 *
 * Source: linux/if_addr.h, struct ifaddrmsg { u8 family; u8 prefixlen; u8 flags; u8 scope; u32 index }; IFA_*.
 */
export interface AddrMessage {
  /** AF_INET, AF_INET6, or AF_UNSPEC to list both. */
  readonly family: number;
  readonly index: number;
  readonly prefixLength: number;
  /** RT_SCOPE_*. */
  readonly scope: number;
  /** IFA_F_*, all 32 bits. */
  readonly flags: number;
  /** The prefix's address: on a point-to-point link the far end, else the same as `local`. IPv6 uses only this one. */
  readonly address?: IP;
  readonly local?: IP;
  readonly broadcast?: IP;
  /** A group that the interface has joined; in answers to RTM_GETMULTICAST only. */
  readonly multicast?: IP;
  readonly label?: string;
  /** Metric of the prefix route. */
  readonly routeMetric?: number;
  /** IFAPROT_*: who made it. */
  readonly protocol?: number;
}

const IFADDRMSG_BYTES = 8;

const FIELDS: FieldTable<AddrMessage> = new FieldTable<AddrMessage>([
  field("address", c.IFA_ADDRESS, ip),
  field("local", c.IFA_LOCAL, ip),
  field("broadcast", c.IFA_BROADCAST, ip),
  field("multicast", c.IFA_MULTICAST, ip),
  field("label", c.IFA_LABEL, string),
  field("routeMetric", c.IFA_RT_PRIORITY, u32),
  field("protocol", c.IFA_PROTO, u8),
]);

/** Appends ifaddrmsg and attributes. Flags beyond the header's 8 bits travel in IFA_FLAGS, which wins in the kernel. */
export function encodeAddr(w: MessageWriter, addr: AddrMessage): void {
  w.u8(addr.family);
  w.u8(addr.prefixLength);
  w.u8(addr.flags & 0xff);
  w.u8(addr.scope);
  w.u32(addr.index);
  FIELDS.write(w, addr);
  if (addr.flags > 0xff) w.attrU32(c.IFA_FLAGS, addr.flags);
}

/** Reads the payload of RTM_NEWADDR or RTM_DELADDR. @throws DecodeError */
export function decodeAddr(payload: Uint8Array): AddrMessage {
  const view = headerView(payload, IFADDRMSG_BYTES, "ifaddrmsg");
  const addr: { -readonly [K in keyof AddrMessage]: AddrMessage[K] } = {
    family: view.getUint8(0),
    prefixLength: view.getUint8(1),
    flags: view.getUint8(2),
    scope: view.getUint8(3),
    index: view.getUint32(4, LITTLE_ENDIAN),
  };
  const attributes = new AttributeReader(payload, IFADDRMSG_BYTES);
  while (attributes.next()) {
    if (attributes.type === c.IFA_FLAGS) addr.flags = attributes.u32();
    else FIELDS.read(attributes, addr);
  }
  return addr;
}
