// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { ClusterInformationSpec } from "../../crds/cluster-information.ts";
import type { InvalidObjectError } from "../../crds/errors.ts";
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import type { IPReservation } from "../../crds/ip-reservation.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../../crds/ipam-block.ts";
import type { IPAMConfigSpec } from "../../crds/ipam-config.ts";
import type { IPAMHandle } from "../../crds/ipam-handle.ts";
import type { ObjectMeta } from "../../crds/object.ts";
import { type CIDR, cidrCovers, parseCIDR } from "../../net/cidr.ts";
import { damageOf } from "../check-block.ts";
import type { ClusterView, NodeFacts, PodFacts } from "../gc/types.ts";

/** What a check needs of a pod. */
export interface AuditPod extends PodFacts {
  readonly namespace: string;
  readonly name: string;
  readonly hostNetwork: boolean;
  /** Canonical texts of `status.podIPs` alone: what its kubelet says. */
  readonly reported: readonly string[];
}

/** The cluster's addresses at one moment, as far as a reader of several lists can have one: blocks were read first. */
export interface Snapshot {
  /** When the last list was read. Units: Unix milliseconds. */
  readonly takenMs: number;
  readonly blocks: readonly IPAMBlock[];
  readonly handles: readonly IPAMHandle[];
  readonly affinities: readonly BlockAffinity[];
  readonly pools: readonly EffectiveIPPool[];
  readonly reservations: readonly IPReservation[];
  readonly nodes: ReadonlyMap<string, NodeFacts>;
  /** By `namespace/name`. */
  readonly pods: ReadonlyMap<string, AuditPod>;
  /** Objects that cannot be read at all. */
  readonly invalid: readonly InvalidObjectError[];
  /** Absent when there is no such object. */
  readonly information?: ClusterInformationSpec;
  /** Absent when there is no such object. */
  readonly config?: IPAMConfigSpec;
}

/** The snapshot's pods and nodes, as verdicts ask for them. */
export function viewOfSnapshot({ nodes, pods }: Pick<Snapshot, "nodes" | "pods">): ClusterView {
  return {
    node: (name) => nodes.get(name),
    pod: (namespace, name) => pods.get(`${namespace}/${name}`),
    hasNodes: nodes.size > 0,
  };
}

/** The most specific pool that holds all of a network. */
export function poolAround(pools: readonly EffectiveIPPool[], cidr: CIDR): EffectiveIPPool | undefined {
  let best: EffectiveIPPool | undefined;
  for (const pool of pools) {
    if (!cidrCovers(pool.cidr, cidr)) continue;
    if (best === undefined || pool.cidr.prefixLength > best.cidr.prefixLength) best = pool;
  }
  return best;
}

/** Blocks that are there: tombstones are not. */
export function liveBlocks({ blocks }: Pick<Snapshot, "blocks">): readonly IPAMBlock[] {
  return blocks.filter(({ spec }) => !spec.deleted);
}

/** Names of blocks that cannot be read: they are there, and nobody can tell whom they name. */
export function unreadableBlocks({ invalid }: Pick<Snapshot, "invalid">): ReadonlySet<string> {
  return new Set(invalid.filter(({ kind }) => kind === IPAM_BLOCKS.kind).map(({ objectName }) => objectName));
}

/** A block that contradicts itself: nobody may draw conclusions from it. */
export function isDamaged({ spec }: IPAMBlock): boolean {
  return damageOf(spec).length > 0;
}

/**
 * For how long an object has certainly not been written: since the last of its managed fields, or since its creation when
 * it is still of the first generation, or as long as somebody has watched it. Units: milliseconds.
 *
 * Source: Kubernetes API reference, ObjectMeta and ManagedFieldsEntry.
 */
export function restMs(metadata: ObjectMeta, nowMs: number, watchedMs: number): number {
  const { managedFields = [] } = metadata as { readonly managedFields?: readonly { readonly time?: string }[] };
  const times = managedFields.map(({ time }) => Date.parse(time ?? "")).filter((ms) => !Number.isNaN(ms));
  if (times.length === 0 && metadata.generation === 1) times.push(Date.parse(metadata.creationTimestamp ?? ""));
  const ageMs = times.length === 0 ? Number.NaN : nowMs - Math.max(...times);
  return Number.isNaN(ageMs) ? watchedMs : Math.max(ageMs, watchedMs);
}

/** Networks in the order of their addresses, IPv4 first. */
export function compareCIDRs(a: CIDR, b: CIDR): number {
  if (typeof a.network !== typeof b.network) return typeof a.network === "number" ? -1 : 1;
  if (a.network !== b.network) return a.network < b.network ? -1 : 1;
  return a.prefixLength - b.prefixLength;
}

export function compareBlocks(a: IPAMBlock, b: IPAMBlock): number {
  return compareCIDRs(parseCIDR(a.spec.cidr), parseCIDR(b.spec.cidr));
}
