// SPDX-License-Identifier: Apache-2.0
import { NODES, type Node, PODS } from "../crds/core.ts";
import { INSTALLATIONS } from "../crds/installation.ts";
import { CUSTOM_RESOURCE_DEFINITIONS } from "../crds/installed-crd.ts";
import { IP_POOLS } from "../crds/ip-pool.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import { TIGERA_STATUSES } from "../crds/tigera-status.ts";
import type { KubeClient } from "../kube/api.ts";
import { OptionalInformer } from "../kube/optional-informer.ts";
import type { Clock } from "../lib/clock.ts";
import { MANAGER } from "./judge-pools.ts";
import { isNodeDown, isNodeReady, troubleOf } from "./node-conditions.ts";
import { INSTALLED_RESOURCES } from "./render/manifest.ts";
import { AGENT, MANAGED_BY_LABEL, NAME_LABEL, NAMESPACE } from "./render/names.ts";

export interface KubeWatchesOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly random: () => number;
  /** Hears of every failure, none of which stops a watch. */
  readonly onError: (error: unknown, resource: string) => void;
  /** Something that a pass looks at is another than before. */
  readonly onChange: () => void;
}

/** Tells when to look again: nothing is kept but what shows that an object is another one. */
export class KubeWatches {
  readonly synced: Promise<unknown>;
  readonly #informers: readonly OptionalInformer<KubeObject, string>[];

  constructor(options: KubeWatchesOptions) {
    const { onError, onChange, ...shared } = options;
    const watch = (
      { group, version, kind, plural, namespaced }: Resource<KubeObject>,
      selection: { readonly labelSelector?: string; readonly namespace?: string } = {},
      project: (object: KubeObject) => string = ({ metadata }) => metadata.resourceVersion ?? "",
    ): OptionalInformer<KubeObject, string> => {
      const informer = new OptionalInformer<KubeObject, string>({
        ...shared,
        ...selection,
        // Not parsed: a broken object has changed as well.
        resource: { group, version, kind, plural, namespaced },
        project,
        equal: (a, b) => a === b,
        onError: (error) => onError(error, plural),
      });
      informer.onChange(onChange);
      return informer;
    };
    const labelSelector = `${MANAGED_BY_LABEL}=${MANAGER}`;
    this.#informers = [
      watch(INSTALLATIONS as Resource<KubeObject>),
      watch(NODES as Resource<KubeObject>, {}, nodeState),
      watch(PODS as Resource<KubeObject>, { namespace: NAMESPACE, labelSelector: `${NAME_LABEL}=${AGENT}` }),
      watch(IP_POOLS as Resource<KubeObject>, {}, poolState),
      watch(CUSTOM_RESOURCE_DEFINITIONS as Resource<KubeObject>, { labelSelector }),
      watch(TIGERA_STATUSES as Resource<KubeObject>, { labelSelector }),
      ...INSTALLED_RESOURCES.map((resource) =>
        watch(resource, resource.namespaced ? { namespace: NAMESPACE, labelSelector } : { labelSelector }),
      ),
    ];
    this.synced = Promise.all(this.#informers.map(({ synced }) => synced));
  }

  start(): void {
    for (const informer of this.#informers) informer.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#informers.map((informer) => informer.stop()));
  }
}

/** Kubelets write their heartbeats into Nodes. */
function nodeState(node: Node): string {
  const { addresses = [] } = (node.status ?? {}) as { readonly addresses?: readonly unknown[] };
  return JSON.stringify([isNodeReady(node), isNodeDown(node), troubleOf(node), addresses]);
}

/** The controller writes conditions into pools. */
function poolState(pool: KubeObject & { readonly spec?: unknown }): string {
  const { uid, labels, deletionTimestamp } = pool.metadata;
  return JSON.stringify([uid, labels, deletionTimestamp, pool.spec]);
}
