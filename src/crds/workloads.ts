// SPDX-License-Identifier: Apache-2.0
import type { KubeObject, Resource } from "./object.ts";

/** Kubernetes' own kinds that an installation consists of. Only fields that Gingham reads are typed. */

export interface DaemonSet extends KubeObject {
  readonly spec?: { readonly template?: { readonly metadata?: Partial<KubeObject["metadata"]> } };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly desiredNumberScheduled?: number;
    readonly updatedNumberScheduled?: number;
    readonly numberAvailable?: number;
  };
}

export interface Deployment extends KubeObject {
  readonly spec?: { readonly replicas?: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly availableReplicas?: number;
  };
}

export interface Secret extends KubeObject {
  readonly type?: string;
  /** Values are base64. */
  readonly data?: Readonly<Record<string, string>>;
}

export interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

function resource<T extends KubeObject>(
  group: string,
  kind: string,
  plural: string,
  scope: "namespaced" | "cluster" = "namespaced",
): Resource<T> {
  return { group, version: "v1", kind, plural, namespaced: scope === "namespaced" };
}

const RBAC = "rbac.authorization.k8s.io";

export const DAEMON_SETS: Resource<DaemonSet> = resource("apps", "DaemonSet", "daemonsets");
export const DEPLOYMENTS: Resource<Deployment> = resource("apps", "Deployment", "deployments");
export const CONFIG_MAPS: Resource<ConfigMap> = resource("", "ConfigMap", "configmaps");
export const SECRETS: Resource<Secret> = resource("", "Secret", "secrets");
export const SERVICE_ACCOUNTS: Resource<KubeObject> = resource("", "ServiceAccount", "serviceaccounts");
export const RESOURCE_QUOTAS: Resource<KubeObject> = resource("", "ResourceQuota", "resourcequotas");
export const ROLES: Resource<KubeObject> = resource(RBAC, "Role", "roles");
export const ROLE_BINDINGS: Resource<KubeObject> = resource(RBAC, "RoleBinding", "rolebindings");
export const CLUSTER_ROLES: Resource<KubeObject> = resource(RBAC, "ClusterRole", "clusterroles", "cluster");
export const CLUSTER_ROLE_BINDINGS: Resource<KubeObject> = resource(
  RBAC,
  "ClusterRoleBinding",
  "clusterrolebindings",
  "cluster",
);
export const NETWORK_POLICIES: Resource<KubeObject> = resource("networking.k8s.io", "NetworkPolicy", "networkpolicies");
