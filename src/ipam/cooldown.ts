// SPDX-License-Identifier: Apache-2.0
import type { AllocationAttribute, IPAMBlockSpec } from "../crds/ipam-block.ts";
import { release, withDenseAttributes } from "./block.ts";

/**
 * Cooldown in the block itself, as Calico after 3.32 writes it: a released address keeps its ordinal, which points at a
 * record that holds the time of the release and nothing else. It is neither free nor held until that is long enough ago.
 *
 * Source: calico-interop 1.6 and 1.7.
 */

/** The longest `ipCooldownSeconds` that the schema allows: older records are expired whatever is set. */
export const MAX_IP_COOLDOWN_MS = 1_200_000;

/** How ordinals are released. */
export interface Cooling {
  readonly nowMs: number;
  /** Those released by address: their sequence numbers become the block's. Those by handle keep theirs. */
  readonly byAddress: ReadonlySet<number>;
}

/** Points these ordinals, of which none is free or cooling already, at a record of their release. */
export function cool(block: IPAMBlockSpec, ordinals: readonly number[], { nowMs, byAddress }: Cooling): IPAMBlockSpec {
  if (ordinals.length === 0) return block;
  const record: AllocationAttribute = { releasedAt: new Date(nowMs).toISOString() };
  const found = block.attributes.findIndex((other) => isJust(other, record.releasedAt));
  const index = found < 0 ? block.attributes.length : found;
  const allocations = [...block.allocations];
  const sequences: Record<string, bigint> = { ...block.sequenceNumberForAllocation };
  for (const ordinal of ordinals) {
    allocations[ordinal] = index;
    if (byAddress.has(ordinal)) sequences[String(ordinal)] = block.sequenceNumber;
  }
  return withDenseAttributes({
    ...block,
    allocations,
    attributes: found < 0 ? [...block.attributes, record] : block.attributes,
    sequenceNumberForAllocation: sequences,
  });
}

/**
 * The block without the cooldown records that are older than the setting: their ordinals are free, in the order of their
 * release. The same object when there is none. A record whose time nobody can read, or which is of the future, stays.
 */
export function thaw(block: IPAMBlockSpec, nowMs: number, ipCooldownMs: number): IPAMBlockSpec {
  const since = releaseTimes(block);
  if (since.size === 0) return block;
  const expired: { readonly ordinal: number; readonly sinceMs: number }[] = [];
  for (const [ordinal, index] of block.allocations.entries()) {
    const sinceMs = index === null ? undefined : since.get(index);
    if (sinceMs !== undefined && sinceMs < nowMs - ipCooldownMs) expired.push({ ordinal, sinceMs });
  }
  const byRelease = expired.sort((a, b) => a.sinceMs - b.sinceMs || a.ordinal - b.ordinal);
  return release(
    block,
    byRelease.map(({ ordinal }) => ordinal),
  );
}

/** When the first of its cooling addresses is to be had; Infinity when none cools. Units: Unix milliseconds. */
export function nextThawMs(block: IPAMBlockSpec, ipCooldownMs: number): number {
  const times = [...releaseTimes(block).values()].filter((ms) => !Number.isNaN(ms));
  // Strictly older than the setting, see `thaw`.
  return Math.min(...times) + ipCooldownMs + 1;
}

/** How many of its addresses cool down. */
export function coolingCount(block: IPAMBlockSpec): number {
  const times = releaseTimes(block);
  return times.size === 0 ? 0 : block.allocations.filter((index) => index !== null && times.has(index)).length;
}

/** When an ordinal was released, if it cools down; NaN for a text that is no time. Units: Unix milliseconds. */
export function releasedAtMs(block: IPAMBlockSpec, ordinal: number): number | undefined {
  const releasedAt = block.attributes[block.allocations[ordinal] ?? -1]?.releasedAt;
  return releasedAt === undefined ? undefined : Date.parse(releasedAt);
}

/** Times of release by index of the attribute. */
function releaseTimes(block: IPAMBlockSpec): ReadonlyMap<number, number> {
  const times = new Map<number, number>();
  for (const [index, { releasedAt }] of block.attributes.entries())
    if (releasedAt !== undefined) times.set(index, Date.parse(releasedAt));
  return times;
}

function isJust(record: AllocationAttribute, releasedAt: string | undefined): boolean {
  return record.releasedAt === releasedAt && Object.keys(record).length === 1;
}
