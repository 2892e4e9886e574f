// SPDX-License-Identifier: Apache-2.0
import { cidrSize, parseCIDR } from "../net/cidr.ts";
import { AGE, type KindDefinition } from "./definition.ts";
import { type FieldReader, openObject, present } from "./field-reader.ts";
import type { KubeObject, Resource } from "./object.ts";
import { array, boolean, int64, integer, map, object, string } from "./schema.ts";

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
  /** The owner's name, without the prefix of `affinity`, which a printer column could not cut off. */
  readonly node?: string;
  readonly used: number;
  readonly free: number;
  readonly borrowed: number;
}

export interface IPAMBlock extends KubeObject {
  readonly spec: IPAMBlockSpec;
  readonly status?: IPAMBlockStatus;
}

/** The largest blocks are /20 and /116. */
const MAX_ORDINALS = 4096;

/**
 * Checks a block. The lists keep their order; fields of a newer Calico stay where they are.
 *
 * Whether the lists agree with each other is the business of `ipam/block`: here only types and the number of ordinals.
 *
 * @throws InvalidObjectError
 */
export function parseIPAMBlock(raw: unknown): IPAMBlock {
  const { head, spec, status } = openObject("crd.projectcalico.org/v1", "IPAMBlock", raw);
  const cidr = spec.cidr("cidr");
  const allocations = spec.list("allocations", (value, element) => {
    if (value === null || (typeof value === "number" && Number.isInteger(value) && value >= 0)) return value;
    throw spec.fail(element, value, "null or an index into attributes");
  });
  const size = cidrSize(parseCIDR(cidr));
  if (allocations.length !== size) throw spec.fail("allocations.length", allocations.length, `${size}, as ${cidr} has`);
  const known = {
    cidr,
    allocations,
    unallocated: spec.integers("unallocated", 0, MAX_ORDINALS - 1),
    attributes: spec.list("attributes", (value, element) => parseAttribute(spec.nested(element, value ?? {}))),
    sequenceNumber: spec.int64("sequenceNumber", 0n),
    sequenceNumberForAllocation: spec.int64Map("sequenceNumberForAllocation"),
    deleted: spec.optionalBoolean("deleted") ?? false,
    strictAffinity: spec.optionalBoolean("strictAffinity") ?? false,
    ...present({
      // Go writes an absent owner as no field; an empty one would be an owner without a name.
      affinity: spec.optionalString("affinity") || undefined,
      affinityClaimTime: spec.optionalString("affinityClaimTime"),
    }),
  };
  return {
    ...head,
    spec: { ...spec.unread(), ...known },
    // Written by agents for people; an odd one must not take the block away from its readers.
    ...(status === undefined ? {} : { status: status as IPAMBlockStatus }),
  };
}

function parseAttribute(reader: FieldReader): AllocationAttribute {
  const known = present({
    handle_id: reader.optionalString("handle_id"),
    secondary: reader.optionalStringMap("secondary"),
    alternateOwnerAttrs: reader.optionalStringMap("alternateOwnerAttrs"),
    releasedAt: reader.optionalString("releasedAt"),
  });
  return { ...reader.unread(), ...known };
}

export const IPAM_BLOCKS: Resource<IPAMBlock> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "IPAMBlock",
  plural: "ipamblocks",
  namespaced: false,
  parse: parseIPAMBlock,
};

export const IPAM_BLOCK_KIND: KindDefinition = {
  resource: IPAM_BLOCKS,
  description: "A range of addresses that one node hands out, and who holds each of them.",
  spec: object(
    {
      cidr: string("The block's network, in canonical form."),
      affinity: string("host:NODE or virtual:NAME; absent when nobody owns the block."),
      affinityClaimTime: string("When the present owner claimed the block.", { format: "date-time" }),
      allocations: array(
        integer(undefined, { nullable: true }),
        "For each address of the block null when it is free, else an index into attributes.",
      ),
      unallocated: array(
        integer(),
        "The free addresses by their place in the block; the next to be given comes first.",
      ),
      attributes: array(
        object(
          {
            handle_id: string("The handle that holds the addresses."),
            secondary: map(string(), "The owner: node, namespace, pod and the time of the request."),
            alternateOwnerAttrs: map(string(), "A second owner, while a virtual machine migrates."),
            releasedAt: string("Since when addresses cool down before they are given again.", { format: "date-time" }),
          },
          { "x-kubernetes-preserve-unknown-fields": true },
        ),
        "The owners that allocations points at.",
      ),
      sequenceNumber: int64("Grows by one with each write of the block.", { default: 0 }),
      sequenceNumberForAllocation: map(
        int64(),
        "The sequence number at which each address was given; a release must name it, so that it cannot hit a later owner.",
      ),
      deleted: boolean("The block is about to be deleted: nothing may be assigned from it."),
      strictAffinity: boolean("No longer used: always false."),
    },
    {
      required: ["allocations", "attributes", "cidr", "strictAffinity", "unallocated"],
      // Written by machines of several versions: what we do not know is somebody's state, not somebody's typing error.
      "x-kubernetes-preserve-unknown-fields": true,
    },
  ),
  status: object({
    node: string("The node that owns the block."),
    used: integer("Addresses in use."),
    free: integer("Addresses that are free."),
    borrowed: integer("Addresses in use on other nodes than the owner."),
  }),
  statusSubresource: true,
  printerColumns: [
    { name: "CIDR", type: "string", jsonPath: ".spec.cidr" },
    { name: "Node", type: "string", jsonPath: ".status.node" },
    { name: "Used", type: "integer", jsonPath: ".status.used" },
    { name: "Free", type: "integer", jsonPath: ".status.free" },
    { name: "Borrowed", type: "integer", jsonPath: ".status.borrowed", priority: 1 },
    { name: "Affinity", type: "string", jsonPath: ".spec.affinity", priority: 1 },
    AGE,
  ],
  selectableFields: [".spec.affinity"],
};
