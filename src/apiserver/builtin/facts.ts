// SPDX-License-Identifier: Apache-2.0

/**
 * What the API reference says of fields besides their types: the keys that lists are merged by, and the defaults that
 * clients take for granted. Keys are `Type.field` of the field table.
 */

/** Lists that a strategic merge patch merges by a key. Source: `patchMergeKey` in the Kubernetes API types. */
export const PATCH_MERGE_KEYS: Readonly<Record<string, string>> = {
  "Container.env": "name",
  "Container.ports": "containerPort",
  "Container.volumeDevices": "devicePath",
  "Container.volumeMounts": "mountPath",
  "DaemonSetStatus.conditions": "type",
  "DeploymentStatus.conditions": "type",
  "EphemeralContainer.env": "name",
  "EphemeralContainer.ports": "containerPort",
  "EphemeralContainer.volumeDevices": "devicePath",
  "EphemeralContainer.volumeMounts": "mountPath",
  "NamespaceStatus.conditions": "type",
  "NodeStatus.addresses": "type",
  "NodeStatus.conditions": "type",
  "ObjectMeta.ownerReferences": "uid",
  "PodDisruptionBudgetStatus.conditions": "type",
  "PodSpec.containers": "name",
  "PodSpec.ephemeralContainers": "name",
  "PodSpec.hostAliases": "ip",
  "PodSpec.imagePullSecrets": "name",
  "PodSpec.initContainers": "name",
  "PodSpec.resourceClaims": "name",
  "PodSpec.schedulingGates": "name",
  "PodSpec.topologySpreadConstraints": "topologyKey",
  "PodSpec.volumes": "name",
  "PodStatus.conditions": "type",
  "PodStatus.podIPs": "ip",
  "ReplicaSetStatus.conditions": "type",
  "ServiceAccount.secrets": "name",
  "ServiceSpec.ports": "port",
  "ServiceStatus.conditions": "type",
  "StatefulSetStatus.conditions": "type",
};

/** Lists whose apply key has more fields than the merge key. Source: `listMapKey` in the Kubernetes API types. */
export const LIST_MAP_KEYS: Readonly<Record<string, readonly string[]>> = {
  "Container.ports": ["containerPort", "protocol"],
  "EphemeralContainer.ports": ["containerPort", "protocol"],
  "PodSpec.topologySpreadConstraints": ["topologyKey", "whenUnsatisfiable"],
  "ServiceSpec.ports": ["port", "protocol"],
  "CustomResourceDefinitionStatus.conditions": ["type"],
};

/** Lists of scalars that are merged as sets. */
export const SETS: ReadonlySet<string> = new Set(["ObjectMeta.finalizers", "NodeSpec.podCIDRs"]);

/** Structs and maps that an apply owns as a whole. Source: `structType=atomic` and `mapType=atomic`. */
export const ATOMIC_OBJECTS: ReadonlySet<string> = new Set([
  "LabelSelector",
  "LocalObjectReference",
  "NodeSelector",
  "NodeSelectorTerm",
  "ObjectFieldSelector",
  "ObjectReference",
  "OwnerReference",
  "ResourceFieldSelector",
  "RoleRef",
  "SecretReference",
  "Subject",
  "TypedLocalObjectReference",
]);

/** Defaults that kubectl's own code takes for granted, or that merging by key needs. */
export const DEFAULTS: Readonly<Record<string, unknown>> = {
  "ContainerPort.protocol": "TCP",
  "CustomResourceDefinitionSpec.conversion": { strategy: "None" },
  "DaemonSetSpec.updateStrategy": { type: "RollingUpdate" },
  "DeploymentSpec.replicas": 1,
  "DeploymentSpec.strategy": { type: "RollingUpdate", rollingUpdate: { maxSurge: "25%", maxUnavailable: "25%" } },
  "NetworkPolicyPort.protocol": "TCP",
  "PodSpec.dnsPolicy": "ClusterFirst",
  "PodSpec.restartPolicy": "Always",
  "PodSpec.terminationGracePeriodSeconds": 30,
  "ReplicaSetSpec.replicas": 1,
  "Secret.type": "Opaque",
  "ServicePort.protocol": "TCP",
  "ServiceSpec.sessionAffinity": "None",
  "ServiceSpec.type": "ClusterIP",
  "StatefulSetSpec.replicas": 1,
  "StatefulSetSpec.updateStrategy": { type: "RollingUpdate" },
};
