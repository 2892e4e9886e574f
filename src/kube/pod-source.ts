// SPDX-License-Identifier: Apache-2.0
import type { PodInfo, PodSource } from "../cni/ports.ts";
import { PODS, type Pod } from "../crds/core.ts";
import type { KubeClient } from "./api.ts";
import { NotFoundError } from "./errors.ts";
import type { Informer } from "./informer.ts";

/** What is kept of each pod of the node. */
export function projectPod(pod: Pod): PodInfo {
  const { uid = "", labels = {}, annotations = {} } = pod.metadata;
  return { uid, labels, annotations };
}

/**
 * Pods by name out of the informer's cache. A pod that the cache does not have yet, or has under another UID (it was
 * deleted and made again), is answered by one GET.
 */
export function podSource(informer: Informer<Pod, PodInfo>, client: KubeClient): PodSource {
  return {
    async get({ namespace, name, uid }, signal) {
      const isAsked = (pod: PodInfo | undefined): pod is PodInfo => pod !== undefined && (!uid || pod.uid === uid);
      const cached = informer.get(`${namespace}/${name}`);
      if (isAsked(cached)) return cached;
      try {
        const pod = projectPod(await client.get(PODS, name, { namespace, ...(signal && { signal }) }));
        return isAsked(pod) ? pod : undefined;
      } catch (error) {
        if (error instanceof NotFoundError) return undefined;
        throw error;
      }
    },
  };
}
