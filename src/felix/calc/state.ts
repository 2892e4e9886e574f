// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { Node } from "../../crds/core.ts";
import type { IPPool } from "../../crds/ip-pool.ts";
import { type CIDR, cidrContains, cidrFamily, formatCIDR, hostCIDR } from "../../net/cidr.ts";
import { type Family, familyOf, type IP } from "../../net/ip.ts";
import type { WorkloadEndpoint } from "../ports.ts";
import { claimOf, type Route, resolveDestination, sameRoute } from "./block-routes.ts";
import type { BorrowedAddress } from "./borrowed.ts";
import { BorrowedBook } from "./borrowed-book.ts";
import { ClaimBook } from "./claim-book.ts";
import { Destinations } from "./destinations.ts";
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
  readonly #destinations = new Destinations();
  readonly #claims = new ClaimBook(this.#destinations);
  readonly #borrowed = new BorrowedBook(this.#destinations);
  readonly #endpoints = new Map<string, WorkloadEndpoint>();
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
    const [nodes, blocks] = [this.#nodes.size, this.#claims.size];
    return { nodes, blocks, borrowed: this.#borrowed.size, endpoints: this.#endpoints.size };
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
    for (const { cidr, encapsulation } of this.#pools.values())
      if (encapsulation !== "none") this.#destinations.markInside(cidr);
  }

  /** The subnet of this node's own address: what CrossSubnet pools do not encapsulate to. Undefined: not known. */
  setLocalSubnet(family: Family, subnet: CIDR | undefined): void {
    const previous = this.#subnets.get(family);
    if (previous?.network === subnet?.network && previous?.prefixLength === subnet?.prefixLength) return;
    if (subnet === undefined) this.#subnets.delete(family);
    else this.#subnets.set(family, subnet);
    for (const { cidr, isCrossSubnet } of this.#pools.values()) if (isCrossSubnet) this.#destinations.markInside(cidr);
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
    this.#claims.set(
      name,
      this.#findings.read(`BlockAffinity ${name}`, () => claimOf(object)),
    );
  }

  deleteAffinity(name: string): void {
    this.#findings.setMalformed(`BlockAffinity ${name}`, undefined);
    this.#claims.set(name, undefined);
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
    this.#borrowed.set(block, addresses);
  }

  deleteBorrowed(block: string): void {
    this.#borrowed.set(block, []);
  }

  get endpoints(): Iterable<WorkloadEndpoint> {
    return this.#endpoints.values();
  }

  setEndpoint(endpoint: WorkloadEndpoint): void {
    this.deleteEndpoint(endpoint.key);
    this.#endpoints.set(endpoint.key, endpoint);
    for (const ip of endpoint.ips) this.#destinations.change(hostCIDR(ip)).endpoints.set(endpoint.key, endpoint);
  }

  deleteEndpoint(key: string): void {
    const previous = this.#endpoints.get(key);
    if (previous === undefined) return;
    this.#endpoints.delete(key);
    for (const ip of previous.ips) this.#destinations.change(hostCIDR(ip)).endpoints.delete(key);
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
      coveringBlock: (block: CIDR) => this.#claims.covering(block),
      isEnabled: (encapsulation: EncapsulationOf) => encapsulations.has(encapsulation),
    };
    for (const [key, { dst, claims, endpoints, borrowers }] of this.#destinations.takeDirty()) {
      const { route, notes } = resolveDestination(
        { dst, claims: claims.values(), endpoints: endpoints.values(), borrowers: borrowers.values() },
        around,
      );
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
    for (const ip of [...hostAddressesOf(previous), ...hostAddressesOf(next)]) {
      this.#destinations.mark([formatCIDR(hostCIDR(ip))]);
      if (name === this.#localNode) this.#destinations.mark(this.#claims.keysAround(ip));
    }
    this.#destinations.mark(this.#claims.blocksOf(name));
    this.#destinations.mark(this.#borrowed.destinationsOf(name));
    const malformed = next?.malformed ?? [];
    const message = malformed.length === 0 ? undefined : `ignored addresses: ${malformed.join(", ")}`;
    this.#findings.setMalformed(`Node ${name}`, message);
  }

  #replacePool(name: string, next: Pool | undefined): void {
    const previous = this.#pools.get(name);
    // Most updates of a pool (its conditions, NAT) concern no route, and one that does concerns every block inside.
    if (previous !== undefined && next !== undefined && samePool(previous, next)) return;
    this.#networks.clear();
    if (next === undefined) this.#pools.delete(name);
    else this.#pools.set(name, next);
    if (previous !== undefined) this.#destinations.markInside(previous.cidr);
    if (next !== undefined) this.#destinations.markInside(next.cidr);
  }
}
