// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { ClusterInformation } from "../crds/cluster-information.ts";
import { effectiveIPPool, type IPPool } from "../crds/ip-pool.ts";
import { DEFAULT_IPAM_CONFIG, type IPAMConfig } from "../crds/ipam-config.ts";
import { type CIDR, parseCIDR } from "../net/cidr.ts";
import type { Labels } from "../selector/selector.ts";
import { isHostAffinityOf } from "./affinity.ts";
import type { Awaitable, IPAMSources, Reservations } from "./ports.ts";
import { NO_RESERVATIONS, ReservationIndex } from "./reservations.ts";

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
  /** The networks of each IPReservation. */
  reservations(): Awaitable<readonly (readonly CIDR[])[]>;
  /** This node's; undefined when there is no such Node. */
  nodeLabels(): Awaitable<Labels | undefined>;
  /** Undefined when there is no such Namespace. */
  namespaceLabels(namespace: string): Awaitable<Labels | undefined>;
}

export function sourcesOf(objects: SourceObjects, nodeName: string): IPAMSources {
  const reservationsOf = lastReservations();
  return {
    settings: async () => {
      const [information, config] = await Promise.all([objects.clusterInformation(), objects.ipamConfig()]);
      const { autoAllocateBlocks, strictAffinity, maxBlocksPerHost } = config?.spec ?? DEFAULT_IPAM_CONFIG;
      const datastoreReady = information?.spec.datastoreReady ?? true;
      return { datastoreReady, autoAllocateBlocks, strictAffinity, maxBlocksPerHost };
    },
    pools: async () => (await objects.pools()).map(effectiveIPPool),
    ownAffinities: async () => {
      const own = (await objects.affinities()).filter((affinity) => isHostAffinityOf(affinity, nodeName));
      return own.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    },
    knownBlocks: async () => {
      // The deletion of a tombstone is finished by whoever claims the block next.
      const live = (await objects.affinities()).filter(({ spec }) => spec.deleted !== "true");
      const claimed = live.map((affinity) => parseCIDR(affinity.spec.cidr));
      return [...claimed, ...((await objects.blocks?.()) ?? [])];
    },
    reservations: () => {
      const networks = objects.reservations();
      return networks instanceof Promise ? networks.then(reservationsOf) : reservationsOf(networks);
    },
    nodeLabels: () => objects.nodeLabels(),
    namespaceLabels: (namespace) => objects.namespaceLabels(namespace),
  };
}

/** Makes Reservations, and the same ones again while the objects are the same: there may be thousands. */
function lastReservations(): (networks: readonly (readonly CIDR[])[]) => Reservations {
  let last: { readonly networks: readonly (readonly CIDR[])[]; readonly reservations: Reservations } = {
    networks: [],
    reservations: NO_RESERVATIONS,
  };
  return (networks) => {
    const isSame = networks.length === last.networks.length && networks.every((n, i) => n === last.networks[i]);
    if (!isSame) last = { networks, reservations: new ReservationIndex(networks.flat()) };
    return last.reservations;
  };
}
