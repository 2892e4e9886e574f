// SPDX-License-Identifier: Apache-2.0
import { WORKLOAD_IFACE_PREFIX } from "../../felix/ownership.ts";
import { AttributeReader, LITTLE_ENDIAN } from "../wire/attribute.ts";
import * as c from "../wire/constants.ts";
import type { NetlinkMessage } from "../wire/message.ts";

/** ifi_change of a link that was just registered. */
const ALL_FLAGS = 0xffffffff;
const IFINFOMSG_BYTES = 16;
const RTMSG_BYTES = 12;
/** struct netconfmsg is one byte, padded as all are. */
const NETCONFMSG_BYTES = 4;

export interface NewsFilterOptions {
  /** Of the conversations whose changes are our own. */
  readonly ownPortIDs: ReadonlySet<number>;
  /** The links whose neighbours and forwarding entries matter; a set that may grow. */
  readonly tunnels: ReadonlySet<number>;
}

/**
 * Says which of the kernel's notifications Felix has to hear of. Each one that passes costs it a listing of links or
 * routes, so what every ADD brings with it must not: a pod's link that is made and goes up for the first time, the route
 * that the wiring writes, and what IPv6 does by itself on a link that goes up.
 */
export class NewsFilter {
  readonly #options: NewsFilterOptions;
  /** Pods' links that were made and have not been up yet. */
  readonly #fresh = new Set<number>();

  constructor(options: NewsFilterOptions) {
    this.#options = options;
  }

  /** @throws DecodeError */
  passes({ type, portID, payload }: NetlinkMessage): boolean {
    switch (type) {
      case c.RTM_NEWROUTE:
      case c.RTM_DELROUTE:
        return !this.#options.ownPortIDs.has(portID) && isRouteOfInterest(payload);
      case c.RTM_NEWNEIGH:
      case c.RTM_DELNEIGH:
        // On other links every ARP answer would be one.
        return !this.#options.ownPortIDs.has(portID) && this.#options.tunnels.has(ifIndexOf(payload));
      case c.RTM_NEWADDR:
      case c.RTM_DELADDR:
        return !this.#options.ownPortIDs.has(portID) && !this.#isLinkLocal(payload);
      case c.RTM_NEWLINK:
        return this.#isLinkOfInterest(payload) && !this.#options.ownPortIDs.has(portID);
      case c.RTM_DELLINK:
        this.#fresh.delete(ifIndexOf(payload));
        return !this.#options.ownPortIDs.has(portID);
      case c.RTM_NEWNETCONF:
        return isSwitchedOff(payload);
      default:
        return true;
    }
  }

  /** Source: linux/if_addr.h, struct ifaddrmsg { u8 family; u8 prefixlen; u8 flags; u8 scope; u32 index }. */
  #isLinkLocal(payload: Uint8Array): boolean {
    return (
      payload[0] === c.AF_INET6 && payload[3] === c.RT_SCOPE_LINK && !this.#options.tunnels.has(ifIndexOf(payload))
    );
  }

  /**
   * Of a pod's link only going up or down matters, but for the first time up, of which Felix hears from the attachment. All
   * bits at once say that it was just made (dev.c, register_netdevice), none that its carrier changed.
   *
   * Source: linux/rtnetlink.h, struct ifinfomsg { u8 family; u8 pad; u16 type; s32 index; u32 flags; u32 change }.
   */
  #isLinkOfInterest(payload: Uint8Array): boolean {
    if (!linkName(payload).startsWith(WORKLOAD_IFACE_PREFIX)) return true;
    const view = new DataView(payload.buffer, payload.byteOffset);
    const [index, flags, change] = [
      ifIndexOf(payload),
      view.getUint32(8, LITTLE_ENDIAN),
      view.getUint32(12, LITTLE_ENDIAN),
    ];
    const isUp = (flags & c.IFF_UP) !== 0;
    if (change === ALL_FLAGS) {
      if (!isUp) this.#fresh.add(index);
      return false;
    }
    if ((change & c.IFF_UP) === 0) return false;
    return !(this.#fresh.delete(index) && isUp);
  }
}

/**
 * Forwarding of all links together; forwarding, proxy ARP or proxy NDP of one. A change tells of one setting alone. A link
 * that is new tells of all, with its proxies still off.
 */
function isSwitchedOff(payload: Uint8Array): boolean {
  const index = netconfIfIndexOf(payload);
  const forwarding = find(payload, NETCONFMSG_BYTES, c.NETCONFA_FORWARDING)?.i32();
  if (index === c.NETCONFA_IFINDEX_ALL) return forwarding === 0;
  const proxy = find(payload, NETCONFMSG_BYTES, c.NETCONFA_PROXY_NEIGH)?.i32();
  if (forwarding !== undefined && proxy !== undefined) return false;
  // What new links begin with has a negative index, too.
  return index > 0 && (forwarding ?? proxy) === 0;
}

/** NETCONFA_IFINDEX_ALL: the setting of all links together. */
export function netconfIfIndexOf(payload: Uint8Array): number {
  return find(payload, NETCONFMSG_BYTES, c.NETCONFA_IFINDEX)?.i32() ?? 0;
}

/** Source: linux/rtnetlink.h, struct rtmsg { u8 family; u8 dst_len; u8 src_len; u8 tos; u8 table; u8 protocol; … }. */
function isRouteOfInterest(payload: Uint8Array): boolean {
  const family = payload[0];
  const protocol = payload[5];
  if (payload[4] !== c.RT_TABLE_MAIN) return false;
  // Each link has the same, and what Felix writes never depends on it.
  return !(protocol === c.RTPROT_KERNEL && family === c.AF_INET6 && isLinkLocalRoute(payload));
}

function isLinkLocalRoute(payload: Uint8Array): boolean {
  const dst = find(payload, RTMSG_BYTES, c.RTA_DST)?.bytes();
  return dst?.[0] === 0xfe && ((dst[1] ?? 0) & 0xc0) === 0x80;
}

/** The name without the rest: the message has some forty attributes. */
function linkName(payload: Uint8Array): string {
  return find(payload, IFINFOMSG_BYTES, c.IFLA_IFNAME)?.string() ?? "";
}

function find(payload: Uint8Array, headerBytes: number, type: number): AttributeReader | undefined {
  const attributes = new AttributeReader(payload, headerBytes);
  while (attributes.next()) if (attributes.type === type) return attributes;
  return undefined;
}

/** It stands in the same place in struct ifinfomsg, ifaddrmsg and ndmsg. */
export function ifIndexOf(payload: Uint8Array): number {
  return new DataView(payload.buffer, payload.byteOffset).getUint32(4, LITTLE_ENDIAN);
}
