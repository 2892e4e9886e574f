// SPDX-License-Identifier: Apache-2.0
import { blockName } from "../../crds/names.ts";
import { formatCIDR, ordinalOf } from "../../net/cidr.ts";
import { formatIP } from "../../net/ip.ts";
import { isHeld } from "../block.ts";
import type { IPAMStore } from "../ports.ts";
import type { Allocation } from "../types.ts";

/**
 * What the datastore has in place of an allocation, in words; undefined while the allocation holds. Reads, and never
 * trusts what this process remembers. Errors: of the store.
 */
export async function contradictionTo(store: IPAMStore, allocation: Allocation): Promise<string | undefined> {
  const { ip, block: cidr, handleID, sequenceNumber } = allocation;
  const where = `IPAMBlock ${formatCIDR(cidr)}`;
  const block = (await store.get("block", blockName(cidr)))?.spec;
  if (block === undefined) return `${where} does not exist`;
  const ordinal = ordinalOf(cidr, ip);
  if (isHeld(block, ordinal, handleID, sequenceNumber)) return undefined;
  const index = block.allocations[ordinal];
  if (index === null || index === undefined) return `${formatIP(ip)} is free in ${where}`;
  const owner = block.attributes[index]?.handle_id ?? "nobody";
  const actual = block.sequenceNumberForAllocation[String(ordinal)] ?? 0n;
  return `${where} says that ${formatIP(ip)} is held by ${owner} since sequence number ${actual}`;
}
