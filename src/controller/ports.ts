// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { IPAMBlock } from "../crds/ipam-block.ts";
import type { IPAMHandle } from "../crds/ipam-handle.ts";
import type { ClusterView, CollectionPlan } from "../ipam/gc/types.ts";
import type { CIDR } from "../net/cidr.ts";

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
  blocks(signal: AbortSignal): AsyncIterable<IPAMBlock>;
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

/** Who is told what was found and done: log, metrics, events. Never rejects. */
export interface Reporter {
  census(plan: CollectionPlan, settings: CollectorSettings): void;
  freed(things: readonly Freed[], isDryRun: boolean): Promise<void>;
  failed(what: string, error: unknown): void;
  skipped(why: string): void;
}
