// SPDX-License-Identifier: Apache-2.0

import type { Installation } from "../crds/installation.ts";
import type { InstalledCRD } from "../crds/installed-crd.ts";
import type { IPPool } from "../crds/ip-pool.ts";
import type { KubeObject } from "../crds/object.ts";
import type { DaemonSet, Deployment, Secret } from "../crds/workloads.ts";
import type { CIDR } from "../net/cidr.ts";

/** What the cluster is like, as far as an installation depends on it: one look. */
export interface ClusterFacts {
  readonly installations: readonly Installation[];
  /** By name: those of our kinds that are there. */
  readonly crds: ReadonlyMap<string, InstalledCRD>;
  readonly pools: readonly IPPool[];
  /** ClusterInformation `default` is there. */
  readonly hasClusterInformation: boolean;
  /** Of each block: how many addresses are pods'. Empty when nobody asked. */
  readonly blocks: readonly { readonly cidr: CIDR; readonly pods: number }[];
  readonly nodes: readonly NodeFacts[];
  /** By name: the pull secrets that were asked for. */
  readonly pullSecrets: ReadonlyMap<string, PullSecret>;
  /** Our copies of pull secrets. */
  readonly copiedSecrets: readonly Secret[];
  /** Tigera's operator runs in this cluster; false as well where nobody lets us know. */
  readonly hasTigeraOperator: boolean;
  readonly unreadable: readonly Unreadable[];
}

/** What the API server does not let us read: nothing is known of it. */
export interface Unreadable {
  readonly resource: string;
  readonly message: string;
}

/** Where a pull secret is: in our namespace, made by somebody else; elsewhere, to be copied; or `why` it cannot be had. */
export type PullSecret =
  | { readonly kind: "present" }
  | { readonly kind: "elsewhere"; readonly secret: Secret }
  | { readonly kind: "missing"; readonly why: string };

export type SeenFirst = Pick<ClusterFacts, "installations" | "pools">;

/** What is read only where it matters. */
export interface Questions {
  /** Names of Secrets. */
  readonly secrets: readonly string[];
  /** There are thousands of them. */
  readonly blocks: boolean;
}

export interface NodeFacts {
  readonly name: string;
  readonly isReady: boolean;
  /** Nothing is heard of its kubelet. */
  readonly isDown: boolean;
  /** What its agent, which runs, says is wrong with the node; absent: nothing. */
  readonly trouble?: string;
  readonly addresses: readonly string[];
  /** Smallest MTU of the links between nodes, as its agent said; absent: it has not. Units: bytes. */
  readonly linkMTU?: number;
}

/** A pod of the DaemonSet. */
export interface AgentPod {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly node: string;
  /** Of the template that it was made of. */
  readonly revision: string;
  readonly isReady: boolean;
  readonly isLeaving: boolean;
  /** What its kubelet says of a container that does not run; empty when nothing. */
  readonly trouble: string;
}

/** The workloads as they run. */
export interface Workloads {
  readonly daemonSet: DaemonSet | undefined;
  readonly deployment: Deployment | undefined;
  readonly pods: readonly AgentPod[];
  readonly unreadable: readonly Unreadable[];
}

/** Why a write was not done. `away`: it may have been, nobody knows. */
export interface Refusal {
  readonly kind: "forbidden" | "invalid" | "missing" | "conflict" | "away";
  readonly message: string;
}

export type Outcome<T> = { readonly kind: "ok"; readonly value: T } | Refusal;

export interface ApplyOptions {
  readonly dryRun?: boolean;
  readonly signal: AbortSignal;
}

/** The API server, for the apply loop. Nothing but the signal's reason is thrown by a write. */
export interface ClusterPort {
  /** @param ask says what else to read, by what was read first. @throws GinghamError when something cannot be read */
  facts(ask: (seen: SeenFirst) => Questions, signal: AbortSignal): Promise<ClusterFacts>;
  workloads(signal: AbortSignal): Promise<Workloads>;
  get(object: KubeObject, signal: AbortSignal): Promise<Outcome<KubeObject | undefined>>;
  /** Server-side apply under our field manager, by force: what others changed of our fields is set back. */
  apply(object: KubeObject, options: ApplyOptions): Promise<Outcome<KubeObject>>;
  /** Makes it where it is not there yet; `conflict` when it is, and then it is left as it is. */
  create(object: KubeObject, options: ApplyOptions): Promise<Outcome<KubeObject>>;
  /** A JSON patch of a CRD, which fails when it has changed since it was read. */
  patchCRD(crd: InstalledCRD, operations: readonly object[], signal: AbortSignal): Promise<Outcome<KubeObject>>;
  /** Sets annotations that `apply` knows nothing of; null takes one away. */
  annotate(
    object: KubeObject,
    annotations: Readonly<Record<string, string | null>>,
    signal: AbortSignal,
  ): Promise<Outcome<KubeObject>>;
  /** Of the object with this UID and, with `isUnchanged`, this version. One that is gone already is fine. */
  remove(object: KubeObject, signal: AbortSignal, isUnchanged?: boolean): Promise<Outcome<void>>;
  /**
   * What is left of IPAM in networks: blocks of which no pod has an address, their claims, and handles that name no other
   * block; in the order in which they may go.
   */
  emptyIPAM(networks: readonly CIDR[], signal: AbortSignal): Promise<Outcome<readonly KubeObject[]>>;
  /** Sets or takes away a finalizer and nothing else. */
  setFinalizers(
    installation: Installation,
    finalizers: readonly string[],
    signal: AbortSignal,
  ): Promise<Outcome<KubeObject>>;
  /** Replaces the status's conditions. */
  writeConditions(object: KubeObject, conditions: readonly object[], signal: AbortSignal): Promise<Outcome<KubeObject>>;
}
