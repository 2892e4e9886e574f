// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrCovers, cidrFamily, formatCIDR, hostCIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";
import { SETS } from "./layout.ts";
import type { Elements } from "./table.ts";

/** What the sets are filled from. */
export interface FilterContents {
  readonly natPools: readonly CIDR[];
  readonly allPools: readonly CIDR[];
  /** Empty while no rule asks for them. */
  readonly nodes: readonly IP[];
  readonly allowedSources: readonly AllowedSource[];
  /** What is among the nodes without being one; as above. */
  readonly externalNodes?: readonly CIDR[];
}

/** A network that the pod behind an interface may send from, beside its own addresses. */
export interface AllowedSource {
  readonly hostIface: string;
  readonly prefix: CIDR;
}

/** Says for each set what is in it. */
export function elementsOf({
  natPools,
  allPools,
  nodes,
  allowedSources,
  externalNodes = [],
}: FilterContents): Elements {
  const elements = new Map<string, ReadonlySet<string>>();
  const hosts = [...nodes.map(hostCIDR), ...externalNodes];
  const sourcesByIface = Map.groupBy(allowedSources, ({ hostIface }) => hostIface);
  for (const family of [4, 6] as const) {
    const ofFamily = (cidrs: readonly CIDR[]): readonly CIDR[] => cidrs.filter((cidr) => cidrFamily(cidr) === family);
    const texts = (cidrs: readonly CIDR[]): readonly string[] => withoutCovered(ofFamily(cidrs)).map(formatCIDR);
    elements.set(SETS.natPools[family], new Set(texts(natPools)));
    elements.set(SETS.allPools[family], new Set(texts(allPools)));
    elements.set(SETS.nodes[family], new Set(texts(hosts)));
    const sources = [...sourcesByIface].flatMap(([hostIface, allowed]) =>
      texts(allowed.map(({ prefix }) => prefix)).map((prefix) => `"${hostIface}" . ${prefix}`),
    );
    elements.set(SETS.allowedSources[family], new Set(sources));
  }
  return elements;
}

/**
 * Leaves out each network that another one covers: an interval set takes no element twice. Networks that touch each
 * other without sharing an address stay apart, as the kernel lists them.
 *
 * @param cidrs of one family
 */
export function withoutCovered(cidrs: readonly CIDR[]): readonly CIDR[] {
  const sorted = cidrs.toSorted((a, b) =>
    a.network === b.network ? a.prefixLength - b.prefixLength : a.network < b.network ? -1 : 1,
  );
  const kept: CIDR[] = [];
  for (const cidr of sorted) {
    const last = kept.at(-1);
    // In this order, whoever covers a network is the last one that was kept.
    if (last === undefined || !cidrCovers(last, cidr)) kept.push(cidr);
  }
  return kept;
}
