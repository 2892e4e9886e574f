// SPDX-License-Identifier: Apache-2.0

import { CLUSTER_INFORMATIONS } from "../../crds/cluster-information.ts";
import { CUSTOM_RESOURCE_DEFINITIONS } from "../../crds/installed-crd.ts";
import { IP_POOLS } from "../../crds/ip-pool.ts";
import type { KubeObject, Resource } from "../../crds/object.ts";
import {
  CLUSTER_ROLE_BINDINGS,
  CLUSTER_ROLES,
  CONFIG_MAPS,
  DAEMON_SETS,
  DEPLOYMENTS,
  NETWORK_POLICIES,
  RESOURCE_QUOTAS,
  ROLE_BINDINGS,
  ROLES,
  SECRETS,
  SERVICE_ACCOUNTS,
} from "../../crds/workloads.ts";

/** An object as it is applied: no status, and of the metadata only what we want. */
export type Manifest = KubeObject & { readonly [field: string]: unknown };

/** Where each kind that we install is served, in the order in which one needs another; removal goes the other way. */
export const INSTALLED_RESOURCES: readonly Resource<KubeObject>[] = [
  SECRETS as Resource<KubeObject>,
  SERVICE_ACCOUNTS,
  RESOURCE_QUOTAS,
  CLUSTER_ROLES,
  CLUSTER_ROLE_BINDINGS,
  ROLES,
  ROLE_BINDINGS,
  NETWORK_POLICIES,
  CONFIG_MAPS,
  DAEMON_SETS,
  DEPLOYMENTS,
];

const RESOURCES: readonly Resource<KubeObject>[] = [
  ...INSTALLED_RESOURCES,
  CUSTOM_RESOURCE_DEFINITIONS,
  CLUSTER_INFORMATIONS as Resource<KubeObject>,
  IP_POOLS as Resource<KubeObject>,
];

/** Where objects of the manifest's kind are served. @throws RangeError for a kind that we do not install */
export function resourceOf({ kind }: Pick<KubeObject, "kind">): Resource<KubeObject> {
  const found = RESOURCES.find((resource) => resource.kind === kind);
  if (found === undefined) throw new RangeError(`No resource for the kind ${kind}`);
  return found;
}

/**
 * ClusterInformation holds the cluster's identity and the lock of a migration: what is there when it is written is
 * somebody's, and stays.
 */
export function isMadeOnce({ kind }: Pick<KubeObject, "kind">): boolean {
  return kind === CLUSTER_INFORMATIONS.kind;
}

/** `kind namespace/name`, for messages and as a key. */
export function nameOf({ kind, metadata: { namespace, name } }: KubeObject): string {
  return `${kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`;
}
