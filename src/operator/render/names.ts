// SPDX-License-Identifier: Apache-2.0

/** Of agent, controller and operator. Made by the static manifests, which a user applies and deletes. */
export const NAMESPACE = "gingham-system";

/** Tigera's operator: its Deployment, its namespace, and the one Installation that it acts on. */
export const TIGERA_OPERATOR = { name: "tigera-operator", namespace: "tigera-operator", installation: "default" };
/** Where pull secrets are, as Tigera's operator expects them. */
export const PULL_SECRET_NAMESPACE: string = TIGERA_OPERATOR.namespace;

/** Names of what is installed, which are also those of the service accounts and the label `app.kubernetes.io/name`. */
export const AGENT = "gingham-agent";
export const CONTROLLER = "gingham-controller";
export const OPERATOR = "gingham-operator";

/** RoleBinding of the agent on OpenShift. */
export const AGENT_SCC = "gingham-agent-scc";
/** ConfigMap with the network configuration, under the key CNI_CONFIG_KEY. */
export const CNI_CONFIG = "gingham-cni-config";
export const CNI_CONFIG_KEY = "conflist";

/** Key of the taint that agents take off, where nobody names another by GINGHAM_STARTUP_TAINT. */
export const STARTUP_TAINT = "gingham.dev/agent-not-ready";

export const MANAGED_BY_LABEL = "app.kubernetes.io/managed-by";
export const NAME_LABEL = "app.kubernetes.io/name";

/** What all of our objects have; `managed-by` says who may change and remove them. */
export function labelsOf(name: string, managedBy?: string): Readonly<Record<string, string>> {
  return {
    "app.kubernetes.io/part-of": "gingham",
    [NAME_LABEL]: name,
    ...(managedBy === undefined ? {} : { [MANAGED_BY_LABEL]: managedBy }),
  };
}
