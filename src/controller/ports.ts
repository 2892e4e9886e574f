// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { InvalidObjectError } from "../crds/errors.ts";
import type { IPPool, IPPoolCondition } from "../crds/ip-pool.ts";
import type { IPAMBlock } from "../crds/ipam-block.ts";
import type { IPAMConfigSpec } from "../crds/ipam-config.ts";
import type { IPAMHandle } from "../crds/ipam-handle.ts";
import type { KubeObject } from "../crds/object.ts";
import type { ClusterView, CollectionPlan } from "../ipam/gc/types.ts";
import type { CIDR } from "../net/cidr.ts";
import type { IP } from "../net/ip.ts";
import type { Labels } from "../selector/selector.ts";

/** What the cluster says of collection. */
export interface CollectorSettings {
  /** False while somebody migrates the datastore: nothing is freed. */
  readonly datastoreReady: boolean;
  /** Units: milliseconds; 0: only what deleted nodes left behind is freed. */
  readonly leakGraceMs: number;
  readonly pools: readonly { readonly name: string; readonly cidr: CIDR }[];
}

/** Pods and nodes, by name. */
export interface Needed {
  readonly nodes: ReadonlySet<string>;
  /** `namespace/name`. */
  readonly pods: ReadonlySet<string>;
}

/** What the collector reads. Errors: of the API, see kube/errors.ts. */
export interface ClusterSource {
  settings(signal: AbortSignal): Promise<CollectorSettings>;
  /** Fulfilled when `view` has everything. */
  readonly synced: Promise<unknown>;
  /** Pods and nodes as watched: perhaps a moment old. */
  readonly view: ClusterView;
  /** A block that cannot be parsed comes as its error. */
  blocks(signal: AbortSignal): AsyncIterable<IPAMBlock | InvalidObjectError>;
  handles(signal: AbortSignal): AsyncIterable<IPAMHandle>;
  affinities(signal: AbortSignal): AsyncIterable<BlockAffinity>;
  /** The same view of these pods and nodes alone, asked of the API server now. */
  look(needed: Needed, signal: AbortSignal): Promise<ClusterView>;
}

/** One thing that is free now, or would be if this were no dry run. */
export interface Freed {
  readonly kind: "address" | "handle" | "affinity" | "block" | "tombstone";
  /** Address, or name of the object. */
  readonly what: string;
  /** Empty: no node is known. */
  readonly node: string;
  /** For addresses. */
  readonly pool: string;
  /** Why, and whose it was. */
  readonly why: string;
}

/** An IPPool as it is stored, of which `pool` or `error` is there. */
export interface StoredPool {
  readonly name: string;
  /** For the write of its status: fields that we do not know stay. */
  readonly object: KubeObject;
  readonly conditions: readonly IPPoolCondition[];
  readonly pool?: IPPool;
  /** Why it cannot be used. */
  readonly error?: InvalidObjectError;
  /** Absent when even that cannot be read. */
  readonly cidr?: CIDR;
}

/** What of a block matters to its pool. */
export interface BlockUse {
  readonly cidr: CIDR;
  /** Addresses in use. */
  readonly inUse: number;
}

/** What of a node matters to pools. */
export interface NodeRoom {
  readonly name: string;
  readonly labels: Labels;
  /** Pods that its kubelet allows; absent without a kubelet. */
  readonly maxPods?: number;
  /** Its own; none of a virtual kubelet, which has its pod's. */
  readonly addresses: readonly IP[];
}

/** All that pools are judged by, but for blocks. */
export interface PoolFacts {
  /** False while somebody migrates the datastore: nothing is written. */
  readonly datastoreReady: boolean;
  readonly pools: readonly StoredPool[];
  readonly config: IPAMConfigSpec;
  readonly nodes: readonly NodeRoom[];
  /** Networks of all IPReservations. */
  readonly reserved: readonly CIDR[];
}

/** `unsupported`: the installed kind keeps no conditions. */
export type ConditionsOutcome = "ok" | "conflict" | "gone" | "unsupported";

/** What judges the pools reads and writes. Errors: of the API, see kube/errors.ts. */
export interface PoolSource {
  readonly synced: Promise<unknown>;
  poolFacts(signal: AbortSignal): Promise<PoolFacts>;
  blockUses(signal: AbortSignal): Promise<readonly BlockUse[]>;
  /** A compare-and-swap of the status alone. */
  writeConditions(
    pool: StoredPool,
    conditions: readonly IPPoolCondition[],
    signal: AbortSignal,
  ): Promise<ConditionsOutcome>;
}

/** Blocks with addresses in use that lie in no pool. */
export interface OrphanedBlocks {
  /** The pool that had them, which is deleted or has another network now; absent when nobody saw it. */
  readonly formerPool?: string;
  readonly blocks: readonly BlockUse[];
}

/** What is wrong with a pool; `reason` is the condition's. */
export interface PoolProblem {
  readonly reason: string;
  /** What will happen, and what to do. */
  readonly message: string;
}

/** What is to be said of one pool. */
export interface PoolVerdict {
  readonly pool: StoredPool;
  /** The gravest first. */
  readonly problems: readonly PoolProblem[];
  readonly conditions: readonly IPPoolCondition[];
}

export interface PoolReport {
  readonly verdicts: readonly PoolVerdict[];
  readonly orphans: readonly OrphanedBlocks[];
  /** Addresses that IPReservations keep from automatic assignment, by pool. */
  readonly reserved: ReadonlyMap<string, number>;
}

/** Who is told of pools: log, metrics, events. Never rejects. */
export interface PoolReporter {
  pools(report: PoolReport): Promise<void>;
  /** The pool's conditions are these now. */
  poolChanged(verdict: PoolVerdict): Promise<void>;
  failed(what: string, error: unknown): void;
  skipped(why: string): void;
  /** The installed kind keeps no conditions. */
  conditionsUnsupported(): void;
}

/** Who is told what was found and done: log, metrics, events. Never rejects. */
export interface Reporter {
  census(plan: CollectionPlan, settings: CollectorSettings): void;
  freed(things: readonly Freed[], isDryRun: boolean): Promise<void>;
  failed(what: string, error: unknown): void;
  skipped(why: string): void;
}
