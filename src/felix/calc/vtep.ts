// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import type { Node } from "../../crds/core.ts";
import { type Family, familyOf, type IP, parseIP } from "../../net/ip.ts";
import { type MAC, macFromBytes, parseMAC } from "../../net/mac.ts";

/** The end of a node's VXLAN tunnels, as everybody may read it in the node's annotations. */
export interface TunnelEnd {
  /** The address of the VXLAN device: the gateway of every route to this node. */
  readonly ip: IP;
  readonly mac: MAC;
}

/** By family of the pods. Source: calico-interop 4.6. */
export const TUNNEL_ADDRESS_ANNOTATIONS: Readonly<Record<Family, string>> = {
  4: "projectcalico.org/IPv4VXLANTunnelAddr",
  6: "projectcalico.org/IPv6VXLANTunnelAddr",
};

/** Of the IP-in-IP device; nobody but the node itself and IPAM needs it. Source: calico-interop 4.6. */
export const IPIP_ADDRESS_ANNOTATION = "projectcalico.org/IPv4IPIPTunnelAddr";

/** Absent on Linux, unless somebody wants another MAC than the derived one. Source: calico-interop 4.6. */
export const TUNNEL_MAC_ANNOTATIONS: Readonly<Record<Family, string>> = {
  4: "projectcalico.org/VXLANTunnelMACAddr",
  6: "projectcalico.org/VXLANTunnelMACAddrV6",
};

/**
 * Reads a node's end; undefined while it has no tunnel address. What is malformed counts as absent, and its text is added
 * to the list.
 */
export function tunnelEndOf(node: Node, family: Family, malformed: string[]): TunnelEnd | undefined {
  const ip = read(node, TUNNEL_ADDRESS_ANNOTATIONS[family], malformed, (text) => addressOf(text, family));
  if (ip === undefined) return undefined;
  const mac = read(node, TUNNEL_MAC_ANNOTATIONS[family], malformed, parseMAC);
  return { ip, mac: mac ?? derivedMAC(node.metadata.name, family) };
}

/** Reads a node's address in IP-in-IP, as above. */
export function ipipAddressOf(node: Node, malformed: string[]): IP | undefined {
  return read(node, IPIP_ADDRESS_ANNOTATION, malformed, (text) => addressOf(text, 4));
}

export function sameTunnelEnd(a: TunnelEnd | undefined, b: TunnelEnd | undefined): boolean {
  return a?.ip === b?.ip && a?.mac === b?.mac;
}

/** The MAC that all nodes derive from a node's name, so that nobody has to write it down. Source: calico-interop 4.4. */
export function derivedMAC(nodeName: string, family: Family): MAC {
  const digest = createHash("sha1")
    .update(family === 4 ? nodeName : `${nodeName}-v6`)
    .digest();
  return macFromBytes(Uint8Array.of(0x66, ...digest.subarray(0, 5)));
}

function read<T>(node: Node, key: string, malformed: string[], parse: (text: string) => T): T | undefined {
  const text = node.metadata.annotations?.[key];
  if (text === undefined || text === "") return undefined;
  try {
    return parse(text);
  } catch {
    malformed.push(`${key} ${text}`);
    return undefined;
  }
}

function addressOf(text: string, family: Family): IP {
  const ip = parseIP(text);
  if (familyOf(ip) !== family) throw new SyntaxError(`Not an IPv${family} address: ${text}`);
  return ip;
}
