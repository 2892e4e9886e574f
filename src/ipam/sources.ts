// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { ClusterInformation } from "../crds/cluster-information.ts";
import { effectiveIPPool, type IPPool } from "../crds/ip-pool.ts";
import type { IPAMConfig } from "../crds/ipam-config.ts";
import { type CIDR, parseCIDR } from "../net/cidr.ts";
import { isHostAffinityOf } from "./affinity.ts";
import type { Awaitable, IPAMSources } from "./ports.ts";

/**
 * The objects behind IPAMSources: informers' caches in the agent, lists in a process that ends with its request.
 */
export interface SourceObjects {
  /** The object named `default`; absent: the datastore is ready. */
  clusterInformation(): Awaitable<ClusterInformation | undefined>;
  /** The object named `default`; absent: Calico's defaults. */
  ipamConfig(): Awaitable<IPAMConfig | undefined>;
  pools(): Awaitable<readonly IPPool[]>;
  /** At least this node's; with other nodes' a new block can be claimed without reading first. */
  affinities(): Awaitable<readonly BlockAffinity[]>;
  /** Networks of blocks, where they are known besides the affinities. */
  blocks?(): Awaitable<readonly CIDR[]>;
}

export function sourcesOf(objects: SourceObjects, nodeName: string): IPAMSources {
  return {
    settings: async () => {
      const [information, config] = await Promise.all([objects.clusterInformation(), objects.ipamConfig()]);
      return {
        datastoreReady: information?.spec.datastoreReady ?? true,
        autoAllocateBlocks: config?.spec.autoAllocateBlocks ?? true,
      };
    },
    pools: async () => (await objects.pools()).map(effectiveIPPool),
    ownAffinities: async () => {
      const own = (await objects.affinities()).filter((affinity) => isHostAffinityOf(affinity, nodeName));
      return own.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    },
    knownBlocks: async () => {
      const claimed = (await objects.affinities()).map((affinity) => parseCIDR(affinity.spec.cidr));
      return [...claimed, ...((await objects.blocks?.()) ?? [])];
    },
  };
}
