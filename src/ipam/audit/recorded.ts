// SPDX-License-Identifier: Apache-2.0
import type { AllocationAttribute, IPAMBlock } from "../../crds/ipam-block.ts";
import { type CIDR, ipAt, parseCIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";
import { WINDOWS_RESERVED_HANDLE } from "../block.ts";
import { isNameless } from "../check-block.ts";

/** An address that its block does not count as free. */
export interface RecordedAddress {
  readonly ip: IP;
  readonly block: IPAMBlock;
  readonly cidr: CIDR;
  readonly ordinal: number;
  readonly attribute: AllocationAttribute;
  readonly sequenceNumber: bigint;
}

/**
 * `held`: a handle has it. `cooling`: given back, and not to be given again yet. `unhandled`: somebody has it without a
 * handle, as Calico allows. `nameless`: the record says nothing at all. `windows`: kept for Windows.
 */
export type RecordState = "held" | "cooling" | "unhandled" | "nameless" | "windows";

/** Every address of a block that is not free, in the order of their ordinals. An index that points nowhere is left out. */
export function recordedAddresses(block: IPAMBlock): readonly RecordedAddress[] {
  const { spec } = block;
  const cidr = parseCIDR(spec.cidr);
  const found: RecordedAddress[] = [];
  for (const [ordinal, index] of spec.allocations.entries()) {
    const attribute = index === null ? undefined : spec.attributes[index];
    if (attribute === undefined) continue;
    const sequenceNumber = spec.sequenceNumberForAllocation[String(ordinal)] ?? 0n;
    found.push({ ip: ipAt(cidr, ordinal), block, cidr, ordinal, attribute, sequenceNumber });
  }
  return found;
}

export function stateOf(attribute: AllocationAttribute): RecordState {
  if (attribute.handle_id === WINDOWS_RESERVED_HANDLE) return "windows";
  if (attribute.releasedAt !== undefined) return "cooling";
  if (attribute.handle_id !== undefined) return "held";
  return isNameless(attribute) ? "nameless" : "unhandled";
}
