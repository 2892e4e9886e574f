// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../../net/ip.ts";
import type { MAC } from "../../net/mac.ts";
import { AttributeReader, LITTLE_ENDIAN, type MessageWriter } from "./attribute.ts";
import { FieldTable, field, headerView, ip, mac, u8, u16, u16BE, u32 } from "./codec.ts";
import * as c from "./constants.ts";

/**
 * RTM_*NEIGH: an ARP or NDP entry, or with AF_BRIDGE a forwarding (FDB) entry of a bridge port or a VXLAN device.
 *
 * Source: linux/neighbour.h, struct ndmsg { u8 family; u8 pad; u16 pad; s32 ifindex; u16 state; u8 flags; u8 type };
 * NDA_*.
 */
export interface NeighMessage {
  /** AF_INET, AF_INET6 or AF_BRIDGE. */
  readonly family: number;
  readonly index: number;
  /** NUD_*. */
  readonly state: number;
  /** NTF_*; SELF addresses the device itself (VXLAN's FDB), MASTER its bridge. */
  readonly flags: number;
  /** RTN_* of the entry's address, as the kernel reports it; 0 in requests. */
  readonly type: number;
  /** The neighbour's address; in a VXLAN FDB the remote tunnel end. */
  readonly dst?: IP;
  readonly linkAddress?: MAC;
  readonly vlan?: number;
  /** UDP port of the remote tunnel end, when not the device's own. */
  readonly port?: number;
  readonly vni?: number;
  /** Device through which the remote tunnel end is reached. */
  readonly viaIndex?: number;
  readonly master?: number;
  /** RTPROT_*: who made it. */
  readonly protocol?: number;
}

const NDMSG_BYTES = 12;

const FIELDS: FieldTable<NeighMessage> = new FieldTable<NeighMessage>([
  field("dst", c.NDA_DST, ip),
  field("linkAddress", c.NDA_LLADDR, mac),
  field("vlan", c.NDA_VLAN, u16),
  field("port", c.NDA_PORT, u16BE),
  field("vni", c.NDA_VNI, u32),
  field("viaIndex", c.NDA_IFINDEX, u32),
  field("master", c.NDA_MASTER, u32),
  field("protocol", c.NDA_PROTOCOL, u8),
]);

/** Appends ndmsg and attributes. */
export function encodeNeigh(w: MessageWriter, neigh: NeighMessage): void {
  w.u8(neigh.family);
  w.u8(0);
  w.u16(0);
  w.u32(neigh.index);
  w.u16(neigh.state);
  w.u8(neigh.flags);
  w.u8(neigh.type);
  FIELDS.write(w, neigh);
}

/** Reads the payload of RTM_NEWNEIGH or RTM_DELNEIGH. @throws DecodeError */
export function decodeNeigh(payload: Uint8Array): NeighMessage {
  const view = headerView(payload, NDMSG_BYTES, "ndmsg");
  const neigh: NeighMessage = {
    family: view.getUint8(0),
    index: view.getUint32(4, LITTLE_ENDIAN),
    state: view.getUint16(8, LITTLE_ENDIAN),
    flags: view.getUint8(10),
    type: view.getUint8(11),
  };
  FIELDS.readAll(new AttributeReader(payload, NDMSG_BYTES), neigh);
  return neigh;
}
