// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import type { Family, IP } from "../../net/ip.ts";
import {
  type DetectedAddresses,
  LOCAL_METHODS,
  type NodeAddresses,
  REMOTE_METHODS,
  resolveNodeAddresses,
  sameAddresses,
} from "./node-addresses.ts";

/** The addresses of a node before and after; undefined: there was none, or is none. */
export interface NodeChange {
  readonly name: string;
  readonly previous: NodeAddresses | undefined;
  readonly next: NodeAddresses | undefined;
}

/** The nodes' addresses: as their objects say, and of this node as the machine itself has found out. */
export class NodeBook {
  readonly #localNode: string;
  readonly #nodes = new Map<string, NodeAddresses>();
  #localObject: Node | undefined;
  #detected: DetectedAddresses = {};
  /** Own addresses of nodes, with the number of nodes that have each. */
  readonly #hostAddresses = new Map<IP, number>();

  constructor(localNode: string) {
    this.#localNode = localNode;
  }

  get size(): number {
    return this.#nodes.size;
  }

  /** This node's own, once its object is known. */
  get local(): NodeAddresses | undefined {
    return this.#nodes.get(this.#localNode);
  }

  get(name: string): NodeAddresses | undefined {
    return this.#nodes.get(name);
  }

  all(): Iterable<NodeAddresses> {
    return this.#nodes.values();
  }

  /** Whether the address is the own address of any node. */
  isHostAddress(ip: IP): boolean {
    return this.#hostAddresses.has(ip);
  }

  /** Whether this node shall have no address of the family. */
  hasNone(family: Family): boolean {
    return this.#detected[family] === "none";
  }

  /** Returns what changed by it, if anything did. */
  set(object: Node): NodeChange | undefined {
    const { name } = object.metadata;
    if (name !== this.#localNode) return this.#replace(name, resolveNodeAddresses(object, REMOTE_METHODS));
    this.#localObject = object;
    return this.#replace(name, resolveNodeAddresses(object, LOCAL_METHODS, this.#detected));
  }

  delete(name: string): NodeChange | undefined {
    if (name === this.#localNode) this.#localObject = undefined;
    return this.#replace(name, undefined);
  }

  /** What this machine has found out about its own addresses. The same object again costs nothing. */
  setDetected(detected: DetectedAddresses): NodeChange | undefined {
    if (detected === this.#detected) return undefined;
    this.#detected = detected;
    return this.#localObject && this.set(this.#localObject);
  }

  /** Names of the other nodes that have one of this node's addresses, by that address. */
  duplicates(): ReadonlyMap<IP, readonly string[]> {
    const found = new Map<IP, readonly string[]>();
    for (const address of [this.local?.ipv4, this.local?.ipv6]) {
      if (address === undefined || (this.#hostAddresses.get(address.ip) ?? 0) < 2) continue;
      const others = [...this.#nodes.values()].filter(({ name, ipv4, ipv6 }) => {
        return name !== this.#localNode && (ipv4?.ip === address.ip || ipv6?.ip === address.ip);
      });
      if (others.length > 0) found.set(address.ip, others.map(({ name }) => name).toSorted());
    }
    return found;
  }

  #replace(name: string, next: NodeAddresses | undefined): NodeChange | undefined {
    const previous = this.#nodes.get(name);
    if (next === undefined) this.#nodes.delete(name);
    else this.#nodes.set(name, next);
    if (sameAddresses(previous, next)) return undefined;
    for (const ip of hostAddressesOf(previous)) this.#count(ip, -1);
    for (const ip of hostAddressesOf(next)) this.#count(ip, 1);
    return { name, previous, next };
  }

  #count(ip: IP, step: 1 | -1): void {
    const count = (this.#hostAddresses.get(ip) ?? 0) + step;
    if (count === 0) this.#hostAddresses.delete(ip);
    else this.#hostAddresses.set(ip, count);
  }
}

export function hostAddressesOf(node: NodeAddresses | undefined): readonly IP[] {
  return [node?.ipv4, node?.ipv6].flatMap((address) => (address === undefined ? [] : [address.ip]));
}
