// SPDX-License-Identifier: Apache-2.0
import type { MAC } from "../../net/mac.ts";
import { AttributeReader, LITTLE_ENDIAN, type MessageWriter } from "./attribute.ts";
import { FieldTable, field, headerView, mac, string, u8, u32 } from "./codec.ts";
import * as c from "./constants.ts";

/**
 * One link without its kind: all of a veth peer, and the base of RTM_*LINK. Absent properties are absent attributes.
 *
 * Source: linux/rtnetlink.h, struct ifinfomsg { u8 family; u8 pad; u16 type; s32 index; u32 flags; u32 change };
 * linux/if_link.h, IFLA_*.
 */
export interface IfInfo {
  /** AF_UNSPEC; AF_BRIDGE for bridge ports. */
  readonly family: number;
  /** ARPHRD_*, 1 is Ethernet; 0 in requests. */
  readonly hardwareType: number;
  /** 0 in requests that name the link otherwise. */
  readonly index: number;
  /** IFF_*. */
  readonly flags: number;
  /** Which of the flags a request changes. */
  readonly change: number;
  readonly name?: string;
  readonly mtu?: number;
  readonly address?: MAC;
  readonly group?: number;
  readonly alias?: string;
  readonly txQueueLength?: number;
  /** Bridge or bond that holds this link, by ifindex. */
  readonly master?: number;
  /** The link below, or the other end of a veth, by ifindex (in `linkNetnsID`, when that is set). */
  readonly link?: number;
  /** Namespace of `link`, as this namespace numbers others. */
  readonly linkNetnsID?: number;
  /** IF_OPER_*. */
  readonly operState?: number;
  /** Request only: create the link in the namespace of this open descriptor. */
  readonly netnsFD?: number;
  /** Request only: create the link in the namespace of this process. */
  readonly netnsPID?: number;
  readonly txQueues?: number;
  readonly rxQueues?: number;
  /** Request only: RTEXT_FILTER_* bits, what a reply leaves out or adds. */
  readonly extMask?: number;
}

const IFINFOMSG_BYTES = 16;

const FIELDS: FieldTable<IfInfo> = new FieldTable<IfInfo>([
  field("name", c.IFLA_IFNAME, string),
  field("mtu", c.IFLA_MTU, u32),
  field("address", c.IFLA_ADDRESS, mac),
  field("group", c.IFLA_GROUP, u32),
  field("alias", c.IFLA_IFALIAS, string),
  field("txQueueLength", c.IFLA_TXQLEN, u32),
  field("master", c.IFLA_MASTER, u32),
  field("link", c.IFLA_LINK, u32),
  field("linkNetnsID", c.IFLA_LINK_NETNSID, u32),
  field("operState", c.IFLA_OPERSTATE, u8),
  field("netnsFD", c.IFLA_NET_NS_FD, u32),
  field("netnsPID", c.IFLA_NET_NS_PID, u32),
  field("txQueues", c.IFLA_NUM_TX_QUEUES, u32),
  field("rxQueues", c.IFLA_NUM_RX_QUEUES, u32),
  field("extMask", c.IFLA_EXT_MASK, u32),
]);

/** Appends ifinfomsg and attributes. */
export function encodeIfInfo(w: MessageWriter, link: IfInfo): void {
  w.u8(link.family);
  w.u8(0);
  w.u16(link.hardwareType);
  w.u32(link.index);
  w.u32(link.flags);
  w.u32(link.change);
  FIELDS.write(w, link);
}

/**
 * Reads ifinfomsg and the attributes that every link has; `onOther` sees each remaining attribute.
 *
 * @throws DecodeError
 */
export function decodeIfInfo(payload: Uint8Array, onOther?: (attributes: AttributeReader) => void): IfInfo {
  const view = headerView(payload, IFINFOMSG_BYTES, "ifinfomsg");
  const link: IfInfo = {
    family: view.getUint8(0),
    hardwareType: view.getUint16(2, LITTLE_ENDIAN),
    index: view.getUint32(4, LITTLE_ENDIAN),
    flags: view.getUint32(8, LITTLE_ENDIAN),
    change: view.getUint32(12, LITTLE_ENDIAN),
  };
  const attributes = new AttributeReader(payload, IFINFOMSG_BYTES);
  while (attributes.next()) {
    if (!FIELDS.read(attributes, link)) onOther?.(attributes);
  }
  return link;
}
