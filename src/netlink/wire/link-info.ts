// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../../net/ip.ts";
import type { AttributeReader, MessageWriter } from "./attribute.ts";
import { bool8, type Codec, FieldTable, field, ip4, ip6, u8, u16, u16BE, u32 } from "./codec.ts";
import * as c from "./constants.ts";
import { decodeIfInfo, encodeIfInfo, type IfInfo } from "./ifinfo.ts";

/** IFLA_LINKINFO of the kinds that this project makes; any other kind keeps its name and nothing else. */
export type LinkInfo = VethInfo | VXLANInfo | IPIPInfo | BridgeInfo | { readonly kind: "other"; readonly name: string };

/** The kernel takes the peer in a request and never tells it back: `link` and `linkNetnsID` name it then. */
export interface VethInfo {
  readonly kind: "veth";
  readonly peer?: IfInfo;
}

/** Source: linux/if_link.h, IFLA_VXLAN_*. */
export interface VXLANInfo {
  readonly kind: "vxlan";
  /** VXLAN network identifier. */
  readonly id?: number;
  /** Default remote, or multicast group. */
  readonly group?: IP;
  readonly local?: IP;
  /** Underlying device by ifindex. */
  readonly link?: number;
  /** UDP destination port. */
  readonly port?: number;
  readonly ttl?: number;
  readonly tos?: number;
  readonly learning?: boolean;
  /** Units: seconds. */
  readonly ageing?: number;
  readonly limit?: number;
  readonly proxy?: boolean;
  readonly rsc?: boolean;
  readonly l2miss?: boolean;
  readonly l3miss?: boolean;
  readonly udpChecksum?: boolean;
  readonly udpZeroChecksum6Tx?: boolean;
  readonly udpZeroChecksum6Rx?: boolean;
}

/** IPv4 in IPv4. The kernel tells "any address" as 0.0.0.0, which is left out here. Source: linux/if_tunnel.h, IFLA_IPTUN_*. */
export interface IPIPInfo {
  readonly kind: "ipip";
  readonly local?: IP;
  /** Absent: each route says where its packets go. */
  readonly remote?: IP;
  readonly ttl?: number;
  readonly pathMTUDiscovery?: boolean;
}

/** Source: linux/if_link.h, IFLA_BR_*. Times are in clock ticks (USER_HZ, 100 a second). */
export interface BridgeInfo {
  readonly kind: "bridge";
  readonly forwardDelay?: number;
  readonly helloTime?: number;
  readonly maxAge?: number;
  readonly ageingTime?: number;
  readonly stpState?: number;
  readonly priority?: number;
  readonly vlanFiltering?: boolean;
  readonly groupForwardMask?: number;
  readonly multicastSnooping?: boolean;
}

const VXLAN: FieldTable<VXLANInfo> = new FieldTable<VXLANInfo>([
  field("id", c.IFLA_VXLAN_ID, u32),
  field("group", c.IFLA_VXLAN_GROUP, ip4),
  field("group", c.IFLA_VXLAN_GROUP6, ip6),
  field("local", c.IFLA_VXLAN_LOCAL, ip4),
  field("local", c.IFLA_VXLAN_LOCAL6, ip6),
  field("link", c.IFLA_VXLAN_LINK, u32),
  field("port", c.IFLA_VXLAN_PORT, u16BE),
  field("ttl", c.IFLA_VXLAN_TTL, u8),
  field("tos", c.IFLA_VXLAN_TOS, u8),
  field("learning", c.IFLA_VXLAN_LEARNING, bool8),
  field("ageing", c.IFLA_VXLAN_AGEING, u32),
  field("limit", c.IFLA_VXLAN_LIMIT, u32),
  field("proxy", c.IFLA_VXLAN_PROXY, bool8),
  field("rsc", c.IFLA_VXLAN_RSC, bool8),
  field("l2miss", c.IFLA_VXLAN_L2MISS, bool8),
  field("l3miss", c.IFLA_VXLAN_L3MISS, bool8),
  field("udpChecksum", c.IFLA_VXLAN_UDP_CSUM, bool8),
  field("udpZeroChecksum6Tx", c.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, bool8),
  field("udpZeroChecksum6Rx", c.IFLA_VXLAN_UDP_ZERO_CSUM6_RX, bool8),
]);

/** 0.0.0.0 stands for none. */
const someIP4: Codec<IP> = { ...ip4, read: (a) => ip4.read(a) || undefined };

const IPIP: FieldTable<IPIPInfo> = new FieldTable<IPIPInfo>([
  field("local", c.IFLA_IPTUN_LOCAL, someIP4),
  field("remote", c.IFLA_IPTUN_REMOTE, someIP4),
  field("ttl", c.IFLA_IPTUN_TTL, u8),
  field("pathMTUDiscovery", c.IFLA_IPTUN_PMTUDISC, bool8),
]);

const BRIDGE: FieldTable<BridgeInfo> = new FieldTable<BridgeInfo>([
  field("forwardDelay", c.IFLA_BR_FORWARD_DELAY, u32),
  field("helloTime", c.IFLA_BR_HELLO_TIME, u32),
  field("maxAge", c.IFLA_BR_MAX_AGE, u32),
  field("ageingTime", c.IFLA_BR_AGEING_TIME, u32),
  field("stpState", c.IFLA_BR_STP_STATE, u32),
  field("priority", c.IFLA_BR_PRIORITY, u16),
  field("vlanFiltering", c.IFLA_BR_VLAN_FILTERING, bool8),
  field("groupForwardMask", c.IFLA_BR_GROUP_FWD_MASK, u16),
  field("multicastSnooping", c.IFLA_BR_MCAST_SNOOPING, bool8),
]);

/** Appends the contents of IFLA_LINKINFO. */
export function encodeLinkInfo(w: MessageWriter, info: LinkInfo): void {
  w.attrString(c.IFLA_INFO_KIND, info.kind === "other" ? info.name : info.kind);
  if (info.kind === "vxlan") w.attrNested(c.IFLA_INFO_DATA, () => VXLAN.write(w, info));
  else if (info.kind === "ipip") w.attrNested(c.IFLA_INFO_DATA, () => IPIP.write(w, info));
  else if (info.kind === "bridge") w.attrNested(c.IFLA_INFO_DATA, () => BRIDGE.write(w, info));
  else if (info.kind === "veth" && info.peer !== undefined) {
    const { peer } = info;
    w.attrNested(c.IFLA_INFO_DATA, () => w.attrNested(c.VETH_INFO_PEER, () => encodeIfInfo(w, peer)));
  }
}

/** Undefined when the kind is missing: IFLA_LINKINFO then only tells of a bridge port. @throws DecodeError */
export function decodeLinkInfo(attributes: AttributeReader): LinkInfo | undefined {
  let name: string | undefined;
  let data: AttributeReader | undefined;
  while (attributes.next()) {
    if (attributes.type === c.IFLA_INFO_KIND) name = attributes.string();
    else if (attributes.type === c.IFLA_INFO_DATA) data = attributes.nested();
  }
  switch (name) {
    case undefined:
      return undefined;
    case "veth":
      return decodeVeth(data);
    case "vxlan": {
      const info: VXLANInfo = { kind: "vxlan" };
      if (data !== undefined) VXLAN.readAll(data, info);
      return info;
    }
    case "ipip": {
      const info: IPIPInfo = { kind: "ipip" };
      if (data !== undefined) IPIP.readAll(data, info);
      return info;
    }
    case "bridge": {
      const info: BridgeInfo = { kind: "bridge" };
      if (data !== undefined) BRIDGE.readAll(data, info);
      return info;
    }
    default:
      return { kind: "other", name };
  }
}

function decodeVeth(data: AttributeReader | undefined): VethInfo {
  while (data?.next()) {
    if (data.type !== c.VETH_INFO_PEER) continue;
    // A peer has no kind of its own, which also bounds the recursion on hostile bytes.
    return { kind: "veth", peer: decodeIfInfo(data.bytes()) };
  }
  return { kind: "veth" };
}
