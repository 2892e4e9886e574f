// SPDX-License-Identifier: Apache-2.0
import { AGE, type KindDefinition } from "./definition.ts";
import { openObject } from "./field-reader.ts";
import type { KubeObject, Resource } from "./object.ts";
import { boolean, integer, map, object, string } from "./schema.ts";

export interface IPAMHandleSpec {
  /** Original case; the object's name is this in lower case. */
  readonly handleID: string;
  /** Block CIDR to the number of its addresses that the handle holds (never less than the truth in the block). */
  readonly block: Readonly<Record<string, number>>;
  readonly deleted: boolean;
}

export interface IPAMHandle extends KubeObject {
  readonly spec: IPAMHandleSpec;
}

/** @throws InvalidObjectError */
export function parseIPAMHandle(raw: unknown): IPAMHandle {
  const { head, spec, status } = openObject("crd.projectcalico.org/v1", "IPAMHandle", raw);
  const known = {
    handleID: spec.string("handleID"),
    block: spec.integerMap("block", 0, Number.MAX_SAFE_INTEGER),
    deleted: spec.optionalBoolean("deleted") ?? false,
  };
  return { ...head, spec: { ...spec.unread(), ...known }, ...(status === undefined ? {} : { status }) };
}

export const IPAM_HANDLES: Resource<IPAMHandle> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "IPAMHandle",
  plural: "ipamhandles",
  namespaced: false,
  parse: parseIPAMHandle,
};

export const IPAM_HANDLE_KIND: KindDefinition = {
  resource: IPAM_HANDLES,
  description: "The addresses of one owner, such as a pod's sandbox: an index into the blocks.",
  spec: object(
    {
      handleID: string("The owner; the object's name is this in lower case."),
      block: map(integer(), "How many addresses the owner holds, by block."),
      deleted: boolean("The handle is about to be deleted."),
    },
    { required: ["block", "handleID"], "x-kubernetes-preserve-unknown-fields": true },
  ),
  printerColumns: [{ name: "Addresses", type: "string", jsonPath: ".spec.block" }, AGE],
};
