// SPDX-License-Identifier: Apache-2.0
import type { CIDR } from "../../net/cidr.ts";
import type { Family, IP } from "../../net/ip.ts";
import type { EncapsulationOverrides } from "../calc/encapsulations.ts";
import { VXLAN_DEFAULTS } from "../managers/vxlan-manager.ts";
import { IPIP_DEVICE, VXLAN_DEVICES } from "../ownership.ts";

/** What the agent is told about its packet filter. Names and meanings are those of Calico's FelixConfiguration. */
export interface FilterSettings extends TunnelSettings {
  /** False: nothing is masqueraded here, whatever the pools say. */
  readonly natOutgoing: boolean;
  /** Source ports of masqueraded TCP and UDP; absent: the kernel chooses. */
  readonly natPortRange?: { readonly min: number; readonly max: number };
  /** The source of what leaves the cluster in its family; absent: the address of the link it leaves by. */
  readonly natOutgoingAddress?: IP;
  /** What is not masqueraded: pods only, or nodes as well. */
  readonly natOutgoingExclusions: "IPPoolsOnly" | "IPPoolsAndHostIPs";
  /** Ports by a random number, so that two flows at once do not race for the same one. */
  readonly randomFully: boolean;
  /** Masquerade only what leaves by it, as `eth0` or `eth*`; absent: by any link. */
  readonly natOutgoingInterface?: string;
  /** Machines beside the nodes that may send encapsulated packets. */
  readonly externalNodes?: readonly CIDR[];
  /** Encapsulated packets that pods may send themselves; absent: none. */
  readonly tunnelsFromPods?: readonly Tunnel["name"][];
}

/** What it is told of tunnels. */
export interface TunnelSettings {
  /** @default 4789 */
  readonly vxlanPort?: number;
  /** Encapsulations that are on or off whatever the pools ask for. */
  readonly encapsulation?: EncapsulationOverrides;
}

/** Calico's default. Source: calico-interop 4.4. */
export const VXLAN_PORT: number = VXLAN_DEFAULTS.port;

/** An encapsulation of packets between nodes. */
export interface Tunnel {
  readonly name: "VXLAN" | "IPIP";
  readonly family: Family;
  readonly device: string;
  /** Tells its packets, in nft's words. */
  readonly match: string;
}

/** By family of the pool. Source: calico-interop 4.4. */
export const VXLAN: Readonly<Record<Family, Tunnel>> = { 4: vxlanTunnel(4), 6: vxlanTunnel(6) };

export function vxlanTunnel(family: Family, port: number = VXLAN_PORT): Tunnel {
  const match = `meta nfproto ipv${family} udp dport ${port}`;
  return { name: "VXLAN", family, device: VXLAN_DEVICES[family], match };
}

/** IANA's protocol number 4 is IPv4 in IPv4. */
export const IPIP: Tunnel = { name: "IPIP", family: 4, device: IPIP_DEVICE, match: "ip protocol 4" };
