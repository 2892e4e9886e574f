// SPDX-License-Identifier: Apache-2.0
import { AGE, type KindDefinition } from "./definition.ts";
import { openObject, present } from "./field-reader.ts";
import type { KubeObject, Resource } from "./object.ts";
import { object, string } from "./schema.ts";

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

const STATES: readonly BlockAffinityState[] = ["pending", "confirmed", "pendingDeletion"];

/** @throws InvalidObjectError */
export function parseBlockAffinity(raw: unknown): BlockAffinity {
  const { head, spec, status } = openObject("crd.projectcalico.org/v1", "BlockAffinity", raw);
  const known = {
    cidr: spec.cidr("cidr"),
    deleted: spec.optionalString("deleted") === "true" ? "true" : "false",
    node: spec.string("node"),
    state: spec.optionalEnum("state", STATES) ?? ("" as const),
    ...present({ type: spec.optionalString("type") }),
  };
  return { ...head, spec: { ...spec.unread(), ...known }, ...(status === undefined ? {} : { status }) };
}

export const BLOCK_AFFINITIES: Resource<BlockAffinity> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "BlockAffinity",
  plural: "blockaffinities",
  namespaced: false,
  parse: parseBlockAffinity,
};

export const BLOCK_AFFINITY_KIND: KindDefinition = {
  resource: BLOCK_AFFINITIES,
  description: "A node's claim to a block, from which all nodes learn where to route it.",
  spec: object(
    {
      cidr: string("The block's network."),
      node: string("The node that claims the block."),
      state: string("pending, confirmed or pendingDeletion."),
      type: string("host or virtual; absent means host."),
      deleted: string('"true" when the claim is about to be deleted, else "false".'),
    },
    { required: ["cidr", "deleted", "node", "state"], "x-kubernetes-preserve-unknown-fields": true },
  ),
  printerColumns: [
    { name: "Node", type: "string", jsonPath: ".spec.node" },
    { name: "CIDR", type: "string", jsonPath: ".spec.cidr" },
    { name: "State", type: "string", jsonPath: ".spec.state" },
    { name: "Type", type: "string", jsonPath: ".spec.type", priority: 1 },
    AGE,
  ],
  selectableFields: [".spec.node"],
};
