// SPDX-License-Identifier: Apache-2.0
import { CLUSTER_INFORMATIONS, type ClusterInformation } from "../crds/cluster-information.ts";
import { NODES, type Node, PODS, type Pod } from "../crds/core.ts";
import { type EncapMode, IP_POOLS, type IPPool } from "../crds/ip-pool.ts";
import { DEFAULT_IPAM_CONFIG, IPAM_CONFIGS, type IPAMConfig } from "../crds/ipam-config.ts";
import {
  KUBE_CONTROLLERS_CONFIGURATIONS,
  type KubeControllersConfiguration,
} from "../crds/kube-controllers-configuration.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import type { Family } from "../net/ip.ts";

/** The objects that a fresh cluster needs before its first pod. Pure. */

export const POOL_CIDRS: Readonly<Record<Family, string>> = { 4: "192.168.0.0/16", 6: "fd00:10:244::/112" };
export const POD_NAMESPACE = "default";
/** Network name of the configuration list: the first half of every handle. As in the clusters that users know. */
export const NETWORK_NAME = "k8s-pod-network";

/** As Calico makes them: IPv6 addresses leave the cluster as they are. */
export function renderIPPool(blockSize: number, family: Family = 4, vxlanMode: EncapMode = "Never"): IPPool {
  return {
    ...head(IP_POOLS, `default-ipv${family}-ippool`),
    spec: {
      cidr: POOL_CIDRS[family],
      blockSize,
      ipipMode: "Never",
      vxlanMode,
      natOutgoing: family === 4,
      nodeSelector: "all()",
      allowedUses: ["Workload", "Tunnel"],
    },
  };
}

export function renderClusterInformation(clusterGUID: string): ClusterInformation {
  return {
    ...head(CLUSTER_INFORMATIONS, "default"),
    spec: { clusterGUID, clusterType: "k8s,gingham,lab", calicoVersion: "", datastoreReady: true },
  };
}

export function renderIPAMConfig(): IPAMConfig {
  return { ...head(IPAM_CONFIGS, "default"), spec: DEFAULT_IPAM_CONFIG };
}

export function renderKubeControllersConfiguration(): KubeControllersConfiguration {
  return {
    ...head(KUBE_CONTROLLERS_CONFIGURATIONS, "default"),
    spec: { controllers: { node: { leakGracePeriod: "15m0s", reconcilerPeriod: "5m0s" } } },
  };
}

export function renderNode(name: string, ...ips: readonly string[]): Node {
  // What the kubelet of a healthy node writes; Node's type has only what Gingham reads.
  const status: Node["status"] & { readonly conditions: readonly object[] } = {
    addresses: [...ips.map((address) => ({ type: "InternalIP", address })), { type: "Hostname", address: name }],
    conditions: [{ type: "Ready", status: "True", reason: "KubeletReady", message: "a node of the laboratory" }],
  };
  return {
    ...head(NODES, name),
    metadata: { name, labels: { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" } },
    status,
  };
}

export interface PodObjectRequest {
  readonly name: string;
  readonly node: string;
  readonly hostPort?: { readonly hostPort: number; readonly containerPort: number };
  readonly annotations?: Readonly<Record<string, string>>;
  readonly statefulSet?: string;
}

export function renderPod(request: PodObjectRequest): Pod {
  const { name, node, hostPort, annotations, statefulSet = "" } = request;
  const owner = { apiVersion: "apps/v1", kind: "StatefulSet", name: statefulSet, uid: statefulSet, controller: true };
  const container = {
    name: "main",
    image: "gingham.example/lab",
    ...(hostPort === undefined ? {} : { ports: [{ ...hostPort, protocol: "TCP" }] }),
  };
  // Pod's type has only what Gingham reads; the schema also wants the containers.
  const spec: Pod["spec"] & { containers: readonly object[] } = { nodeName: node, containers: [container] };
  return {
    ...head(PODS, name),
    metadata: {
      name,
      namespace: POD_NAMESPACE,
      labels: { app: "lab" },
      ...(annotations === undefined ? {} : { annotations }),
      ...(statefulSet === "" ? {} : { ownerReferences: [owner] }),
    },
    spec,
  };
}

/** The configuration list that a runtime executes. 1.0.0 is the newest that Debian's plugins know. */
export function renderConflist(families: readonly Family[] = [4]): string {
  const conflist = {
    name: NETWORK_NAME,
    cniVersion: "1.0.0",
    plugins: [
      { type: "gingham", ipam: renderIPAM(families) },
      { type: "portmap", snat: true, capabilities: { portMappings: true } },
      { type: "bandwidth", capabilities: { bandwidth: true } },
    ],
  };
  return `${JSON.stringify(conflist, undefined, 2)}\n`;
}

/** Booleans as texts, as in Calico's own files. */
function renderIPAM(families: readonly Family[]): object {
  const text = (family: Family): string => String(families.includes(family));
  return { type: "gingham-ipam", assign_ipv4: text(4), assign_ipv6: text(6) };
}

function head<T extends KubeObject>(resource: Resource<T>, name: string): KubeObject {
  const { group, version, kind } = resource;
  return { apiVersion: group === "" ? version : `${group}/${version}`, kind, metadata: { name } };
}
