// SPDX-License-Identifier: Apache-2.0
import type { ReservationSource } from "../cni/fixed/ports.ts";
import type { NamespaceInfo, NamespaceSource, PodInfo } from "../cni/ports.ts";
import { BLOCK_AFFINITIES, type BlockAffinity } from "../crds/block-affinity.ts";
import {
  CLUSTER_INFORMATION_NAME,
  CLUSTER_INFORMATIONS,
  type ClusterInformation,
} from "../crds/cluster-information.ts";
import { NAMESPACES, type Namespace, NODES, type Node, PODS, type Pod } from "../crds/core.ts";
import {
  FELIX_CONFIGURATION_NAME,
  FELIX_CONFIGURATIONS,
  type FelixConfiguration,
  nodeFelixConfigurationName,
} from "../crds/felix-configuration.ts";
import { IP_POOLS, type IPPool } from "../crds/ip-pool.ts";
import { IP_RESERVATIONS, type IPReservation, projectReservation, type Reservation } from "../crds/ip-reservation.ts";
import { IPAM_BLOCKS } from "../crds/ipam-block.ts";
import { IPAM_CONFIG_NAME, IPAM_CONFIGS, type IPAMConfig } from "../crds/ipam-config.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import { projectAffinity, projectNode, sameNode } from "../felix/calc/projections.ts";
import { IPAMError } from "../ipam/errors.ts";
import type { SourceObjects } from "../ipam/sources.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeClient } from "./api.ts";
import { BorrowedSource } from "./borrowed-source.ts";
import { Informer } from "./informer.ts";
import { OptionalInformer } from "./optional-informer.ts";
import { namespaceSource, projectNamespace, projectPod } from "./pod-source.ts";

export interface ClusterCacheOptions {
  readonly client: KubeClient;
  readonly nodeName: string;
  readonly clock: Clock;
  readonly random: () => number;
  /** Hears of every failure; none stops an informer. */
  readonly onError: (error: unknown, resource: string) => void;
}

/** An informer, whatever it keeps. */
interface Cached {
  readonly hasSynced: boolean;
  readonly synced: Promise<void>;
  start(): void;
  stop(): Promise<void>;
}

/** How long an ADD waits for an agent that has just started. Units: milliseconds. */
const SYNC_WAIT_MS = 10_000;
/** How long a claim waits to be seen by its own watch, which is a matter of milliseconds, before all claims are listed. */
const WATCH_WAIT_MS = 1000;

/**
 * All that the agent watches: what it costs does not grow with the pods of the cluster. Nodes, affinities and pools change
 * rarely; of pods only this node's are watched; of namespaces the labels and our annotations are kept; blocks are watched
 * only while addresses are borrowed. See docs/DESIGN.md.
 */
export class ClusterCache {
  readonly nodes: Informer<Node, Node>;
  readonly affinities: Informer<BlockAffinity, BlockAffinity>;
  readonly pools: Informer<IPPool, IPPool>;
  readonly pods: Informer<Pod, PodInfo>;
  readonly namespaces: Informer<Namespace, NamespaceInfo>;
  readonly borrowed: BorrowedSource;
  /** Settings. Those of other nodes are empty. It may be started before the others. */
  readonly felixConfigurations: OptionalInformer<FelixConfiguration, FelixConfiguration>;
  readonly #reservations: Informer<IPReservation, Reservation>;
  readonly #clusterInformations: Informer<ClusterInformation, ClusterInformation>;
  readonly #ipamConfigs: Informer<IPAMConfig, IPAMConfig>;
  readonly #client: KubeClient;
  readonly #clock: Clock;
  readonly #nodeName: string;
  readonly #namespaceSource: NamespaceSource;

  constructor(options: ClusterCacheOptions) {
    const { nodeName, onError, ...shared } = options;
    const informerOf = <T extends KubeObject, P>(
      resource: Resource<T>,
      project: (object: T) => P,
      more: { readonly equal?: (a: P, b: P) => boolean; readonly fieldSelector?: string } = {},
    ): Informer<T, P> =>
      new Informer({ ...shared, resource, project, onError: (error) => onError(error, resource.plural), ...more });
    this.#client = options.client;
    this.#clock = options.clock;
    this.#nodeName = nodeName;
    // Labels matter of this node alone: pools select it, and its claims must have theirs.
    const keepLabels = <T extends KubeObject>(kept: T, from: T, isOwn: boolean): T =>
      isOwn ? { ...kept, metadata: { ...kept.metadata, labels: from.metadata.labels ?? {} } } : kept;
    this.nodes = informerOf(NODES, (node) => keepLabels(projectNode(node), node, node.metadata.name === nodeName), {
      equal: sameNode,
    });
    this.affinities = informerOf(BLOCK_AFFINITIES, (affinity) =>
      keepLabels(projectAffinity(affinity), affinity, affinity.spec.node === nodeName),
    );
    this.pools = informerOf(IP_POOLS, asIs);
    this.pods = informerOf(PODS, projectPod, { fieldSelector: `spec.nodeName=${nodeName}` });
    this.namespaces = informerOf(NAMESPACES, projectNamespace);
    this.#namespaceSource = namespaceSource(this.namespaces, options.client);
    this.#reservations = informerOf(IP_RESERVATIONS, projectReservation);
    this.#clusterInformations = informerOf(CLUSTER_INFORMATIONS, asIs);
    this.#ipamConfigs = informerOf(IPAM_CONFIGS, asIs);
    this.felixConfigurations = new OptionalInformer({
      ...shared,
      resource: FELIX_CONFIGURATIONS,
      project: (object) => projectConfiguration(object, nodeName),
      onError: (error) => onError(error, FELIX_CONFIGURATIONS.plural),
    });
    this.borrowed = new BorrowedSource({
      ...shared,
      nodes: this.nodes,
      pools: this.pools,
      affinities: this.affinities,
      ipamConfigs: this.#ipamConfigs,
      reservations: this.#reservations,
      onError: (error) => onError(error, IPAM_BLOCKS.plural),
    });
  }

  start(): void {
    for (const informer of this.#all()) informer.start();
    this.felixConfigurations.start();
    this.borrowed.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.borrowed, this.felixConfigurations, ...this.#all()].map((part) => part.stop()));
  }

  /** Fulfilled when everything that allocation reads is here. */
  get allocationSynced(): Promise<unknown> {
    return Promise.all(this.#forAllocation().map((informer) => informer.synced));
  }

  /**
   * What allocation reads. Before the first list is complete each answer waits a little, since an empty cache would say
   * that there is no pool.
   *
   * Errors: IPAMError Datastore when the API server has not answered by then.
   */
  ipamObjects(): SourceObjects {
    const whenSynced =
      <T>(read: () => T) =>
      (): T | Promise<T> =>
        this.#when(this.#forAllocation(), read);
    const affinities = whenSynced(() => [...this.affinities.list()]);
    return {
      clusterInformation: whenSynced(() => this.#clusterInformations.get(CLUSTER_INFORMATION_NAME)),
      ipamConfig: whenSynced(() => this.#ipamConfigs.get(IPAM_CONFIG_NAME)),
      pools: whenSynced(() => [...this.pools.list()]),
      affinities: (since) => (since === undefined ? affinities() : this.#affinitiesSince(since)),
      reservations: whenSynced(() => [...this.#reservations.list()].map(({ networks }) => networks)),
      nodeLabels: () => this.#when([this.nodes], () => this.nodes.get(this.#nodeName)?.metadata.labels),
      // One that was made a moment ago is asked for.
      namespaceLabels: async (name) => (await this.#namespaceSource.get(name))?.labels,
    };
  }

  /** The reservations that name an owner, after the same wait. */
  reservationSource(): ReservationSource {
    const read = (): readonly Reservation[] =>
      [...this.#reservations.list()].filter(({ owner }) => owner !== undefined);
    return { owned: async () => await this.#when([this.#reservations], read) };
  }

  /** A watch tells in order: when it has told of this one, it has told of all before it. */
  async #affinitiesSince(claim: BlockAffinity): Promise<readonly BlockAffinity[]> {
    const { name, uid } = claim.metadata;
    const isSeen = (): boolean => this.affinities.get(name)?.metadata.uid === uid;
    const seen = Promise.withResolvers<void>();
    const stop = this.affinities.onChange(() => isSeen() && seen.resolve());
    const timer = new AbortController();
    const late = this.#clock.sleep(WATCH_WAIT_MS, timer.signal).catch(() => {});
    if (!isSeen()) await Promise.race([seen.promise, late]);
    stop();
    timer.abort("over");
    if (isSeen()) return [...this.affinities.list()];
    try {
      return (await this.#client.list(BLOCK_AFFINITIES)).items;
    } catch (error) {
      const what = `Cannot read the claims of other nodes beside ${name}`;
      throw new IPAMError("Datastore", `${what}; check that the API server is up`, { cause: error });
    }
  }

  #when<T>(informers: readonly Cached[], read: () => T): T | Promise<T> {
    return informers.every((informer) => informer.hasSynced) ? read() : this.#waitForSync(informers).then(read);
  }

  async #waitForSync(informers: readonly Cached[]): Promise<void> {
    const timer = new AbortController();
    const late = this.#clock.sleep(SYNC_WAIT_MS, timer.signal).then(
      () => {
        const what =
          "Cannot read pools, affinities and what they select: the API server has not answered this agent since it started";
        throw new IPAMError("Datastore", `${what}; check that it is up and that the agent's credentials are right`);
      },
      () => {},
    );
    await Promise.race([Promise.all(informers.map((informer) => informer.synced)), late]).finally(() => timer.abort());
  }

  #forAllocation(): readonly Cached[] {
    return [this.affinities, this.pools, this.#reservations, this.#clusterInformations, this.#ipamConfigs];
  }

  #all(): readonly Cached[] {
    return [this.nodes, this.namespaces, this.pods, ...this.#forAllocation()];
  }
}

/** There may be one for each node. */
function projectConfiguration(object: FelixConfiguration, nodeName: string): FelixConfiguration {
  const { name } = object.metadata;
  if (name === FELIX_CONFIGURATION_NAME || name === nodeFelixConfigurationName(nodeName)) return object;
  const { nodeSelector } = object.spec;
  return { ...object, metadata: { name }, spec: nodeSelector === undefined ? {} : { nodeSelector } };
}

function asIs<T>(object: T): T {
  return object;
}
