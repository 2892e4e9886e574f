// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { Node } from "../../crds/core.ts";
import type { IPPool } from "../../crds/ip-pool.ts";
import { type CIDR, cidrContains, cidrCovers, cidrFamily, cidrOf, formatCIDR, hostCIDR } from "../../net/cidr.ts";
import { type Family, familyOf, type IP } from "../../net/ip.ts";
import type { WorkloadEndpoint } from "../ports.ts";
import { type BlockClaim, claimOf, type Route, resolveDestination, sameRoute } from "./block-routes.ts";
import type { BorrowedAddress } from "./borrowed.ts";
import { type EncapsulationOf, type EncapsulationOverrides, overridden } from "./encapsulations.ts";
import { type Finding, FindingBook } from "./findings.ts";
import type { DetectedAddresses, NodeAddresses } from "./node-addresses.ts";
import { hostAddressesOf, NodeBook, type NodeChange } from "./node-book.ts";
import { type Pool, poolOf, poolOfBlock, samePool } from "./pools.ts";
import { type VXLANNetwork, vxlanNetwork } from "./vxlan.ts";

/** What must be known before the first write to the kernel. */
export type Input = "nodes" | "affinities" | "pools" | "endpoints";

/** This node's end in IP-in-IP. Others are reached by their own addresses, so theirs do not matter. */
export interface IPIPEnd {
  /** Absent: none yet. */
  readonly tunnelIP?: IP;
}

/** Routes that changed since the last flush, by destination (canonical CIDR). */
export interface RouteDelta {
  readonly updated: ReadonlyMap<string, Route>;
  readonly removed: ReadonlySet<string>;
}

interface DestinationState {
  readonly dst: CIDR;
  /** By name of the affinity. */
  readonly claims: Map<string, BlockClaim>;
  /** By the attachment's key. */
  readonly endpoints: Map<string, WorkloadEndpoint>;
  /** Node by name of the block. */
  readonly borrowers: Map<string, string>;
}

/**
 * Gathers what the informers and the attachment records say, and knows the route of every destination.
 *
 * Invariants: after `flush`, `routes` is what `resolveDestination` says of each destination from the present content
 * alone: the order, repetition and grouping of the updates that led there never show. Updates are cheap and only mark
 * destinations as dirty; `flush` resolves just these, so one changed resource costs the same with ten blocks or ten
 * thousand. Hazards: a node's address concerns all its blocks, the addresses it has borrowed, and its /32 as such, this
 * node's own also all blocks that hold it; a block of one size concerns the smaller blocks inside it; a pool concerns all blocks inside. Each `set…` and `delete…` marks these.
 */
export class CalcState {
  readonly #localNode: string;
  readonly #waitingFor = new Set<Input>(["nodes", "affinities", "pools", "endpoints"]);
  readonly #nodes: NodeBook;
  /** This node's own, by family. */
  readonly #subnets = new Map<Family, CIDR>();
  readonly #pools = new Map<string, Pool>();
  #overrides: EncapsulationOverrides = {};
  /** Made when asked for; forgotten when a node or pool changes. */
  readonly #networks = new Map<Family, VXLANNetwork | undefined>();
  readonly #destinations = new Map<string, DestinationState>();
  readonly #claimsByAffinity = new Map<string, BlockClaim>();
  readonly #blocksByNode = new Map<string, Set<string>>();
  /** By name of the block. */
  readonly #borrowed = new Map<string, readonly BorrowedAddress[]>();
  /** Destinations that a node has borrowed, with the number of blocks that say so. */
  readonly #borrowedByNode = new Map<string, Map<string, number>>();
  /** How many claimed blocks there are of each prefix length, by family: nearly always a single length. */
  readonly #lengths: Readonly<Record<Family, Map<number, number>>> = { 4: new Map(), 6: new Map() };
  readonly #endpoints = new Map<string, WorkloadEndpoint>();

  readonly #dirty = new Set<string>();
  readonly #routes = new Map<string, Route>();
  readonly #findings = new FindingBook();

  constructor(localNode: string) {
    this.#localNode = localNode;
    this.#nodes = new NodeBook(localNode);
  }

  /** Inputs that are not complete yet. The kernel is left alone while there are any. */
  get waitingFor(): readonly Input[] {
    return [...this.#waitingFor];
  }

  get inSync(): boolean {
    return this.#waitingFor.size === 0;
  }

  get routes(): ReadonlyMap<string, Route> {
    return this.#routes;
  }

  /** This node's addresses, once its Node is known. */
  get localAddresses(): NodeAddresses | undefined {
    return this.#nodes.local;
  }

  get counts(): Readonly<Record<"nodes" | "blocks" | "borrowed" | "endpoints", number>> {
    let borrowed = 0;
    for (const addresses of this.#borrowed.values()) borrowed += addresses.length;
    const [nodes, blocks, endpoints] = [this.#nodes.size, this.#claimsByAffinity.size, this.#endpoints.size];
    return { nodes, blocks, borrowed, endpoints };
  }

  /** Whether any pool is of the family, so that its forwarding has to be on. */
  hasPoolOf(family: Family): boolean {
    return [...this.#pools.values()].some((pool) => cidrFamily(pool.cidr) === family);
  }

  /** The VXLAN network of a family; undefined while it is not needed. */
  vxlan(family: Family): VXLANNetwork | undefined {
    if (!this.#networks.has(family)) {
      const isUsed = this.encapsulations.has(`vxlan ${family}`);
      const network = isUsed ? vxlanNetwork(family, this.#localNode, this.#nodes.all()) : undefined;
      this.#networks.set(family, network);
      this.#findings.setNotes(`vxlan ${family}`, network?.notes ?? []);
    }
    return this.#networks.get(family);
  }

  /** This node's end in IP-in-IP; undefined while it is not needed. */
  get ipip(): IPIPEnd | undefined {
    if (!this.encapsulations.has("ipip 4")) return undefined;
    const tunnelIP = this.#nodes.local?.ipipTunnelIP;
    return tunnelIP === undefined ? {} : { tunnelIP };
  }

  /** Of IPv4: an address of a tunnel's device in one of these is a tunnel address. */
  get poolCIDRs(): readonly CIDR[] {
    return [...this.#pools.values()].map(({ cidr }) => cidr).filter((cidr) => cidrFamily(cidr) === 4);
  }

  /**
   * Encapsulations in use, by kind and family: what pools ask for, be they disabled, unless settings say otherwise.
   * Source: calico-interop 4.4, auto-enable.
   */
  get encapsulations(): ReadonlySet<EncapsulationOf> {
    const pools = [...this.#pools.values()].filter((pool) => !pool.loadBalancerOnly);
    const asked = pools.map(({ encapsulation, cidr }) => `${encapsulation} ${cidrFamily(cidr)}` as const);
    return overridden(asked, this.#overrides);
  }

  /** Takes what FelixConfiguration says of encapsulations. */
  setOverrides(overrides: EncapsulationOverrides): void {
    if (overrides.vxlan === this.#overrides.vxlan && overrides.ipip === this.#overrides.ipip) return;
    this.#overrides = overrides;
    this.#networks.clear();
    for (const { cidr, encapsulation } of this.#pools.values()) if (encapsulation !== "none") this.#markInside(cidr);
  }

  /** The subnet of this node's own address: what CrossSubnet pools do not encapsulate to. Undefined: not known. */
  setLocalSubnet(family: Family, subnet: CIDR | undefined): void {
    const previous = this.#subnets.get(family);
    if (previous?.network === subnet?.network && previous?.prefixLength === subnet?.prefixLength) return;
    if (subnet === undefined) this.#subnets.delete(family);
    else this.#subnets.set(family, subnet);
    for (const { cidr, isCrossSubnet } of this.#pools.values()) if (isCrossSubnet) this.#markInside(cidr);
  }

  markSynced(input: Input): void {
    this.#waitingFor.delete(input);
  }

  setNode(object: Node): void {
    this.#nodeChanged(this.#nodes.set(object));
  }

  deleteNode(name: string): void {
    this.#nodeChanged(this.#nodes.delete(name));
  }

  /** What this machine has found out about its own addresses. The same object again costs nothing. */
  setDetected(detected: DetectedAddresses): void {
    this.#nodeChanged(this.#nodes.setDetected(detected));
  }

  /** Whether this node shall have no address of the family. */
  hasNone(family: Family): boolean {
    return this.#nodes.hasNone(family);
  }

  /** Names of the other nodes that have one of this node's addresses, by that address. */
  duplicates(): ReadonlyMap<IP, readonly string[]> {
    return this.#nodes.duplicates();
  }

  setAffinity(object: BlockAffinity): void {
    const { name } = object.metadata;
    const claim = this.#findings.read(`BlockAffinity ${name}`, () => claimOf(object));
    const previous = this.#claimsByAffinity.get(name);
    if (claim !== undefined && previous !== undefined && sameClaim(claim, previous)) return;
    this.#deleteClaim(name);
    if (claim !== undefined) this.#addClaim(claim);
  }

  deleteAffinity(name: string): void {
    this.#findings.setMalformed(`BlockAffinity ${name}`, undefined);
    this.#deleteClaim(name);
  }

  setPool(object: IPPool): void {
    const { name } = object.metadata;
    this.#replacePool(
      name,
      this.#findings.read(`IPPool ${name}`, () => poolOf(object)),
    );
  }

  deletePool(name: string): void {
    this.#findings.setMalformed(`IPPool ${name}`, undefined);
    this.#replacePool(name, undefined);
  }

  /** Replaces what is borrowed of a block. */
  setBorrowed(block: string, addresses: readonly BorrowedAddress[]): void {
    this.deleteBorrowed(block);
    if (addresses.length === 0) return;
    this.#borrowed.set(block, addresses);
    for (const { ip, node } of addresses) {
      this.#destination(hostCIDR(ip)).borrowers.set(block, node);
      this.#countBorrowed(node, formatCIDR(hostCIDR(ip)), 1);
    }
  }

  deleteBorrowed(block: string): void {
    const previous = this.#borrowed.get(block);
    if (previous === undefined) return;
    this.#borrowed.delete(block);
    for (const { ip, node } of previous) {
      this.#destination(hostCIDR(ip)).borrowers.delete(block);
      this.#countBorrowed(node, formatCIDR(hostCIDR(ip)), -1);
    }
  }

  setEndpoint(endpoint: WorkloadEndpoint): void {
    this.deleteEndpoint(endpoint.key);
    this.#endpoints.set(endpoint.key, endpoint);
    for (const ip of endpoint.ips) this.#destination(hostCIDR(ip)).endpoints.set(endpoint.key, endpoint);
  }

  deleteEndpoint(key: string): void {
    const previous = this.#endpoints.get(key);
    if (previous === undefined) return;
    this.#endpoints.delete(key);
    for (const ip of previous.ips) this.#destination(hostCIDR(ip)).endpoints.delete(key);
  }

  /** Resolves what is dirty, and returns what changed by it. */
  flush(): RouteDelta {
    const updated = new Map<string, Route>();
    const removed = new Set<string>();
    const { encapsulations } = this;
    const around = {
      localNode: this.#localNode,
      node: (name: string) => this.#nodes.get(name),
      poolOf: (block: CIDR) => poolOfBlock(this.#pools.values(), block),
      isHostAddress: (ip: IP) => this.#nodes.isHostAddress(ip),
      isSameSubnet: (ip: IP) => {
        const subnet = this.#subnets.get(familyOf(ip));
        return subnet !== undefined && cidrContains(subnet, ip);
      },
      coveringBlock: (block: CIDR) => this.#coveringBlock(block),
      isEnabled: (encapsulation: EncapsulationOf) => encapsulations.has(encapsulation),
    };
    for (const key of this.#dirty) {
      const destination = this.#destinations.get(key);
      if (destination === undefined) continue;
      const { dst, claims, endpoints, borrowers } = destination;
      const { route, notes } = resolveDestination(
        { dst, claims: claims.values(), endpoints: endpoints.values(), borrowers: borrowers.values() },
        around,
      );
      if (claims.size + endpoints.size + borrowers.size === 0) this.#destinations.delete(key);
      this.#findings.setNotes(key, notes);
      if (sameRoute(route, this.#routes.get(key))) continue;
      if (route === undefined) {
        this.#routes.delete(key);
        removed.add(key);
      } else {
        this.#routes.set(key, route);
        updated.set(key, route);
      }
    }
    this.#dirty.clear();
    return { updated, removed };
  }

  /** What a person should know about the present state. Shape: sorted by code and subject. */
  findings(): readonly Finding[] {
    for (const family of [4, 6] as const) this.vxlan(family);
    return this.#findings.all();
  }

  #nodeChanged(change: NodeChange | undefined): void {
    if (change === undefined) return;
    const { name, previous, next } = change;
    this.#networks.clear();
    for (const ip of [...hostAddressesOf(previous), ...hostAddressesOf(next)])
      this.#dirty.add(formatCIDR(hostCIDR(ip)));
    if (name === this.#localNode)
      for (const ip of [...hostAddressesOf(previous), ...hostAddressesOf(next)]) this.#markHolders(ip);
    for (const key of this.#blocksByNode.get(name) ?? []) this.#dirty.add(key);
    for (const key of this.#borrowedByNode.get(name)?.keys() ?? []) this.#dirty.add(key);
    const malformed = next?.malformed ?? [];
    const message = malformed.length === 0 ? undefined : `ignored addresses: ${malformed.join(", ")}`;
    this.#findings.setMalformed(`Node ${name}`, message);
  }

  #countBorrowed(node: string, key: string, step: 1 | -1): void {
    const keys = this.#borrowedByNode.get(node) ?? new Map<string, number>();
    const count = (keys.get(key) ?? 0) + step;
    if (count === 0) keys.delete(key);
    else keys.set(key, count);
    if (keys.size === 0) this.#borrowedByNode.delete(node);
    else this.#borrowedByNode.set(node, keys);
  }

  #addClaim(claim: BlockClaim): void {
    const key = formatCIDR(claim.block);
    const { claims } = this.#destination(claim.block);
    claims.set(claim.affinity, claim);
    this.#claimsByAffinity.set(claim.affinity, claim);
    const blocks = this.#blocksByNode.get(claim.node) ?? new Set();
    this.#blocksByNode.set(claim.node, blocks.add(key));
    if (claims.size === 1) this.#countLength(claim.block, 1);
  }

  #deleteClaim(affinity: string): void {
    const claim = this.#claimsByAffinity.get(affinity);
    if (claim === undefined) return;
    this.#claimsByAffinity.delete(affinity);
    const key = formatCIDR(claim.block);
    const { claims } = this.#destination(claim.block);
    claims.delete(affinity);
    if (claims.size === 0) this.#countLength(claim.block, -1);
    if ([...claims.values()].some((other) => other.node === claim.node)) return;
    const blocks = this.#blocksByNode.get(claim.node);
    blocks?.delete(key);
    if (blocks?.size === 0) this.#blocksByNode.delete(claim.node);
  }

  #countLength(block: CIDR, step: 1 | -1): void {
    const lengths = this.#lengths[cidrFamily(block)];
    const count = (lengths.get(block.prefixLength) ?? 0) + step;
    if (count === 0) lengths.delete(block.prefixLength);
    else lengths.set(block.prefixLength, count);
    const hasSmaller = [...lengths.keys()].some((length) => length > block.prefixLength);
    if (hasSmaller) this.#markInside(block);
  }

  #coveringBlock(block: CIDR): CIDR | undefined {
    for (const length of this.#lengths[cidrFamily(block)].keys()) {
      if (length >= block.prefixLength) continue;
      const other = this.#destinations.get(formatCIDR(cidrOf(block.network, length)));
      if (other !== undefined && other.claims.size > 0) return other.dst;
    }
    return undefined;
  }

  #replacePool(name: string, next: Pool | undefined): void {
    const previous = this.#pools.get(name);
    // Most updates of a pool (its conditions, NAT) concern no route, and one that does concerns every block inside.
    if (previous !== undefined && next !== undefined && samePool(previous, next)) return;
    this.#networks.clear();
    if (next === undefined) this.#pools.delete(name);
    else this.#pools.set(name, next);
    if (previous !== undefined) this.#markInside(previous.cidr);
    if (next !== undefined) this.#markInside(next.cidr);
  }

  /** Marks the blocks that hold an address. */
  #markHolders(ip: IP): void {
    for (const length of this.#lengths[familyOf(ip)].keys()) this.#dirty.add(formatCIDR(cidrOf(ip, length)));
  }

  /** Pools and blocks of mixed sizes change rarely, so a scan is cheaper than keeping a tree. */
  #markInside(cidr: CIDR): void {
    for (const [key, { dst, claims, borrowers }] of this.#destinations) {
      if (claims.size + borrowers.size > 0 && cidrCovers(cidr, dst)) this.#dirty.add(key);
    }
  }

  /** The state of a destination that is about to change. */
  #destination(dst: CIDR): DestinationState {
    const key = formatCIDR(dst);
    this.#dirty.add(key);
    let destination = this.#destinations.get(key);
    if (destination === undefined) {
      destination = { dst, claims: new Map(), endpoints: new Map(), borrowers: new Map() };
      this.#destinations.set(key, destination);
    }
    return destination;
  }
}

function sameClaim(a: BlockClaim, b: BlockClaim): boolean {
  return (
    a.node === b.node &&
    a.createdAt === b.createdAt &&
    a.block.network === b.block.network &&
    a.block.prefixLength === b.block.prefixLength
  );
}
