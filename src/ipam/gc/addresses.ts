// SPDX-License-Identifier: Apache-2.0
import type { AllocationAttribute, IPAMBlockSpec } from "../../crds/ipam-block.ts";
import { ipAt, parseCIDR } from "../../net/cidr.ts";
import { WINDOWS_RESERVED_HANDLE } from "../block.ts";
import type { HeldAddress, Owner } from "./types.ts";

/**
 * Marks the address of an interface that Kubernetes does not show, by that interface's name. Calico's collector takes an
 * address that carries `namespace` and `pod` and is not in the pod's status for a leak, so these carry this instead.
 */
export const INTERFACE_ATTRIBUTE = "gingham-interface";

/**
 * `type` of addresses that a node keeps from its pods: a gateway's on a segment of another plugin, and those that stand for the
 * whole segment.
 */
export const SEGMENT_TYPE = "ginghamSegment";

/** The node's own addresses. Source, the last apart: calico-interop 1.8. */
const NODE_TYPES: ReadonlySet<string> = new Set([
  "ipipTunnelAddress",
  "vxlanTunnelAddress",
  "vxlanV6TunnelAddress",
  "wireguardTunnelAddress",
  "wireguardV6TunnelAddress",
  SEGMENT_TYPE,
]);
const VM_ATTRIBUTES = ["vmi-name", "vmi-uid", "vm-uid", "vmim-uid"] as const;

/** Every address of a sound block that has an owner record with a handle; cooling ones have none. */
export function heldAddresses(block: IPAMBlockSpec): readonly HeldAddress[] {
  const cidr = parseCIDR(block.cidr);
  const held: HeldAddress[] = [];
  for (const [ordinal, index] of block.allocations.entries()) {
    const attribute = index === null ? undefined : block.attributes[index];
    if (attribute?.handle_id === undefined || attribute.releasedAt !== undefined) continue;
    held.push({
      ip: ipAt(cidr, ordinal),
      block: cidr,
      ordinal,
      handleID: attribute.handle_id,
      sequenceNumber: block.sequenceNumberForAllocation[String(ordinal)] ?? 0n,
      attributes: attributesOf(attribute),
    });
  }
  return held;
}

/** A second owner, such as a virtual machine that moves, is a reason to keep hands off: it counts as unknown. */
function attributesOf({ secondary = {}, alternateOwnerAttrs }: AllocationAttribute): Readonly<Record<string, string>> {
  const hasAlternate = Object.keys(alternateOwnerAttrs ?? {}).length > 0;
  return hasAlternate ? { ...secondary, "vmi-name": secondary["vmi-name"] ?? "moving" } : secondary;
}

/** Source: calico-interop 2.10, table of classes. */
export function ownerOf({ handleID, attributes }: Pick<HeldAddress, "handleID" | "attributes">): Owner {
  if (handleID === WINDOWS_RESERVED_HANDLE) return { kind: "windows" };
  const { node, namespace, pod, type } = attributes;
  if (node === undefined || node === "") return { kind: "unknown" };
  if (type !== undefined) return NODE_TYPES.has(type) ? { kind: "tunnel", node } : { kind: "unknown", node };
  const isVM = handleID.includes(".vmi.") || VM_ATTRIBUTES.some((key) => attributes[key] !== undefined);
  if (isVM) return { kind: "unknown", node };
  if (attributes[INTERFACE_ATTRIBUTE] !== undefined) return { kind: "attachment", node };
  if (namespace && pod) return { kind: "pod", node, namespace, pod };
  return { kind: "unknown", node };
}

/** Identity of one assignment: an address that was given again is another one. */
export function assignmentKey({ block, ordinal, handleID, sequenceNumber }: HeldAddress): string {
  return `${block.network}/${block.prefixLength} ${ordinal} ${sequenceNumber} ${handleID}`;
}
