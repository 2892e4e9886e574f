// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { ClusterInformation } from "../crds/cluster-information.ts";
import { effectiveIPPool, type IPPool } from "../crds/ip-pool.ts";
import { DEFAULT_IPAM_CONFIG, type IPAMConfig } from "../crds/ipam-config.ts";
import { type CIDR, parseCIDR } from "../net/cidr.ts";
import type { Labels } from "../selector/selector.ts";
import { isHostAffinityOf } from "./affinity.ts";
import type { Awaitable, IPAMSettings, IPAMSources } from "./ports.ts";
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
  /**
   * At least this node's; with other nodes' a new block can be claimed without reading first.
   *
   * @param since this node's claim: everybody's, as of a moment after it was written
   */
  affinities(since?: BlockAffinity): Awaitable<readonly BlockAffinity[]>;
  /** Networks of all blocks, where they are known besides the affinities. */
  blocks?(): Awaitable<readonly CIDR[]>;
  /** The networks of each IPReservation. */
  reservations(): Awaitable<readonly (readonly CIDR[])[]>;
  /** This node's; undefined when there is no such Node. */
  nodeLabels(): Awaitable<Labels | undefined>;
  /** Undefined when there is no such Namespace. */
  namespaceLabels(namespace: string): Awaitable<Labels | undefined>;
  /**
   * Whether the installed IPAMBlock CRD keeps `releasedAt`; undefined when nobody can say, as without this. Asked only when
   * a cooldown is set.
   */
  keepsReleasedAt?(): Awaitable<boolean | undefined>;
}

export function sourcesOf(objects: SourceObjects, nodeName: string): IPAMSources {
  // All of these are asked for with each ADD and change rarely, so the same objects give the same answer again.
  const reservationsOf = lastOf((networks: readonly (readonly CIDR[])[]) => {
    return networks.length === 0 ? NO_RESERVATIONS : new ReservationIndex(networks.flat());
  });
  const poolsOf = lastOf((pools: readonly IPPool[]) => pools.map(effectiveIPPool));
  const settingsOf = lastOf(([information, config, keeps]: Configured): IPAMSettings => {
    const { autoAllocateBlocks, strictAffinity, maxBlocksPerHost, ipCooldownSeconds } =
      config?.spec ?? DEFAULT_IPAM_CONFIG;
    // A write would drop the records that are left of a better CRD, and their addresses would be lost: over at once.
    const ipCooldownMs = keeps === false ? 0 : ipCooldownSeconds * 1000;
    const datastoreReady = information?.spec.datastoreReady ?? true;
    const recordsReleases = ipCooldownMs > 0 && keeps === true;
    return { datastoreReady, autoAllocateBlocks, strictAffinity, maxBlocksPerHost, ipCooldownMs, recordsReleases };
  });
  return {
    settings: () => {
      const [information, config] = [objects.clusterInformation(), objects.ipamConfig()];
      const isHere = !(information instanceof Promise) && !(config instanceof Promise);
      return then(isHere ? ([information, config] as const) : Promise.all([information, config]), ([info, set]) => {
        const isCooling = (set?.spec.ipCooldownSeconds ?? 0) > 0;
        const keeps = isCooling ? objects.keepsReleasedAt?.() : undefined;
        return then(keeps, (isKept) => settingsOf([info, set, isKept]));
      });
    },
    pools: () => then(objects.pools(), poolsOf),
    ownAffinities: async () => {
      const own = (await objects.affinities()).filter((affinity) => isHostAffinityOf(affinity, nodeName));
      return own.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    },
    knownBlocks: async (since) => {
      // The deletion of a tombstone is finished by whoever claims the block next.
      const live = (await objects.affinities(since)).filter(({ spec }) => spec.deleted !== "true");
      const claimed = live.map(cidrOf);
      return [...claimed, ...((await objects.blocks?.()) ?? [])];
    },
    knowsAllBlocks: objects.blocks !== undefined,
    reservations: () => then(objects.reservations(), reservationsOf),
    nodeLabels: () => objects.nodeLabels(),
    namespaceLabels: (namespace) => objects.namespaceLabels(namespace),
  };
}

/** The cluster may have thousands of affinities, and nearly all of them are the ones of the last time. */
const cidrs = new WeakMap<BlockAffinity, CIDR>();

function cidrOf(affinity: BlockAffinity): CIDR {
  const known = cidrs.get(affinity) ?? parseCIDR(affinity.spec.cidr);
  cidrs.set(affinity, known);
  return known;
}

type Configured = readonly [
  ClusterInformation | undefined,
  IPAMConfig | undefined,
  keepsReleasedAt: boolean | undefined,
];

/** Does not wait for what is there. */
function then<A, B>(value: Awaitable<A>, fn: (value: A) => Awaitable<B>): Awaitable<B> {
  return value instanceof Promise ? value.then(fn) : fn(value);
}

/** The same result as the last time while the elements of the list are the same ones: there may be thousands. */
function lastOf<L extends readonly unknown[], R>(fn: (list: L) => R): (list: L) => R {
  let last: { readonly list: L; readonly result: R } | undefined;
  return (list) => {
    const isSame = last?.list.length === list.length && list.every((element, i) => element === last?.list[i]);
    if (last === undefined || !isSame) last = { list, result: fn(list) };
    return last.result;
  };
}
