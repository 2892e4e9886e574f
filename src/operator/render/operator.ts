// SPDX-License-Identifier: Apache-2.0
import { EVENT_NAMESPACE } from "../../controller/event.ts";
import { variables } from "./agent.ts";
import { OPERATOR_METRICS_PORT, renderDeployment } from "./controller.ts";
import type { Manifest } from "./manifest.ts";
import { AGENT, AGENT_SCC, CONTROLLER, labelsOf, NAMESPACE, OPERATOR, TIGERA_OPERATOR } from "./names.ts";
import {
  type Account,
  AGENT_RULES,
  CONTROLLER_RULES,
  EVENT_RULES,
  LEASE_RULES,
  type Rule,
  renderAccount,
  renderRights,
  rule,
} from "./rbac.ts";
import { renderNamespace } from "./render.ts";
import type { InstallSettings } from "./settings.ts";

const CALICO = "crd.projectcalico.org";
const TIGERA = "operator.tigera.io";
const RBAC = "rbac.authorization.k8s.io";
const LOOK = ["list", "watch"];
/** A server-side apply that makes an object takes patch and create. */
const MANAGE = ["get", "list", "watch", "create", "patch", "delete"];
const OURS = [AGENT, CONTROLLER, AGENT_SCC];

/** What the operator needs of the whole cluster. Nobody may grant a right that he lacks, so it has those of the others. */
export const OPERATOR_RULES: readonly Rule[] = [
  ...AGENT_RULES,
  ...CONTROLLER_RULES,
  rule(TIGERA, ["installations"], ["get", "list", "watch", "patch"]),
  rule(TIGERA, ["installations/status", "installations/finalizers"], ["update", "patch"]),
  rule(TIGERA, ["tigerastatuses"], MANAGE),
  rule(TIGERA, ["tigerastatuses/status"], ["patch"]),
  // No object can be named when it is made or listed.
  rule(RBAC, ["clusterroles", "clusterrolebindings", "roles", "rolebindings"], [...LOOK, "create"]),
  rule(RBAC, ["clusterroles", "clusterrolebindings", "roles", "rolebindings"], ["get", "patch", "delete"], OURS),
  // What the agents are bound to on OpenShift.
  rule("security.openshift.io", ["securitycontextconstraints"], ["use"], ["privileged"]),
  rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["get", "list", "watch", "create", "patch"]),
  // Whether Tigera's operator would act on the same Installation.
  rule("apps", ["deployments"], ["get"], [TIGERA_OPERATOR.name]),
  rule(CALICO, ["ippools"], MANAGE),
  rule(CALICO, ["clusterinformations"], ["create", "delete"]),
];

/** What it needs in its own namespace. */
export const OPERATOR_NAMESPACE_RULES: readonly Rule[] = [
  ...LEASE_RULES,
  // Secrets: copies of pull secrets.
  rule("", ["serviceaccounts", "configmaps", "resourcequotas", "secrets"], MANAGE),
  rule("", ["pods"], ["delete"]),
  rule("apps", ["daemonsets", "deployments"], MANAGE),
  rule("networking.k8s.io", ["networkpolicies"], MANAGE),
];

export const OPERATOR_ACCOUNT: Account = { name: OPERATOR, namespace: NAMESPACE };

/** The operator itself, without the CRDs of Installation and TigeraStatus: what a user applies. */
export function renderOperator(
  settings: Pick<InstallSettings, "image" | "imagePullSecrets" | "controlPlaneNodeSelector">,
): readonly Manifest[] {
  const account = OPERATOR_ACCOUNT;
  const labels = labelsOf(OPERATOR);
  return [
    renderNamespace(NAMESPACE),
    renderAccount(account, labels),
    ...renderRights(account, OPERATOR_RULES, labels),
    ...renderRights(account, OPERATOR_NAMESPACE_RULES, labels, NAMESPACE),
    ...renderRights(account, EVENT_RULES, labels, EVENT_NAMESPACE),
    renderDeployment(settings, {
      ...account,
      replicas: 1,
      metricsPort: OPERATOR_METRICS_PORT,
      // What it installs is of its own image, unless the Installation names another registry.
      env: variables({ GINGHAM_IMAGE: settings.image }),
    }),
  ];
}
