// SPDX-License-Identifier: Apache-2.0
import type { CIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";

/** One address in use, with all that is needed to judge its owner and to give it back. */
export interface HeldAddress {
  readonly ip: IP;
  readonly block: CIDR;
  readonly ordinal: number;
  readonly handleID: string;
  readonly sequenceNumber: bigint;
  /** The owner's attributes, `secondary` in the block. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** Who holds an address. Only `pod`, `attachment` and `tunnel` are ever freed by a collector. */
export type Owner =
  /** A pod's sandbox: `node`, `namespace` and `pod` are there. */
  | { readonly kind: "pod"; readonly node: string; readonly namespace: string; readonly pod: string }
  /** An interface of this project that Kubernetes does not show: a container without a pod, or a pod's second one. */
  | { readonly kind: "attachment"; readonly node: string }
  /** A node's own: of a tunnel, or of a segment that another plugin makes. */
  | { readonly kind: "tunnel"; readonly node: string }
  /** Pre-allocated on Windows. */
  | { readonly kind: "windows" }
  /** Whatever else: virtual machines, load balancers, other programs. */
  | { readonly kind: "unknown"; readonly node?: string };

/** What of a pod decides about its addresses. */
export interface PodFacts {
  /** Empty until it is scheduled. */
  readonly nodeName: string;
  /** Its sandbox is gone or going: it succeeded, failed, or was evicted. */
  readonly isFinished: boolean;
  /** `status.podIP` is set: from then on its addresses are known. */
  readonly hasIP: boolean;
  /** Canonical texts: of its status, of Calico's annotations, of the status of further networks. */
  readonly addresses: readonly string[];
}

/** What of a node decides about its addresses. */
export interface NodeFacts {
  /** Its kubelet has not been heard of for a while: what runs there is anybody's guess. */
  readonly isUnreachable: boolean;
  /** Marked as out of service by a person: nothing runs there any more. */
  readonly isOutOfService: boolean;
  /** Canonical texts of addresses that the node's agent says are in use, whatever the API server knows of the pods. */
  readonly inUse: readonly string[];
}

/** Pods and nodes as they were AFTER the blocks were read. */
export interface ClusterView {
  node(name: string): NodeFacts | undefined;
  pod(namespace: string, name: string): PodFacts | undefined;
  /** Without a single Node object nobody maintains them, and that one is missing says nothing. */
  readonly hasNodes: boolean;
}

export type KeepReason =
  | "windows"
  | "unknownOwner"
  | "podHoldsIt"
  | "podWithoutAddress"
  | "nodeSaysInUse"
  | "nodeUnreachable"
  /** Only the node's own agent sees the sandbox. */
  | "nodeDecides"
  | "nodeExists";
export type LeakReason = "podGone" | "podElsewhere" | "podFinished" | "notThePodsAddress" | "nodeGone";

export type Verdict =
  | { readonly kind: "keep"; readonly why: KeepReason }
  | { readonly kind: "leak"; readonly why: LeakReason };

/** What earlier looks found: a key for each suspicious thing, and when it was first seen. Units: Unix milliseconds. */
export type Sightings = ReadonlyMap<string, number>;

/** A claim to be given up. `why` is for people. */
export interface AffinityRelease {
  readonly name: string;
  readonly node: string;
  readonly cidr: string;
  readonly why: "nodeGone" | "noBlock" | "foreignBlock" | "unfinishedRelease" | "surplus";
  /** The affinity must still be this one. */
  readonly resourceVersion: string;
  /** The block must still be this one; absent when there is no block or it is another's. */
  readonly sequenceNumber?: bigint;
}

/** A claim whose release was begun and never ended, while its block came into use again. */
export interface AffinityRepair {
  readonly name: string;
  readonly node: string;
  readonly cidr: string;
  readonly resourceVersion: string;
}

/** An empty block that nobody owns. */
export interface BlockRemoval {
  readonly name: string;
  readonly why: "unowned" | "nodeGone";
  readonly sequenceNumber: bigint;
}

export interface OwnershipPlan {
  readonly releases: readonly AffinityRelease[];
  readonly repairs: readonly AffinityRepair[];
  readonly removals: readonly BlockRemoval[];
}

export interface Leak {
  readonly address: HeldAddress;
  readonly owner: Owner & { readonly node: string };
  readonly why: LeakReason;
}

/** All addresses of one handle, each of them leaked by what was seen for half of the grace or longer. */
export interface HandleRelease {
  readonly handleID: string;
  readonly leaks: readonly Leak[];
  /** For all of the grace. */
  readonly isDue: boolean;
}

/** A handle that counts addresses which no block has. */
export interface OrphanHandle {
  readonly name: string;
  readonly handleID: string;
  readonly resourceVersion: string;
}

/** An object that is marked as deleted, and whose deletion nobody has finished. */
export interface LeftTombstone {
  readonly kind: "block" | "handle" | "affinity";
  readonly name: string;
}

/** Counts for one pool and one node; the node is empty for addresses whose owner names none. */
export interface PoolTally {
  readonly pool: string;
  readonly node: string;
  readonly inUse: number;
  readonly borrowed: number;
  readonly blocks: number;
  readonly candidates: number;
}

/** What to free, best in the order of the fields: addresses make handles and blocks go that would else be seen later. */
export interface CollectionPlan extends OwnershipPlan {
  readonly addresses: readonly HandleRelease[];
  readonly handles: readonly OrphanHandle[];
  readonly tombstones: readonly LeftTombstone[];
  /** Names of blocks in which addresses have long cooled down, and which nobody writes. */
  readonly cold: readonly string[];
  /** Blocks that contradict themselves, by name: left alone. */
  readonly damaged: readonly string[];
  readonly tallies: readonly PoolTally[];
  /** For the next census. */
  readonly sightings: Sightings;
}
