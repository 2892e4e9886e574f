// SPDX-License-Identifier: Apache-2.0
import type { KnownPod, KnownPods, PodStatusStore } from "../cni/pod-status/ports.ts";
import type { PodInfo } from "../cni/ports.ts";
import { PODS, type Pod } from "../crds/core.ts";
import type { KubeClient } from "./api.ts";
import { ConflictError, ForbiddenError, InvalidError, NotFoundError } from "./errors.ts";
import type { Informer } from "./informer.ts";

/** Pods' annotations at the API server. They are written as part of the status, for which alone an agent needs a right. */
export function kubePodStatus(client: KubeClient): PodStatusStore {
  return {
    async read({ namespace, name }, signal) {
      try {
        const { metadata } = await client.get(PODS, name, { namespace, ...(signal && { signal }) });
        const { uid = "", resourceVersion = "", annotations = {} } = metadata;
        return { uid, resourceVersion, annotations };
      } catch (error) {
        if (error instanceof NotFoundError) return undefined;
        throw error;
      }
    },
    async patch({ namespace, name }, metadata, signal) {
      const options = { namespace, subresource: "status", ...(signal && { signal }) } as const;
      try {
        await client.patch(PODS, name, { type: "strategic", body: { metadata } }, options);
        return "written";
      } catch (error) {
        if (error instanceof NotFoundError) return "gone";
        if (error instanceof ConflictError || isOtherObject(error)) return "conflict";
        throw error;
      }
    },
    missingRight(error) {
      if (!(error instanceof ForbiddenError) || error.status !== 403) return undefined;
      return error.verb === "patch" ? "patch on pods/status" : `${error.verb} on ${error.resource}`;
    },
  };
}

/** A patch changes no UID: servers answer the wrong one by 409 or by this. Source: calico-interop 1.5. */
function isOtherObject(error: unknown): boolean {
  const fields = error instanceof InvalidError ? error.causes.map(({ field }) => field) : [];
  return fields.includes("metadata.uid") || fields.includes("metadata.resourceVersion");
}

/** The pods of the informer's cache. */
export function knownPods(informer: Informer<Pod, PodInfo>): KnownPods {
  return {
    synced: informer.synced,
    *list(): Iterable<KnownPod> {
      for (const key of informer.keys()) {
        const info = informer.get(key);
        const [namespace = "", name = ""] = key.split("/");
        if (info !== undefined) yield { pod: { namespace, name, uid: info.uid }, annotations: info.annotations };
      }
    },
  };
}
