// SPDX-License-Identifier: Apache-2.0
import type { KubeObject, ObjectMeta, Resource } from "./object.ts";

/** The fields of Kubernetes' own kinds that Gingham reads. Source: Kubernetes API reference, core/v1. */

export interface Node extends KubeObject {
  readonly spec?: {
    readonly podCIDRs?: readonly string[];
    readonly taints?: readonly Taint[];
  };
  readonly status?: { readonly addresses?: readonly { readonly type: string; readonly address: string }[] };
}

/** Other fields of it pass through. */
export interface Taint {
  readonly key: string;
  readonly effect: string;
}

/** By it people say that a node is down for good, so that its pods may start elsewhere. Source: non-graceful node shutdown. */
export const OUT_OF_SERVICE_TAINT = "node.kubernetes.io/out-of-service";

export interface Pod extends KubeObject {
  readonly spec?: { readonly nodeName?: string; readonly serviceAccountName?: string; readonly hostNetwork?: boolean };
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
  };
}

/**
 * The UID by which the runtime knows a pod. A static pod has one of the kubelet's own, which its object, the mirror, names.
 * Source: Kubernetes, "Well-Known Labels, Annotations and Taints".
 */
export function runtimeUID({ uid = "", annotations = {} }: Pick<ObjectMeta, "uid" | "annotations">): string {
  return annotations["kubernetes.io/config.mirror"] ?? uid;
}

export interface Namespace extends KubeObject {
  readonly status?: { readonly phase?: string };
}

/** Something that happened to an object, for `kubectl describe` and `kubectl get events`. */
export interface Event extends KubeObject {
  readonly involvedObject: {
    readonly apiVersion: string;
    readonly kind: string;
    readonly name: string;
    /** `kubectl describe` shows only events that have the object's. */
    readonly uid?: string;
  };
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
  readonly source?: { readonly component?: string };
  readonly reportingComponent?: string;
  readonly reportingInstance?: string;
  readonly firstTimestamp?: string;
  readonly lastTimestamp?: string;
  readonly count?: number;
}

export const EVENTS: Resource<Event> = { group: "", version: "v1", kind: "Event", plural: "events", namespaced: true };
export const NODES: Resource<Node> = { group: "", version: "v1", kind: "Node", plural: "nodes", namespaced: false };
export const PODS: Resource<Pod> = { group: "", version: "v1", kind: "Pod", plural: "pods", namespaced: true };
export const NAMESPACES: Resource<Namespace> = {
  group: "",
  version: "v1",
  kind: "Namespace",
  plural: "namespaces",
  namespaced: false,
};

/** Who leads, and until when. Times are RFC 3339 with microseconds. Source: coordination.k8s.io/v1. */
export interface Lease extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

export const LEASES: Resource<Lease> = {
  group: "coordination.k8s.io",
  version: "v1",
  kind: "Lease",
  plural: "leases",
  namespaced: true,
};
