// SPDX-License-Identifier: Apache-2.0
import type { NamespaceInfo, NamespaceSource, PodInfo, PodSource } from "../cni/ports.ts";
import { NAMESPACES, type Namespace, PODS, type Pod, runtimeUID } from "../crds/core.ts";
import type { KubeClient } from "./api.ts";
import { NotFoundError } from "./errors.ts";
import type { Informer } from "./informer.ts";

/** What is kept of each pod of the node. */
export function projectPod(pod: Pod): PodInfo {
  const { labels = {}, annotations = {}, ownerReferences = [] } = pod.metadata;
  const controller = ownerReferences.find((owner) => owner.controller === true);
  const nodeName = pod.spec?.nodeName;
  return {
    uid: runtimeUID(pod.metadata),
    labels,
    annotations,
    ...(nodeName && { nodeName }),
    ...(controller && { controller: { kind: controller.kind, name: controller.name } }),
  };
}

const OWN_ANNOTATIONS = "cni.projectcalico.org/";

/** What is kept of each namespace of the cluster: other annotations, which may be long, are nobody's business here. */
export function projectNamespace(namespace: Namespace): NamespaceInfo {
  const { labels = {}, annotations = {} } = namespace.metadata;
  const own = Object.entries(annotations).filter(([key]) => key.startsWith(OWN_ANNOTATIONS));
  return { labels, annotations: Object.fromEntries(own) };
}

/**
 * Pods by name out of the informer's cache. A pod that the cache does not have yet, or has under another UID (it was
 * deleted and made again), is answered by one GET.
 *
 * @param informer absent in a process that ends with its request: every answer is a GET then.
 */
export function podSource(informer: Informer<Pod, PodInfo> | undefined, client: KubeClient): PodSource {
  return {
    async get({ namespace, name, uid }, signal) {
      const isAsked = (pod: PodInfo | undefined): pod is PodInfo => pod !== undefined && (!uid || pod.uid === uid);
      const cached = informer?.get(`${namespace}/${name}`);
      if (isAsked(cached)) return cached;
      const pod = await found(() => client.get(PODS, name, { namespace, ...(signal && { signal }) }), projectPod);
      return isAsked(pod) ? pod : undefined;
    },
  };
}

/** Namespaces by name, in the same way. */
export function namespaceSource(
  informer: Informer<Namespace, NamespaceInfo> | undefined,
  client: KubeClient,
): NamespaceSource {
  return {
    async get(name, signal) {
      const cached = informer?.get(name);
      return (
        cached ?? (await found(() => client.get(NAMESPACES, name, { ...(signal && { signal }) }), projectNamespace))
      );
    },
  };
}

async function found<T, P>(get: () => Promise<T>, project: (object: T) => P): Promise<P | undefined> {
  try {
    return project(await get());
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}
