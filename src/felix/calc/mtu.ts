// SPDX-License-Identifier: Apache-2.0
import type { Family } from "../../net/ip.ts";
import { WORKLOAD_IFACE_PREFIX } from "../ownership.ts";
import type { KernelLink } from "../ports.ts";
import type { EncapsulationOf } from "./encapsulations.ts";
import type { Finding } from "./findings.ts";
import type { Encapsulation } from "./pools.ts";

/** What the agent is told about MTUs. Names are those of Calico's FelixConfiguration. */
export interface MTUSettings {
  /** Names of the links that lead to other nodes. */
  readonly mtuIfacePattern: RegExp;
  /** MTU of the VXLAN device, whatever the host has; absent: computed. Units: bytes. */
  readonly vxlanMTU?: number;
  readonly vxlanMTUV6?: number;
  /** Of the IP-in-IP device. */
  readonly ipipMTU?: number;
}

/** Calico's default. Source: calico-interop 4.4. */
export const MTU_IFACE_PATTERN = "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)";

/** What each encapsulation puts before a packet, by family of the pods. Units: bytes. Source: calico-interop 4.4. */
export const OVERHEAD_BYTES: Readonly<Record<Encapsulation, Readonly<Record<Family, number>>>> = {
  none: { 4: 0, 6: 0 },
  ipip: { 4: 20, 6: 20 },
  // Outer IP header, UDP 8, VXLAN 8, inner Ethernet 14.
  vxlan: { 4: 50, 6: 70 },
};

/** Where no link has ever been found. Source: calico-interop 4.4. */
export const FALLBACK_MTU_BYTES = 1460;

/**
 * The smallest MTU of the links between nodes: those that are up and match the pattern, and those that carry this
 * node's own addresses, whatever their names (a bond, a bridge; in this Calico goes by the pattern alone). Undefined when there is none.
 */
export function hostMTU(
  links: Iterable<KernelLink>,
  pattern: RegExp,
  parents: readonly ({ readonly ifIndex: number } | undefined)[],
): number | undefined {
  const carriers = new Set(parents.map((parent) => parent?.ifIndex));
  const mtus = [...links]
    .filter(({ ifIndex, name, up }) => up && (carriers.has(ifIndex) || pattern.test(name)))
    .map(({ mtuBytes }) => mtuBytes);
  return mtus.length === 0 ? undefined : Math.min(...mtus);
}

/** MTU of what travels in an encapsulation. A configured one is taken as it is. */
export function tunnelMTU(
  hostBytes: number,
  encapsulation: Encapsulation,
  family: Family,
  settings: MTUSettings,
): number {
  const field = SETTING_OF[`${encapsulation} ${family}`];
  return (field && settings[field]) ?? hostBytes - OVERHEAD_BYTES[encapsulation][family];
}

const SETTING_OF: Partial<Readonly<Record<EncapsulationOf, "vxlanMTU" | "vxlanMTUV6" | "ipipMTU">>> = {
  "vxlan 4": "vxlanMTU",
  "vxlan 6": "vxlanMTUV6",
  "ipip 4": "ipipMTU",
};

/**
 * MTU of pods: it fits every encapsulation that any pool uses, since a pod speaks to pods of all pools. What is configured counts
 * even where the links seem to carry less. Source: calico-interop 4.4.
 */
export function podMTU(hostBytes: number, encapsulations: Iterable<EncapsulationOf>, settings: MTUSettings): number {
  const mtus = [...encapsulations].map((text) => tunnelMTU(hostBytes, ...partsOf(text), settings));
  return mtus.length === 0 ? hostBytes : Math.min(...mtus);
}

/** Configured MTUs of encapsulations in use that the links do not carry, as far as these tell. */
export function largeTunnels(
  hostBytes: number,
  encapsulations: Iterable<EncapsulationOf>,
  settings: MTUSettings,
): readonly Finding[] {
  return [...encapsulations].flatMap((text) => {
    const field = SETTING_OF[text];
    const [encapsulation, family] = partsOf(text);
    const fits = hostBytes - OVERHEAD_BYTES[encapsulation][family];
    if (field === undefined || (settings[field] ?? 0) <= fits) return [];
    const what = `${field} is ${settings[field]}, and what fits the links between nodes is ${fits}`;
    const step = `large packets to other nodes are lost, unless these links carry more than their MTU says; correct ${field}, or mtuIfacePattern`;
    return [{ code: "TunnelMTUTooLarge", subject: field, message: `${what}: ${step}` } as const];
  });
}

function partsOf(text: EncapsulationOf): [Encapsulation, Family] {
  const [encapsulation, family] = text.split(" ") as [Encapsulation, string]; // As the type says.
  return [encapsulation, family === "6" ? 6 : 4];
}

/** Pods that were made when the MTU was larger, or whose network configuration says so. @param mtuBytes 0: not known */
export function largePods(links: Iterable<KernelLink>, mtuBytes: number): readonly Finding[] {
  if (mtuBytes === 0) return [];
  const large = [...links].filter((link) => link.name.startsWith(WORKLOAD_IFACE_PREFIX) && link.mtuBytes > mtuBytes);
  const [first] = large;
  if (first === undefined) return [];
  const more = large.length > 1 ? ` and ${large.length - 1} more have` : " has";
  const what = `Pod interface ${first.name}${more} an MTU of ${first.mtuBytes}, and ${mtuBytes} fits between nodes`;
  const step = "large packets to other nodes are lost; delete these pods, so that they are made anew";
  return [{ code: "PodMTUTooLarge", subject: String(mtuBytes), message: `${what}: ${step}` }];
}
