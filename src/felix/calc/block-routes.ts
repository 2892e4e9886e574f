// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import { type CIDR, cidrContains, cidrFamily, cidrSize, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { type Family, formatIP, type IP } from "../../net/ip.ts";
import type { WorkloadEndpoint } from "../ports.ts";
import type { EncapsulationOf } from "./encapsulations.ts";
import type { Note } from "./findings.ts";
import { addressOf, type NodeAddresses } from "./node-addresses.ts";
import type { Pool } from "./pools.ts";
import { TUNNEL_ADDRESS_ANNOTATIONS } from "./vtep.ts";

/** Where packets to a destination go, before anything is said in the kernel's terms. */
export interface Route {
  readonly dst: CIDR;
  readonly target:
    | { readonly kind: "workload"; readonly hostIface: string; readonly hostIfIndex: number }
    | { readonly kind: "blackhole" }
    /** As it is, over the link that carries this node's address. */
    | { readonly kind: "remote"; readonly node: string; readonly gateway: IP }
    /** In IP-in-IP, to the node's own address. */
    | { readonly kind: "ipip"; readonly node: string; readonly gateway: IP }
    /** In VXLAN, to the node's end of the tunnel. Without that, as packets went there before: the node may be about to get one. */
    | { readonly kind: "vxlan"; readonly node: string; readonly tunnelIP?: IP };
}

/** A confirmed BlockAffinity of a node. */
export interface BlockClaim {
  /** Name of the object. */
  readonly affinity: string;
  readonly node: string;
  readonly block: CIDR;
  /** RFC 3339, so that text order is time order; "" when unknown. */
  readonly createdAt: string;
}

/** Everything that is said about one destination. */
export interface Destination {
  readonly dst: CIDR;
  /** Shape: any order. */
  readonly claims: Iterable<BlockClaim>;
  /** Local pod interfaces with this address. Shape: any order. */
  readonly endpoints: Iterable<WorkloadEndpoint>;
  /** Nodes that use this address out of a block that is not theirs. Shape: any order. */
  readonly borrowers: Iterable<string>;
}

/** The state around one destination. */
export interface Surroundings {
  readonly localNode: string;
  node(name: string): NodeAddresses | undefined;
  poolOf(block: CIDR): Pool | undefined;
  /** Whether the address is the own address of any node. */
  isHostAddress(ip: IP): boolean;
  /** Whether a node's address is in this node's own subnet. */
  isSameSubnet(ip: IP): boolean;
  /** A claimed block of another size that holds this one. */
  coveringBlock(block: CIDR): CIDR | undefined;
  isEnabled(encapsulation: EncapsulationOf): boolean;
}

export interface Resolution {
  readonly route?: Route;
  readonly notes: readonly Note[];
}

const NOTHING: Resolution = { notes: [] };

/**
 * Reads an affinity as a claim; undefined for one that routes nothing: not confirmed, about to be deleted, or no
 * node's (virtual).
 *
 * Source: calico-interop 1.3, BlockAffinity.spec.
 * @throws SyntaxError when the CIDR is malformed
 */
export function claimOf(object: BlockAffinity): BlockClaim | undefined {
  const { cidr, deleted, node, state, type } = object.spec;
  if (deleted === "true" || (state !== "" && state !== "confirmed")) return undefined;
  if (type !== undefined && type !== "" && type !== "host") return undefined;
  return {
    affinity: object.metadata.name,
    node,
    block: parseCIDR(cidr),
    createdAt: object.metadata.creationTimestamp ?? "",
  };
}

/**
 * Decides the one route of a destination. Depends only on its arguments' content, never on their order, so every node
 * comes to the same answer.
 *
 * On equal prefixes a local pod comes before a borrowed address, and that before a block. Source: calico-interop 4.2.
 */
export function resolveDestination(destination: Destination, around: Surroundings): Resolution {
  const parts = [
    resolveWorkload(destination, around),
    resolveBorrowed(destination, around),
    resolveBlock(destination, around),
  ].filter((part) => part !== NOTHING);
  const [first = NOTHING, ...others] = parts;
  if (others.length === 0) return first;
  const route = parts.find((part) => part.route !== undefined)?.route;
  return { ...(route === undefined ? {} : { route }), notes: parts.flatMap(({ notes }) => notes) };
}

function resolveWorkload({ dst, endpoints }: Destination, around: Surroundings): Resolution {
  const [first, ...others] = endpoints;
  if (first === undefined) return NOTHING;
  const names = [first, ...others].map((e) => e.hostIface).toSorted();
  if (around.isHostAddress(dst.network)) {
    const detail = `Pod interface ${names.join(" and ")} has the address of a node; it gets no route`;
    return { notes: [{ code: "WorkloadIsHostAddress", subject: formatIP(dst.network), detail }] };
  }
  const winner = others.reduce((a, b) => (isYounger(b, a) ? b : a), first);
  const notes: Note[] = [];
  if (others.length > 0) {
    const detail = `Pod interfaces ${names.join(" and ")} have the same address; routed to ${winner.hostIface}`;
    notes.push({ code: "DuplicateWorkloadAddress", subject: formatIP(dst.network), detail });
  }
  const { hostIface, hostIfIndex } = winner;
  return { route: { dst, target: { kind: "workload", hostIface, hostIfIndex } }, notes };
}

/** The borrower itself has the route of its own pod; everybody else, the block's owner too, sends there. */
function resolveBorrowed({ dst, borrowers }: Destination, around: Surroundings): Resolution {
  // Two blocks of different sizes may both hold the address: any choice will do that is the same on all nodes.
  const [node] = [...borrowers].toSorted();
  const pool = around.poolOf(dst);
  if (node === undefined || node === around.localNode || pool?.loadBalancerOnly === true) return NOTHING;
  if (around.isHostAddress(dst.network)) {
    const detail = "Address is in use by a pod, says its block, and is the address of a node; it gets no route";
    return { notes: [{ code: "WorkloadIsHostAddress", subject: formatIP(dst.network), detail }] };
  }
  const notes: Note[] = [];
  const route = routeToNode(dst, node, pool, around, notes);
  return { ...(route === undefined ? {} : { route }), notes };
}

function resolveBlock({ dst, claims }: Destination, around: Surroundings): Resolution {
  const [first, ...others] = claims;
  if (first === undefined) return NOTHING;
  const winner = others.reduce((a, b) => (isNewer(b, a) ? b : a), first);
  const pool = around.poolOf(dst);
  // Addresses of Services are announced, not routed to a node.
  if (pool?.loadBalancerOnly === true) return NOTHING;

  const notes: Note[] = [];
  const nodes = [...new Set([first, ...others].map((claim) => claim.node))].toSorted();
  if (nodes.length > 1) {
    const detail = `Block is claimed by ${nodes.join(" and ")}; routed to ${winner.node}, whose claim is the newest`;
    notes.push({ code: "DuplicateBlockClaim", subject: formatCIDR(dst), detail });
  }
  const covering = around.coveringBlock(dst);
  if (covering !== undefined) {
    const detail = `Block lies inside the claimed block ${formatCIDR(covering)}; the smaller one is routed to ${winner.node}`;
    notes.push({ code: "OverlappingBlocks", subject: formatCIDR(dst), detail });
  }
  if (pool === undefined) {
    // Its pods may still run, so the deletion of a pool must not cut them off.
    const detail = "Block is in no IPPool; routed without encapsulation";
    notes.push({ code: "BlockOutsidePools", subject: formatCIDR(dst), detail });
  }
  const route = targetOf(dst, winner, pool, around, notes);
  return { ...(route === undefined ? {} : { route }), notes };
}

/** Adds a note when there is no route and somebody may miss it. */
function targetOf(
  dst: CIDR,
  claim: BlockClaim,
  pool: Pool | undefined,
  around: Surroundings,
  notes: Note[],
): Route | undefined {
  const isOneAddress = cidrSize(dst) === 1;
  if (isOneAddress && around.isHostAddress(dst.network)) {
    const detail = "Block is the address of a node; it gets no route";
    notes.push({ code: "BlockIsHostAddress", subject: formatCIDR(dst), detail });
    return undefined;
  }
  // Such a route would cut this node off from its own network, and from the API server that could take it back.
  const held = [around.localNode, claim.node].find((name) => holdsAddressOf(dst, around.node(name)));
  if (held !== undefined) {
    const detail = `Block holds the own address of ${held}; it gets no route: delete BlockAffinity ${claim.affinity}, or give pods a pool outside of the nodes' network`;
    notes.push({ code: "BlockIsHostAddress", subject: formatCIDR(dst), detail });
    return undefined;
  }
  // Without the blackhole, packets to a free address of the block would go out by the default route and come back.
  if (claim.node === around.localNode) return isOneAddress ? undefined : { dst, target: { kind: "blackhole" } };

  return routeToNode(dst, claim.node, pool, around, notes);
}

function holdsAddressOf(block: CIDR, node: NodeAddresses | undefined): boolean {
  const address = node && addressOf(node, cidrFamily(block));
  return address !== undefined && cidrContains(block, address.ip);
}

/** Adds a note when there is no way to the node. */
function routeToNode(
  dst: CIDR,
  name: string,
  pool: Pool | undefined,
  around: Surroundings,
  notes: Note[],
): Route | undefined {
  const family = cidrFamily(dst);
  const node = around.node(name);
  if (node === undefined) {
    const detail = "No Node object of this name; its blocks and borrowed addresses get no route";
    notes.push({ code: "UnknownNode", subject: name, detail });
    return undefined;
  }
  const address = addressOf(node, family);
  if (address === undefined) {
    const detail = `Node has no IPv${family} address; its IPv${family} blocks and borrowed addresses get no route`;
    notes.push({ code: "NodeWithoutAddress", subject: `${name} IPv${family}`, detail });
    return undefined;
  }
  const isPlain = pool === undefined || (pool.isCrossSubnet && around.isSameSubnet(address.ip));
  if (isPlain || pool.encapsulation === "none")
    return { dst, target: { kind: "remote", node: name, gateway: address.ip } };
  if (!around.isEnabled(`${pool.encapsulation} ${family}`)) {
    notes.push({ code: "EncapsulationDisabled", subject: pool.name, detail: whyDisabled(pool.encapsulation, family) });
    return undefined;
  }
  if (pool.encapsulation === "ipip") return { dst, target: { kind: "ipip", node: name, gateway: address.ip } };
  const end = node.tunnelEnds[family];
  if (end === undefined) {
    const detail = `Node has no annotation ${TUNNEL_ADDRESS_ANNOTATIONS[family]}; its IPv${family} addresses in VXLAN pools get no new route until its agent has written it`;
    notes.push({ code: "NodeWithoutTunnel", subject: `${name} IPv${family}`, detail });
    return { dst, target: { kind: "vxlan", node: name } };
  }
  return { dst, target: { kind: "vxlan", node: name, tunnelIP: end.ip } };
}

function whyDisabled(encapsulation: "ipip" | "vxlan", family: Family): string {
  const consequence = "its remote blocks get no route";
  if (encapsulation === "ipip" && family === 6)
    return `IPPool asks for IP-in-IP, which carries IPv4 only; ${consequence}: set its ipipMode to Never`;
  return `IPPool asks for ${encapsulation}, and ${encapsulation}Enabled is false for this node; ${consequence}`;
}

/** Whether interface a is the newer one: the other one, with the same address, is being torn down. */
function isYounger(a: WorkloadEndpoint, b: WorkloadEndpoint): boolean {
  const [ageA, ageB] = [a, b].map(({ hostIfIndex }) => (hostIfIndex === 0 ? Number.POSITIVE_INFINITY : hostIfIndex));
  return ageA === ageB ? a.key < b.key : (ageA ?? 0) > (ageB ?? 0);
}

/**
 * Whether claim a wins over b. A released block's old affinity may linger while the new owner's is confirmed, so the
 * newest is most likely the truth; names break the tie, so that all nodes agree.
 */
function isNewer(a: BlockClaim, b: BlockClaim): boolean {
  if (a.createdAt !== b.createdAt) return a.createdAt > b.createdAt;
  return a.node === b.node ? a.affinity < b.affinity : a.node < b.node;
}

export function sameRoute(a: Route | undefined, b: Route | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const [s, t] = [a.target, b.target];
  if (a.dst.network !== b.dst.network || a.dst.prefixLength !== b.dst.prefixLength) return false;
  switch (s.kind) {
    case "workload":
      return t.kind === "workload" && s.hostIface === t.hostIface && s.hostIfIndex === t.hostIfIndex;
    case "remote":
      return t.kind === "remote" && s.node === t.node && s.gateway === t.gateway;
    case "ipip":
      return t.kind === "ipip" && s.node === t.node && s.gateway === t.gateway;
    case "vxlan":
      return t.kind === "vxlan" && s.node === t.node && s.tunnelIP === t.tunnelIP;
    case "blackhole":
      return t.kind === "blackhole";
    default:
      return s satisfies never;
  }
}
