// SPDX-License-Identifier: Apache-2.0
import { renderAgent } from "./agent.ts";
import { renderCNIConfig } from "./conflist.ts";
import { CONTROLLER_METRICS_PORT, controllerOptions, renderDeployment } from "./controller.ts";
import type { Manifest } from "./manifest.ts";
import { AGENT, AGENT_SCC, labelsOf, NAMESPACE } from "./names.ts";
import { renderAccess } from "./rbac.ts";
import type { InstallSettings } from "./settings.ts";

/**
 * Everything but the namespace, CRDs and custom resources that agent and controller need, in the order in which it is applied. The one
 * source of the operator's objects and of manifests/install.yaml.
 *
 * @param managedBy who may change and remove the objects: a label of each of them; absent in static manifests
 */
export function renderInstall(settings: InstallSettings, managedBy?: string): readonly Manifest[] {
  return [
    ...(settings.provider === "GKE" ? [renderCriticalPodsQuota(managedBy)] : []),
    ...renderAccess(managedBy),
    ...(settings.provider === "OpenShift" ? [renderPrivilegedSCC(managedBy)] : []),
    renderNetworkPolicy(settings, managedBy),
    renderCNIConfig(settings.cni, managedBy),
    renderAgent(settings, managedBy),
    renderDeployment(settings, { ...controllerOptions(settings, NAMESPACE), ...(managedBy && { managedBy }) }),
  ];
}

/** Agents are privileged pods: the namespace says so to the pod security admission. */
export function renderNamespace(name: string): Manifest {
  const modes = ["enforce", "audit", "warn"];
  const security = Object.fromEntries(modes.map((mode) => [`pod-security.kubernetes.io/${mode}`, "privileged"]));
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, labels: { ...labelsOf(name), ...security } },
  };
}

/** Our pods use the host's network, where policies do not reach; this is for whatever else lands in the namespace. */
function renderNetworkPolicy({ nodeMetricsPort }: InstallSettings, managedBy?: string): Manifest {
  const ports = [nodeMetricsPort, CONTROLLER_METRICS_PORT].map((port) => ({ protocol: "TCP", port }));
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "gingham", namespace: NAMESPACE, labels: labelsOf("gingham", managedBy) },
    spec: { podSelector: {}, policyTypes: ["Ingress"], ingress: [{ ports }] },
  };
}

/** OpenShift admits privileged pods only to accounts that may use this SecurityContextConstraints. */
export function renderPrivilegedSCC(managedBy?: string): Manifest {
  const apiGroup = "rbac.authorization.k8s.io";
  return {
    apiVersion: `${apiGroup}/v1`,
    kind: "RoleBinding",
    metadata: { name: AGENT_SCC, namespace: NAMESPACE, labels: labelsOf(AGENT, managedBy) },
    roleRef: { apiGroup, kind: "ClusterRole", name: "system:openshift:scc:privileged" },
    subjects: [{ kind: "ServiceAccount", name: AGENT, namespace: NAMESPACE }],
  };
}

/** GKE admits pods of the critical priorities only to namespaces with such a quota. */
function renderCriticalPodsQuota(managedBy?: string): Manifest {
  const values = ["system-node-critical", "system-cluster-critical"];
  return {
    apiVersion: "v1",
    kind: "ResourceQuota",
    metadata: { name: "gingham-critical-pods", namespace: NAMESPACE, labels: labelsOf("gingham", managedBy) },
    spec: {
      hard: { pods: "1G" },
      scopeSelector: { matchExpressions: [{ operator: "In", scopeName: "PriorityClass", values }] },
    },
  };
}
