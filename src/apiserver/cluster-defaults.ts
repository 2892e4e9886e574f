// SPDX-License-Identifier: Apache-2.0
import { CLUSTER_INFORMATIONS } from "../crds/cluster-information.ts";
import { type EncapMode, IP_POOLS, parseIPPool } from "../crds/ip-pool.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import { cidrFamily, parseCIDR } from "../net/cidr.ts";

/**
 * What machines without Kubernetes allocate from, and what says that they may: a pool for each CIDR, at most one of each
 * family. IPv4 leaves the machines masqueraded, as from Calico's first pool.
 *
 * @throws SyntaxError for what is no CIDR, InvalidObjectError for one that no block fits into, RangeError for two of one family
 */
export function clusterDefaults(cidrs: readonly string[], vxlanMode: EncapMode, clusterGUID: string): object[] {
  const pools = cidrs.map((text) => {
    const cidr = parseCIDR(text);
    const family = cidrFamily(cidr);
    const spec = { cidr: text, ipipMode: "Never", vxlanMode, natOutgoing: family === 4, nodeSelector: "all()" };
    const pool = { ...head(IP_POOLS, `default-ipv${family}-ippool`), spec };
    parseIPPool(pool);
    return pool;
  });
  if (new Set(pools.map(({ metadata }) => metadata.name)).size < pools.length)
    throw new RangeError(`Only one pool of each family is made at the start, not ${cidrs.join(", ")}`);
  const spec = { clusterGUID, clusterType: "gingham", datastoreReady: true };
  return [{ ...head(CLUSTER_INFORMATIONS, "default"), spec }, ...pools];
}

function head<T extends KubeObject>({ group, version, kind }: Resource<T>, name: string): KubeObject {
  return { apiVersion: `${group}/${version}`, kind, metadata: { name } };
}
