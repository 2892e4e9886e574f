// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { selectsNode } from "../../ipam/pools.ts";
import { blockOf, type CIDR, cidrContains, ipAt, ordinalOf, parseCIDR } from "../../net/cidr.ts";
import { type Family, familyOf, type IP, parseIP } from "../../net/ip.ts";
import type { Labels } from "../../selector/selector.ts";
import { IPIP_ADDRESS_ANNOTATION, TUNNEL_ADDRESS_ANNOTATIONS } from "./vtep.ts";

/** Under what a node's tunnel address is allocated. */
export interface TunnelClaim {
  readonly handleID: string;
  readonly attributes: { readonly node: string; readonly type: string };
}

/** A kind of tunnel, for which each node needs an address of its own. */
export interface TunnelKind {
  /** In words. */
  readonly name: string;
  readonly family: Family;
  /** What a pool has to ask for. */
  readonly mode: "ipipMode" | "vxlanMode";
  /** Where the Node says it. */
  readonly annotation: string;
  readonly handle: string;
  readonly type: string;
}

/** Calico's handles and attributes, to the letter: its collector frees by them. Source: calico-interop 1.8, 4.5 (order), 4.6. */
export const TUNNEL_KINDS: readonly TunnelKind[] = [
  {
    name: "IP-in-IP",
    family: 4,
    mode: "ipipMode",
    annotation: IPIP_ADDRESS_ANNOTATION,
    handle: "ipip-tunnel-addr",
    type: "ipipTunnelAddress",
  },
  {
    name: "IPv4 VXLAN",
    family: 4,
    mode: "vxlanMode",
    annotation: TUNNEL_ADDRESS_ANNOTATIONS[4],
    handle: "vxlan-tunnel-addr",
    type: "vxlanTunnelAddress",
  },
  {
    name: "IPv6 VXLAN",
    family: 6,
    mode: "vxlanMode",
    annotation: TUNNEL_ADDRESS_ANNOTATIONS[6],
    handle: "vxlan-v6-tunnel-addr",
    type: "vxlanV6TunnelAddress",
  },
];

export function tunnelClaim(node: string, { handle, type }: TunnelKind): TunnelClaim {
  return { handleID: `${handle}-${node}`, attributes: { node, type } };
}

/** The pools out of which a node's tunnel address may come. Source: calico-interop 4.5. */
export function tunnelPools(
  pools: readonly EffectiveIPPool[],
  { family, mode }: TunnelKind,
  labels: Labels | undefined,
): readonly EffectiveIPPool[] {
  return pools.filter(
    (pool) =>
      pool.enabled &&
      pool.family === family &&
      pool[mode] !== "Never" &&
      pool.allowedUses.includes("Tunnel") &&
      selectsNode(pool, labels) === true,
  );
}

/**
 * Whether any pool asks for the tunnel, be it disabled, being deleted or of other nodes: its pods go on running, and are
 * reached through it.
 */
export function needsTunnel(pools: readonly EffectiveIPPool[], { family, mode }: TunnelKind): boolean {
  return pools.some((pool) => pool.family === family && pool[mode] !== "Never");
}

/**
 * The tunnel address of a node whose pods have their addresses out of its podCIDR: the first after the network's own, which
 * host-local keeps for gateways. Undefined where there is no podCIDR of the family, or no pool asks for the tunnel.
 *
 * Source: calico-interop 4.5 (usePodCIDR).
 */
export function staticTunnelAddress(node: Node, kind: TunnelKind, pools: readonly EffectiveIPPool[]): IP | undefined {
  if (!needsTunnel(pools, kind)) return undefined;
  const cidrs = (node.spec?.podCIDRs ?? []).map(parseCIDR);
  const cidr = cidrs.find(({ network }) => familyOf(network) === kind.family);
  return cidr && ipAt(cidr, 1);
}

/** The address that the Node's annotation has; what is none of the family counts as absent. */
export function annotatedAddress(node: Node, { annotation, family }: TunnelKind): IP | undefined {
  const text = node.metadata.annotations?.[annotation];
  if (text === undefined || text === "") return undefined;
  try {
    const ip = parseIP(text);
    return familyOf(ip) === family ? ip : undefined;
  } catch {
    return undefined;
  }
}

/** The Node with another tunnel address in its annotation, or without one. */
export function withTunnelAddress(node: Node, { annotation: key }: TunnelKind, text: string | undefined): Node {
  const { [key]: _old, ...annotations } = node.metadata.annotations ?? {};
  const next = text === undefined ? annotations : { ...annotations, [key]: text };
  return { ...node, metadata: { ...node.metadata, annotations: next } };
}

/** The block that an address is out of, if any pool has it, be that disabled. */
export function blockAround(pools: readonly EffectiveIPPool[], ip: IP): CIDR | undefined {
  const around = pools.filter(({ cidr }) => cidrContains(cidr, ip));
  const [pool] = around.toSorted((a, b) => b.cidr.prefixLength - a.cidr.prefixLength);
  return pool && blockOf(ip, pool.blockSize);
}

/** Who has an address, says its block. */
export type Holding =
  | { readonly kind: "free" | "ours" | "others" | "cooling" }
  /** By nobody that is named: releases of long ago wrote tunnel addresses so. */
  | { readonly kind: "nameless"; readonly block: string; readonly ordinal: number; readonly sequenceNumber: bigint };

export function holdingOf(block: IPAMBlock | undefined, ip: IP, { attributes }: TunnelClaim): Holding {
  if (block === undefined) return { kind: "free" };
  const { spec } = block;
  const ordinal = ordinalOf(parseCIDR(spec.cidr), ip);
  const index = spec.allocations[ordinal];
  if (index === null || index === undefined) return { kind: "free" };
  const { handle_id, secondary = {}, releasedAt } = spec.attributes[index] ?? {};
  if (releasedAt !== undefined) return { kind: "cooling" };
  if (secondary["node"] === attributes.node && secondary["type"] === attributes.type) return { kind: "ours" };
  if (handle_id !== undefined || Object.keys(secondary).length > 0) return { kind: "others" };
  const sequenceNumber = spec.sequenceNumberForAllocation[String(ordinal)] ?? 0n;
  return { kind: "nameless", block: block.metadata.name, ordinal, sequenceNumber };
}

/** What is to be done about a tunnel address. */
export type TunnelPlan =
  /** It is as it should be. */
  | { readonly kind: "keep" }
  /** Release by handle, then take another one and write it down. */
  | { readonly kind: "assign"; readonly pools: readonly string[] }
  /** Put our name to the address that we have. */
  | { readonly kind: "adopt"; readonly ip: IP; readonly holding: Extract<Holding, { kind: "nameless" }> }
  /** Write down what follows from the node's podCIDR, which needs no IPAM, and release by handle. */
  | { readonly kind: "static"; readonly ip: IP }
  /** Nobody needs one: clear the annotation, and release by handle. */
  | { readonly kind: "clear" }
  | { readonly kind: "fail"; readonly reason: string };

/**
 * The table of calico-interop 4.5, but for one row: where no pool is eligible and one asks for the tunnel all the same, the
 * address stays. Without it, to disable a pool would cut off all pods that it has.
 *
 * @param holding of the annotated address
 */
export function planTunnelAddress(
  annotated: IP | undefined,
  holding: Holding,
  { eligible, isNeeded }: { readonly eligible: readonly EffectiveIPPool[]; readonly isNeeded: boolean },
): TunnelPlan {
  if (eligible.length === 0) {
    if (annotated === undefined || !isNeeded) return { kind: "clear" };
    if (holding.kind === "ours") return { kind: "keep" };
    return { kind: "fail", reason: "it is not held in IPAM any more, and no enabled pool has another one" };
  }
  const assign = { kind: "assign", pools: eligible.map(({ name }) => name) } as const;
  if (annotated === undefined) return assign;
  switch (holding.kind) {
    case "ours":
      return eligible.some(({ cidr }) => cidrContains(cidr, annotated)) ? { kind: "keep" } : assign;
    case "nameless":
      return { kind: "adopt", ip: annotated, holding };
    case "cooling":
      return { kind: "fail", reason: "it was released a moment ago and cools down" };
    case "free":
    case "others":
      return assign;
    default:
      return holding satisfies never;
  }
}
