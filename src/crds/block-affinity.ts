// SPDX-License-Identifier: Apache-2.0
import type { KubeObject, Resource } from "./object.ts";

/** Empty text is read as confirmed (objects of old releases). */
export type BlockAffinityState = "pending" | "confirmed" | "pendingDeletion";

export interface BlockAffinitySpec {
  readonly cidr: string;
  /** A string in v1: "true" or "false". */
  readonly deleted: string;
  readonly node: string;
  readonly state: BlockAffinityState | "";
  /** host (also when absent) or virtual. */
  readonly type?: string;
}

export interface BlockAffinity extends KubeObject {
  readonly spec: BlockAffinitySpec;
}

export const BLOCK_AFFINITIES: Resource<BlockAffinity> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "BlockAffinity",
  plural: "blockaffinities",
  namespaced: false,
};
