// SPDX-License-Identifier: Apache-2.0
import { effectiveIPPool, type IPPool } from "../../crds/ip-pool.ts";
import { type CIDR, cidrCovers } from "../../net/cidr.ts";

/** How packets to a block of the pool travel between nodes. */
export type Encapsulation = "none" | "ipip" | "vxlan";

/** What routes need to know of an IPPool. */
export interface Pool {
  readonly name: string;
  readonly cidr: CIDR;
  readonly encapsulation: Encapsulation;
  /** Only to nodes of other subnets; false when nothing is encapsulated. */
  readonly isCrossSubnet: boolean;
  /** Used for Services only, so it has no routes of nodes. */
  readonly loadBalancerOnly: boolean;
}

/**
 * Reads a pool. A disabled one still counts: its existing addresses keep their way.
 *
 * Source: calico-interop 1.3 (defaults) and 4.1 (destination type).
 * @throws SyntaxError when the CIDR is malformed
 */
export function poolOf(object: IPPool): Pool {
  const { name, cidr, vxlanMode, ipipMode, allowedUses } = effectiveIPPool(object);
  return {
    name,
    cidr,
    encapsulation: vxlanMode !== "Never" ? "vxlan" : ipipMode !== "Never" ? "ipip" : "none",
    isCrossSubnet: (vxlanMode !== "Never" ? vxlanMode : ipipMode) === "CrossSubnet",
    loadBalancerOnly: allowedUses.every((use) => use === "LoadBalancer"),
  };
}

/** The pool that holds the block. Pools do not overlap; should they, the most specific one counts. */
export function poolOfBlock(pools: Iterable<Pool>, block: CIDR): Pool | undefined {
  let best: Pool | undefined;
  for (const pool of pools) {
    if (cidrCovers(pool.cidr, block) && (best === undefined || isBetter(pool, best))) best = pool;
  }
  return best;
}

/** True when no route depends on the difference. */
export function samePool(a: Pool, b: Pool): boolean {
  return (
    a.name === b.name &&
    a.cidr.network === b.cidr.network &&
    a.cidr.prefixLength === b.cidr.prefixLength &&
    a.encapsulation === b.encapsulation &&
    a.isCrossSubnet === b.isCrossSubnet &&
    a.loadBalancerOnly === b.loadBalancerOnly
  );
}

function isBetter(a: Pool, b: Pool): boolean {
  return a.cidr.prefixLength === b.cidr.prefixLength ? a.name < b.name : a.cidr.prefixLength > b.cidr.prefixLength;
}
