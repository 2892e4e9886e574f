// SPDX-License-Identifier: Apache-2.0
import { EVENT_NAMESPACE } from "../../controller/event.ts";
import { IPAM_BLOCK_CRD_NAME } from "../../crds/installed-crd.ts";
import type { Manifest } from "./manifest.ts";
import { AGENT, CONTROLLER, labelsOf, NAMESPACE } from "./names.ts";

/** Source: rbac.authorization.k8s.io/v1 PolicyRule. */
export interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

export function rule(group: string, resources: readonly string[], verbs: readonly string[], names?: string[]): Rule {
  return { apiGroups: [group], resources, ...(names && { resourceNames: names }), verbs };
}

const CALICO = "crd.projectcalico.org";
const WATCH = ["list", "watch"];
const READ = ["get", ...WATCH];

/** Source: the calls in src/kube and src/ipam/kube-store.ts; test/e2e/install-agent.test.ts runs agent and controller with no others. */
export const AGENT_RULES: readonly Rule[] = [
  rule("", ["nodes", "namespaces", "pods"], READ),
  rule("", ["nodes/status"], ["update", "patch"]),
  // Takes the start-up taint off.
  rule("", ["nodes"], ["patch"]),
  rule("", ["pods/status"], ["patch"]),
  rule(CALICO, ["ippools", "ipreservations", "ipamconfigs", "clusterinformations", "felixconfigurations"], WATCH),
  rule(CALICO, ["ipamblocks", "blockaffinities"], [...READ, "create", "update", "delete"]),
  rule(CALICO, ["ipamhandles"], ["get", "list", "create", "update", "delete"]),
  rule(CALICO, ["ipamblocks/status"], ["update"]),
  // Whether blocks keep `releasedAt`.
  rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["get"], [IPAM_BLOCK_CRD_NAME]),
];

export const CONTROLLER_RULES: readonly Rule[] = [
  rule("", ["nodes", "pods"], READ),
  rule(CALICO, ["ippools"], WATCH),
  rule(CALICO, ["ippools/status"], ["update"]),
  rule(CALICO, ["ipamconfigs"], READ),
  rule(CALICO, ["ipreservations"], ["list"]),
  rule(CALICO, ["clusterinformations", "kubecontrollersconfigurations"], ["get"]),
  // It frees, and never claims or gives.
  rule(CALICO, ["ipamblocks", "ipamhandles", "blockaffinities"], ["get", "list", "update", "delete"]),
];

/** For the Lease, in the namespace of whoever leads. */
export const LEASE_RULES: readonly Rule[] = [rule("coordination.k8s.io", ["leases"], ["get", "create", "update"])];
/** Objects of the cluster have their events in the namespace default. */
export const EVENT_RULES: readonly Rule[] = [rule("", ["events"], ["create"])];

/** Accounts and rights of agent and controller. */
export function renderAccess(managedBy?: string): Manifest[] {
  const agent = { name: AGENT, namespace: NAMESPACE };
  const controller = { name: CONTROLLER, namespace: NAMESPACE };
  const labels = (name: string): Readonly<Record<string, string>> => labelsOf(name, managedBy);
  return [
    renderAccount(agent, labels(AGENT)),
    renderAccount(controller, labels(CONTROLLER)),
    ...renderRights(agent, AGENT_RULES, labels(AGENT)),
    ...renderRights(controller, CONTROLLER_RULES, labels(CONTROLLER)),
    ...renderRights(controller, LEASE_RULES, labels(CONTROLLER), NAMESPACE),
    ...renderRights(controller, EVENT_RULES, labels(CONTROLLER), EVENT_NAMESPACE),
  ];
}

export interface Account {
  readonly name: string;
  readonly namespace: string;
}

export function renderAccount(
  { name, namespace }: Account,
  labels: Readonly<Record<string, string>>,
  pullSecrets: readonly string[] = [],
): Manifest {
  const imagePullSecrets = pullSecrets.map((secret) => ({ name: secret }));
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name, namespace, labels },
    ...(imagePullSecrets.length > 0 && { imagePullSecrets }),
  };
}

/** A role with the account's name and its binding: of one namespace, or without one of the cluster. */
export function renderRights(
  account: Account,
  rules: readonly Rule[],
  labels: Readonly<Record<string, string>>,
  namespace?: string,
): Manifest[] {
  const apiGroup = "rbac.authorization.k8s.io";
  const kind = namespace === undefined ? "ClusterRole" : "Role";
  const head = {
    apiVersion: `${apiGroup}/v1`,
    metadata: { name: account.name, ...(namespace !== undefined && { namespace }), labels },
  };
  return [
    { ...head, kind, rules },
    {
      ...head,
      kind: `${kind}Binding`,
      roleRef: { apiGroup, kind, name: account.name },
      subjects: [{ kind: "ServiceAccount", ...account }],
    },
  ];
}
