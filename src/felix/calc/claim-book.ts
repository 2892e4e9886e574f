// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrFamily, cidrOf, formatCIDR } from "../../net/cidr.ts";
import { type Family, familyOf, type IP } from "../../net/ip.ts";
import type { BlockClaim } from "./block-routes.ts";
import type { Destinations } from "./destinations.ts";

/** The nodes' claims of blocks, by what they are asked for. What changes marks the destinations that it concerns. */
export class ClaimBook {
  readonly #destinations: Destinations;
  readonly #byAffinity = new Map<string, BlockClaim>();
  readonly #blocksByNode = new Map<string, Set<string>>();
  /** How many claimed blocks there are of each prefix length, by family: nearly always a single length. */
  readonly #lengths: Readonly<Record<Family, Map<number, number>>> = { 4: new Map(), 6: new Map() };

  constructor(destinations: Destinations) {
    this.#destinations = destinations;
  }

  get size(): number {
    return this.#byAffinity.size;
  }

  /** The keys of a node's blocks. */
  blocksOf(node: string): Iterable<string> {
    return this.#blocksByNode.get(node) ?? [];
  }

  /** The keys under which a block that holds the address would be. */
  keysAround(ip: IP): readonly string[] {
    return [...this.#lengths[familyOf(ip)].keys()].map((length) => formatCIDR(cidrOf(ip, length)));
  }

  /** A claimed block of another size that holds this one. */
  covering(block: CIDR): CIDR | undefined {
    for (const length of this.#lengths[cidrFamily(block)].keys()) {
      if (length >= block.prefixLength) continue;
      const other = this.#destinations.get(formatCIDR(cidrOf(block.network, length)));
      if (other !== undefined && other.claims.size > 0) return other.dst;
    }
    return undefined;
  }

  /** Replaces the claim of an affinity. @param claim undefined: it has none */
  set(affinity: string, claim: BlockClaim | undefined): void {
    const previous = this.#byAffinity.get(affinity);
    if (previous !== undefined && claim !== undefined && sameClaim(previous, claim)) return;
    if (previous !== undefined) this.#delete(previous);
    if (claim !== undefined) this.#add(claim);
  }

  #add(claim: BlockClaim): void {
    const { claims } = this.#destinations.change(claim.block);
    claims.set(claim.affinity, claim);
    this.#byAffinity.set(claim.affinity, claim);
    const blocks = this.#blocksByNode.get(claim.node) ?? new Set();
    this.#blocksByNode.set(claim.node, blocks.add(formatCIDR(claim.block)));
    if (claims.size === 1) this.#countLength(claim.block, 1);
  }

  #delete(claim: BlockClaim): void {
    this.#byAffinity.delete(claim.affinity);
    const { claims } = this.#destinations.change(claim.block);
    claims.delete(claim.affinity);
    if (claims.size === 0) this.#countLength(claim.block, -1);
    if ([...claims.values()].some((other) => other.node === claim.node)) return;
    const blocks = this.#blocksByNode.get(claim.node);
    blocks?.delete(formatCIDR(claim.block));
    if (blocks?.size === 0) this.#blocksByNode.delete(claim.node);
  }

  #countLength(block: CIDR, step: 1 | -1): void {
    const lengths = this.#lengths[cidrFamily(block)];
    const count = (lengths.get(block.prefixLength) ?? 0) + step;
    if (count === 0) lengths.delete(block.prefixLength);
    else lengths.set(block.prefixLength, count);
    const hasSmaller = [...lengths.keys()].some((length) => length > block.prefixLength);
    if (hasSmaller) this.#destinations.markInside(block);
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
