// SPDX-License-Identifier: Apache-2.0
import { AGE, type KindDefinition } from "./definition.ts";
import type { KubeObject, Resource } from "./object.ts";
import { array, boolean, integer, intOrString, map, object, type Schema, string } from "./schema.ts";

/** Says how something is, now. Source: Kubernetes API conventions, typical status properties. */
export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason?: string;
  readonly message?: string;
  readonly observedGeneration?: number;
  readonly lastTransitionTime?: string;
}

/** What a cluster shall have installed. The spec is read field by field by the operator, which tells what it cannot use. */
export interface Installation extends KubeObject {
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: { readonly conditions?: readonly Condition[] };
}

/** The CRD may be Tigera's, which prunes what it does not know: so what is ours alone stands in annotations. */
export const MANAGED_ANNOTATION = "gingham.dev/managed";
/** Names of changes that would do harm, and are wanted nevertheless, with commas between them. */
export const ALLOW_ANNOTATION = "gingham.dev/allow";

/** What becomes of other networks' configurations on each node: Tigera's fields say nothing of them. */
export const CNI_OTHERS_ANNOTATION = "gingham.dev/cni-others";

export const INSTALLATIONS: Resource<Installation> = {
  group: "operator.tigera.io",
  version: "v1",
  kind: "Installation",
  plural: "installations",
  namespaced: false,
};

/** Source: Kubernetes API conventions, typical status properties. */
export function conditionsSchema(description: string): Schema {
  const fields = {
    type: string(),
    status: string(),
    reason: string(),
    message: string(),
    observedGeneration: integer(undefined, { format: "int64" }),
    lastTransitionTime: string(undefined, { format: "date-time" }),
  };
  return array(object(fields, { required: ["type", "status"] }), description);
}

/** Whatever else a file for Tigera's operator has is kept, and the operator tells that it has no effect. */
function lenient(properties: Readonly<Record<string, Schema>>): Schema {
  return object(properties, { "x-kubernetes-preserve-unknown-fields": true });
}

const AUTODETECTION = lenient({
  firstFound: boolean("The first link with an address."),
  kubernetes: string("NodeInternalIP: the Node's own."),
  interface: string("Regular expression of the links' names."),
  skipInterface: string("Regular expression of the names of links not to use."),
  canReach: string("The address by which this one is reached."),
  cidrs: array(string(), "The first address in one of these networks."),
});

const POOL = lenient({
  name: string("Of the IPPool; by default after its family or its network."),
  cidr: string("Its network. Cannot be changed."),
  encapsulation: string(
    "IPIP, IPIPCrossSubnet, VXLAN, VXLANCrossSubnet or None; by default IPIP for IPv4, None for IPv6.",
  ),
  natOutgoing: string("Enabled or Disabled: Enabled by default for IPv4."),
  nodeSelector: string("The nodes that may use the pool: all() by default."),
  blockSize: integer("Prefix length of its blocks: 26 or 122 by default. Cannot be changed."),
  disableBGPExport: boolean("Do not announce its blocks over BGP."),
  disableNewAllocations: boolean("Assign no new addresses from it."),
  allowedUses: array(string(), "Workload, Tunnel: both by default."),
  assignmentMode: string("Automatic, or Manual: only when a pod asks for this pool."),
});

/** Fields that Gingham heeds. */
const SPEC = lenient({
  variant: string("Calico."),
  registry: string("Where the image comes from: by default the operator's own."),
  imagePath: string("Replaces the path of the image between registry and name."),
  imagePrefix: string("Stands before the image's name."),
  imagePullSecrets: array(lenient({ name: string() }), "Secrets in the operator's namespace."),
  kubernetesProvider: string("EKS, GKE, AKS, OpenShift, DockerEnterprise, RKE2, TKG or nothing."),
  cni: lenient({
    type: string("Calico."),
    ipam: lenient({ type: string("Calico.") }),
    binDir: string("Where the container runtime looks for plugins: /opt/cni/bin by default."),
    confDir: string("Where it looks for network configurations: /etc/cni/net.d by default."),
    installMode: string("All, or CalicoOnly: the host has the other plugins of the chain."),
  }),
  calicoNetwork: lenient({
    linuxDataplane: string("Nftables."),
    mtu: integer("Of pods; 0: what fits between nodes."),
    nodeAddressAutodetectionV4: AUTODETECTION,
    nodeAddressAutodetectionV6: AUTODETECTION,
    hostPorts: string("Enabled or Disabled."),
    containerIPForwarding: string("Enabled or Disabled."),
    sysctl: array(lenient({ key: string(), value: string() }), "Of pods: keys that begin with net."),
    ipPools: array(POOL, "The pools that the operator makes, changes and deletes. It leaves all others alone."),
  }),
  nodeMetricsPort: integer("Of the agents: 9091 by default."),
  nodeUpdateStrategy: lenient({ rollingUpdate: lenient({ maxUnavailable: intOrString("Agents at once: 1.") }) }),
  nodeSelector: map(string(), "Labels of the nodes that get an agent."),
  controlPlaneReplicas: integer("Pods of the controller: 2 by default."),
  controlPlaneNodeSelector: map(string(), "Labels of the nodes that the controller may run on."),
  serviceCIDRs: array(string(), "The cluster's networks of services, which no pool may overlap."),
  logging: lenient({ cni: lenient({ logSeverity: string("Debug, Info, Warning or Error.") }) }),
});

export const INSTALLATION_KIND: KindDefinition = {
  resource: INSTALLATIONS as Resource<KubeObject>,
  description: `Says what to install. Gingham's operator heeds the one that has the annotation ${MANAGED_ANNOTATION}.`,
  spec: SPEC,
  isSpecOptional: true,
  status: object(
    { conditions: conditionsSchema("Available, Progressing, Degraded; FieldsIgnored names what has no effect.") },
    { "x-kubernetes-preserve-unknown-fields": true },
  ),
  statusSubresource: true,
  printerColumns: [
    { name: "Available", type: "string", jsonPath: '.status.conditions[?(@.type=="Available")].status' },
    { name: "Degraded", type: "string", jsonPath: '.status.conditions[?(@.type=="Degraded")].status' },
    AGE,
    { name: "Message", type: "string", jsonPath: '.status.conditions[?(@.type=="Degraded")].message' },
  ],
};
