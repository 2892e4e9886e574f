// SPDX-License-Identifier: Apache-2.0
import type { KubeObject, Resource } from "./object.ts";

/** Owner record of one or more addresses. Source: calico-interop 1.2 and 1.8. */
export interface AllocationAttribute {
  readonly handle_id?: string;
  /** The owner's attributes: node, namespace, pod, timestamp, type… */
  readonly secondary?: Readonly<Record<string, string>>;
  readonly alternateOwnerAttrs?: Readonly<Record<string, string>>;
  /** RFC 3339; only in a cooldown record, which then holds nothing else. */
  readonly releasedAt?: string;
}

export interface IPAMBlockSpec {
  /** Canonical text of the block's network. */
  readonly cidr: string;
  /** `host:NODE` or `virtual:NAME`; absent when nobody owns the block. */
  readonly affinity?: string;
  /** RFC 3339; comes and goes with `affinity`. */
  readonly affinityClaimTime?: string;
  /** One entry an ordinal: null when free, else an index into `attributes`. */
  readonly allocations: readonly (number | null)[];
  /** Free ordinals, first in first out. */
  readonly unallocated: readonly number[];
  readonly attributes: readonly AllocationAttribute[];
  /** Starts at Unix nanoseconds, +1 on each update. The wire may hold a small integer, so parse to bigint. */
  readonly sequenceNumber: bigint;
  /** Decimal ordinal to the counter's value before the write that assigned it. */
  readonly sequenceNumberForAllocation: Readonly<Record<string, bigint>>;
  /** Tombstone: the object is about to be deleted. */
  readonly deleted: boolean;
  /** A dead field that the schema requires: always false. */
  readonly strictAffinity: boolean;
}

/** Filled lazily by the owning agent, so that `kubectl get ipamblocks` can count. */
export interface IPAMBlockStatus {
  readonly used: number;
  readonly free: number;
  readonly borrowed: number;
}

export interface IPAMBlock extends KubeObject {
  readonly spec: IPAMBlockSpec;
  readonly status?: IPAMBlockStatus;
}

export const IPAM_BLOCKS: Resource<IPAMBlock> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "IPAMBlock",
  plural: "ipamblocks",
  namespaced: false,
};
