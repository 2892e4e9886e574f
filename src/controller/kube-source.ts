// SPDX-License-Identifier: Apache-2.0
import { BLOCK_AFFINITIES, type BlockAffinity } from "../crds/block-affinity.ts";
import { CLUSTER_INFORMATION_NAME, CLUSTER_INFORMATIONS } from "../crds/cluster-information.ts";
import { NODES, type Node, PODS, type Pod } from "../crds/core.ts";
import { InvalidObjectError } from "../crds/errors.ts";
import { effectiveIPPool, IP_POOLS } from "../crds/ip-pool.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import { IPAM_HANDLES, type IPAMHandle } from "../crds/ipam-handle.ts";
import {
  KUBE_CONTROLLERS_CONFIGURATION_NAME,
  KUBE_CONTROLLERS_CONFIGURATIONS,
} from "../crds/kube-controllers-configuration.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import type { ClusterView, NodeFacts, PodFacts } from "../ipam/gc/types.ts";
import { createLimiter } from "../ipam/limiter.ts";
import type { CallOptions, KubeClient } from "../kube/api.ts";
import { NotFoundError } from "../kube/errors.ts";
import { Informer } from "../kube/informer.ts";
import type { Clock } from "../lib/clock.ts";
import { parseGoDuration } from "../lib/go-duration.ts";
import type { ClusterSource, CollectorSettings, Needed, NodeRoom } from "./ports.ts";
import { isSamePod, isSameRoom, projectNodeFacts, projectNodeRoom, projectPodFacts } from "./projections.ts";

export interface KubeSourceOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: () => number;
  /** Hears of every failure that stops nothing: watches, damaged objects, settings that cannot be read. */
  readonly onError: (error: unknown, resource: string) => void;
}

const DEFAULT_LEAK_GRACE = "15m";
/** A block is some kilobytes. */
const PAGE_SIZE = 200;
/** A page of a list costs the API server about as much as this many GETs. */
const GETS_PER_PAGE = 20;
const IN_FLIGHT = 16;
const TIMEOUT_MS = 60_000;

interface WatchedNode {
  readonly facts: NodeFacts;
  readonly room: NodeRoom;
}

/** The cluster as the collector reads it: nodes and pods are watched, the rest is listed for each look. */
export class KubeSource implements ClusterSource {
  readonly synced: Promise<unknown>;
  readonly view: ClusterView;
  readonly #options: KubeSourceOptions;
  readonly #nodes: Informer<Node, WatchedNode>;
  readonly #pods: Informer<Pod, PodFacts>;

  constructor(options: KubeSourceOptions) {
    const { onError, ...shared } = options;
    const nodes = new Informer({
      ...shared,
      resource: NODES,
      project: (node) => ({ facts: projectNodeFacts(node), room: projectNodeRoom(node) }),
      onError: (error) => onError(error, "nodes"),
    });
    const pods = new Informer({
      ...shared,
      resource: PODS,
      project: projectPodFacts,
      equal: isSamePod,
      onError: (error) => onError(error, "pods"),
    });
    this.#options = options;
    this.#nodes = nodes;
    this.#pods = pods;
    this.synced = Promise.all([nodes.synced, pods.synced]);
    this.view = {
      node: (name) => nodes.get(name)?.facts,
      pod: (namespace, name) => pods.get(`${namespace}/${name}`),
      get hasNodes() {
        return nodes.size > 0;
      },
    };
  }

  start(): void {
    this.#nodes.start();
    this.#pods.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#nodes.stop(), this.#pods.stop()]);
  }

  /** As watched: perhaps a moment old. */
  *nodes(): Generator<NodeRoom, void, undefined> {
    for (const { room } of this.#nodes.list()) yield room;
  }

  /** Calls the handler when a node has come, gone, or changed in what `nodes` tells of it. */
  onNodeChange(handler: (what: "added" | "modified" | "deleted") => void): void {
    this.#nodes.onChange(({ type, old, new: now }) => {
      if (old === undefined || now === undefined || !isSameRoom(old.room, now.room)) handler(type);
    });
  }

  async settings(signal: AbortSignal): Promise<CollectorSettings> {
    const { client } = this.#options;
    const [information, configuration, pools] = await Promise.all([
      findObject(client, CLUSTER_INFORMATIONS, CLUSTER_INFORMATION_NAME, { signal }),
      findObject(client, KUBE_CONTROLLERS_CONFIGURATIONS, KUBE_CONTROLLERS_CONFIGURATION_NAME, { signal }),
      client.list(IP_POOLS, { signal }),
    ]);
    for (const error of pools.invalid) this.#options.onError(error, "ippools");
    return {
      datastoreReady: information?.spec.datastoreReady ?? true,
      leakGraceMs: this.#leakGraceMs(configuration?.spec.controllers.node?.leakGracePeriod),
      pools: pools.items.map(effectiveIPPool).map(({ name, cidr }) => ({ name, cidr })),
    };
  }

  blocks(signal: AbortSignal): AsyncIterable<IPAMBlock | InvalidObjectError> {
    return listAll(this.#options.client, IPAM_BLOCKS, { signal });
  }

  handles(signal: AbortSignal): AsyncIterable<IPAMHandle> {
    return this.#all(IPAM_HANDLES, signal);
  }

  affinities(signal: AbortSignal): AsyncIterable<BlockAffinity> {
    return this.#all(BLOCK_AFFINITIES, signal);
  }

  async look({ nodes, pods }: Needed, signal: AbortSignal): Promise<ClusterView> {
    const { client } = this.#options;
    const limit = createLimiter(IN_FLIGHT);
    const foundNodes = new Map<string, NodeFacts>();
    const foundPods = new Map<string, PodFacts>();
    const tasks: Promise<void>[] = [...nodes].map((name) =>
      limit(async () => {
        const node = await findObject(client, NODES, name, { signal });
        if (node !== undefined) foundNodes.set(name, projectNodeFacts(node));
      }),
    );
    const byNamespace = Map.groupBy(pods, (key) => key.slice(0, key.indexOf("/")));
    for (const [namespace, keys] of byNamespace) {
      const add = (pod: Pod): unknown => foundPods.set(`${namespace}/${pod.metadata.name}`, projectPodFacts(pod));
      if (keys.length > GETS_PER_PAGE * this.#pagesOf(namespace)) {
        tasks.push(
          limit(async () => {
            for await (const pod of this.#all(PODS, signal, namespace)) add(pod);
          }),
        );
        continue;
      }
      for (const key of keys) {
        const name = key.slice(namespace.length + 1);
        tasks.push(
          limit(async () => {
            const pod = await findObject(client, PODS, name, { signal, namespace });
            if (pod !== undefined) add(pod);
          }),
        );
      }
    }
    await Promise.all(tasks);
    return {
      node: (name) => foundNodes.get(name),
      pod: (namespace, name) => foundPods.get(`${namespace}/${name}`),
      hasNodes: this.view.hasNodes,
    };
  }

  /** By what is watched: a guess, and good enough to choose the cheaper way. */
  #pagesOf(namespace: string): number {
    let pods = 0;
    for (const key of this.#pods.keys()) if (key.startsWith(`${namespace}/`)) pods++;
    return Math.ceil((pods + 1) / PAGE_SIZE);
  }

  async *#all<T extends KubeObject>(
    resource: Resource<T>,
    signal: AbortSignal,
    namespace?: string,
  ): AsyncGenerator<T, void, undefined> {
    const { client, onError } = this.#options;
    for await (const object of listAll(client, resource, { signal, ...(namespace !== undefined && { namespace }) })) {
      // What hangs on a damaged object is spared all the same: its handle and its claim go only after the block was read.
      if (object instanceof InvalidObjectError) onError(object, resource.plural);
      else yield object;
    }
  }

  #leakGraceMs(text: string | undefined): number {
    const graceMs = parseGoDuration(text ?? DEFAULT_LEAK_GRACE);
    if (graceMs !== undefined) return graceMs;
    const what = `KubeControllersConfiguration default: leakGracePeriod is ${JSON.stringify(text)}, want a duration such as 15m`;
    this.#options.onError(new RangeError(what), "kubecontrollersconfigurations");
    return parseGoDuration(DEFAULT_LEAK_GRACE) ?? 0;
  }
}

/** The object, or undefined when there is none of that name. Errors: of the API, see kube/errors.ts. */
export async function findObject<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  name: string,
  options: CallOptions,
): Promise<T | undefined> {
  try {
    return await client.get(resource, name, options);
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** All objects of a kind, page by page; those that cannot be parsed as their errors. */
export async function* listAll<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  options: CallOptions,
): AsyncGenerator<T | InvalidObjectError, void, undefined> {
  for await (const page of client.listPages(resource, { limit: PAGE_SIZE, timeoutMs: TIMEOUT_MS, ...options })) {
    yield* page.invalid;
    yield* page.items;
  }
}
