// SPDX-License-Identifier: Apache-2.0
import { type IPPool, type IPPoolSpec, parseIPPool } from "../crds/ip-pool.ts";
import { DEFAULT_IPAM_CONFIG, type IPAMConfigSpec } from "../crds/ipam-config.ts";
import type { ObjectMeta } from "../crds/object.ts";
import { parseCIDR } from "../net/cidr.ts";
import type { Labels } from "../selector/selector.ts";
import type { BlockUse, NodeRoom, PoolFacts, StoredPool } from "./ports.ts";

/** Objects for tests of pools' conditions. */

export function poolObject(
  name: string,
  spec: IPPoolSpec,
  metadata: Partial<ObjectMeta> = {},
  conditions?: NonNullable<IPPool["status"]>["conditions"],
): IPPool {
  return parseIPPool({
    apiVersion: "crd.projectcalico.org/v1",
    kind: "IPPool",
    metadata: { name, ...metadata },
    spec,
    ...(conditions && { status: { conditions } }),
  });
}

export function stored(pool: IPPool): StoredPool {
  const { metadata, spec, status } = pool;
  return {
    name: metadata.name,
    object: pool,
    pool,
    cidr: parseCIDR(spec.cidr),
    conditions: status?.conditions ?? [],
  };
}

export function factsOf(
  pools: readonly IPPool[],
  { config = {}, nodes = [] }: { config?: Partial<IPAMConfigSpec>; nodes?: readonly NodeRoom[] } = {},
): PoolFacts {
  return {
    datastoreReady: true,
    pools: pools.map(stored),
    config: { ...DEFAULT_IPAM_CONFIG, ...config },
    nodes,
    reserved: [],
  };
}

export function use(cidr: string, inUse = 1): BlockUse {
  return { cidr: parseCIDR(cidr), inUse };
}

/** So many nodes: node-0, node-1 and so on. */
export function rooms(count: number, labels: Labels = {}, maxPods?: number): NodeRoom[] {
  return Array.from({ length: count }, (_, i) => ({
    name: `node-${i}`,
    labels,
    addresses: [],
    ...(maxPods !== undefined && { maxPods }),
  }));
}
