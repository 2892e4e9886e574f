// SPDX-License-Identifier: Apache-2.0
import type { AllocationAttribute, IPAMBlockSpec } from "../crds/ipam-block.ts";
import { type CIDR, cidrSize, formatCIDR } from "../net/cidr.ts";
import { withoutTail } from "./handle-id.ts";

/**
 * The arithmetic of one block. Every function returns a NEW block, so a block whose write lost its compare-and-swap is
 * simply dropped: its queue and its attributes were never anybody's.
 *
 * None of them moves `sequenceNumber`: one write may hold many changes and counts once, see `nextRevision`.
 * Source: calico-interop 1.2, 1.6 and 1.7.
 */

/** Time, twice: for `affinityClaimTime` and for the sequence number. Units: Unix milliseconds, Unix nanoseconds. */
export interface Now {
  readonly ms: number;
  readonly ns: bigint;
}

/** Who gets addresses. All addresses of one request in one block share one attribute record. */
export interface BlockAssign {
  readonly handleID: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly count: number;
  /** Ordinals that are passed over, in their places. */
  readonly isReserved?: IsReserved;
  /** Free ordinals that were released a moment ago: passed over in their places, too. */
  readonly isCooling?: IsReserved;
  /** Those after all when there are no others, in the order of the queue: first the one that was released first. */
  readonly mayCool?: boolean;
  /** Just this ordinal, wherever it is in the queue, reserved or not. */
  readonly ordinal?: number;
}

/** Whether an ordinal of the block in question is kept from automatic assignment, as an IPReservation does. */
export type IsReserved = (ordinal: number) => boolean;

export interface BlockAssigned {
  readonly block: IPAMBlockSpec;
  /** In the order of the queue; fewer than asked for when the block ran out, or the one asked for is not free. */
  readonly ordinals: readonly number[];
  /** What the block now records for each of them: with address and handle, the right to release it. */
  readonly sequenceNumber: bigint;
}

/** Calico's Windows nodes pre-allocate four ordinals to this handle; a block that holds nothing else is empty. */
export const WINDOWS_RESERVED_HANDLE: string = "windows-reserved-ipam-handle";

/** An empty block, all of its ordinals in order. The first and the last address of a block are used like any other. */
export function newBlock(cidr: CIDR, affinity: string | undefined, now: Now): IPAMBlockSpec {
  const size = cidrSize(cidr);
  const owner = affinity === undefined ? {} : { affinity, affinityClaimTime: new Date(now.ms).toISOString() };
  return {
    cidr: formatCIDR(cidr),
    ...owner,
    allocations: new Array<null>(size).fill(null),
    unallocated: Array.from({ length: size }, (_, ordinal) => ordinal),
    attributes: [],
    sequenceNumber: now.ns,
    sequenceNumberForAllocation: {},
    deleted: false,
    strictAffinity: false,
  };
}

/** The block as it is written: every write counts once, whatever it holds. */
export function nextRevision(block: IPAMBlockSpec): IPAMBlockSpec {
  return { ...block, sequenceNumber: block.sequenceNumber + 1n };
}

/** Without its owner, for the second step of an unclaim. */
export function withoutAffinity(block: IPAMBlockSpec): IPAMBlockSpec {
  const { affinity: _affinity, affinityClaimTime: _claimed, ...rest } = block;
  return rest;
}

/** Ordinals that can be given. A cooling address is none of them, nor is a reserved one. */
export function freeCount(block: IPAMBlockSpec, isReserved?: IsReserved): number {
  if (isReserved === undefined) return block.unallocated.length;
  return block.unallocated.filter((ordinal) => !isReserved(ordinal)).length;
}

/** True when nobody holds an address. One that is cooling still counts as held. */
export function isEmptyBlock(block: IPAMBlockSpec): boolean {
  return block.allocations.every((index) => {
    return index === null || block.attributes[index]?.handle_id === WINDOWS_RESERVED_HANDLE;
  });
}

/** Takes ordinals from the head of the queue; the rest keeps its order. */
export function assign(block: IPAMBlockSpec, request: BlockAssign): BlockAssigned {
  const ordinals = pick(block.unallocated, request);
  const sequenceNumber = block.sequenceNumber;
  if (ordinals.length === 0) return { block, ordinals, sequenceNumber };
  const record: AllocationAttribute = { handle_id: request.handleID, secondary: request.attributes };
  const found = block.attributes.findIndex((other) => isSameOwner(other, record));
  const index = found < 0 ? block.attributes.length : found;
  const allocations = [...block.allocations];
  const sequences: Record<string, bigint> = { ...block.sequenceNumberForAllocation };
  for (const ordinal of ordinals) {
    allocations[ordinal] = index;
    sequences[String(ordinal)] = sequenceNumber;
  }
  return {
    block: {
      ...block,
      allocations,
      unallocated: block.unallocated.filter((ordinal) => !ordinals.includes(ordinal)),
      attributes: found < 0 ? [...block.attributes, record] : block.attributes,
      sequenceNumberForAllocation: sequences,
    },
    ordinals,
    sequenceNumber,
  };
}

function pick(queue: readonly number[], request: BlockAssign): readonly number[] {
  const { count, isReserved, isCooling, mayCool = false, ordinal } = request;
  if (ordinal !== undefined) return queue.includes(ordinal) ? [ordinal] : [];
  const picked: number[] = [];
  const cooling: number[] = [];
  for (const candidate of queue) {
    if (picked.length === count) return picked;
    if (isReserved?.(candidate)) continue;
    if (isCooling?.(candidate)) cooling.push(candidate);
    else picked.push(candidate);
  }
  return mayCool ? [...picked, ...cooling.slice(0, count - picked.length)] : picked;
}

/**
 * Frees ordinals: they go to the tail of the queue in the given order, and attributes that nobody refers to any more
 * go with them. Ordinals that are free already are left where they are.
 */
export function release(block: IPAMBlockSpec, ordinals: readonly number[]): IPAMBlockSpec {
  const freed = [...new Set(ordinals)].filter((ordinal) => typeof block.allocations[ordinal] === "number");
  if (freed.length === 0) return block;
  const allocations = [...block.allocations];
  const sequences: Record<string, bigint> = { ...block.sequenceNumberForAllocation };
  for (const ordinal of freed) {
    allocations[ordinal] = null;
    delete sequences[String(ordinal)];
  }
  return withDenseAttributes({
    ...block,
    allocations,
    unallocated: [...block.unallocated, ...freed],
    sequenceNumberForAllocation: sequences,
  });
}

/** Ordinals that a handle holds, in ascending order; with a node, only those whose owner record names it. */
export function ordinalsOfHandle(block: IPAMBlockSpec, handleID: string, node?: string): readonly number[] {
  const indexes = new Set<number>();
  const wanted = withoutTail(handleID);
  for (const [index, { handle_id: holder, releasedAt, secondary }] of block.attributes.entries()) {
    if (holder === undefined || withoutTail(holder) !== wanted || releasedAt !== undefined) continue;
    if (node === undefined || secondary?.["node"] === node) indexes.add(index);
  }
  if (indexes.size === 0) return [];
  const ordinals: number[] = [];
  for (const [ordinal, index] of block.allocations.entries()) {
    if (index !== null && indexes.has(index)) ordinals.push(ordinal);
  }
  return ordinals;
}

/** True when the ordinal is this handle's and was given to it at just this sequence number (a missing one reads as 0). */
export function isHeld(block: IPAMBlockSpec, ordinal: number, handleID: string, sequenceNumber: bigint): boolean {
  const index = block.allocations[ordinal];
  if (index === null || index === undefined) return false;
  const { handle_id: holder, releasedAt } = block.attributes[index] ?? {};
  if (holder === undefined || withoutTail(holder) !== withoutTail(handleID) || releasedAt !== undefined) return false;
  return (block.sequenceNumberForAllocation[String(ordinal)] ?? 0n) === sequenceNumber;
}

/** Ordinals in use whose owner record names another node than the block's. */
export function borrowedCount(block: IPAMBlockSpec, node: string): number {
  let count = 0;
  for (const index of block.allocations) {
    const owner = index === null ? undefined : block.attributes[index]?.secondary?.["node"];
    if (owner !== undefined && owner !== node) count++;
  }
  return count;
}

/** Records in cooldown and those with a second owner are never shared. */
function isSameOwner(a: AllocationAttribute, b: AllocationAttribute): boolean {
  if (a.handle_id !== b.handle_id || a.releasedAt !== undefined) return false;
  if (Object.keys(a.alternateOwnerAttrs ?? {}).length > 0) return false;
  const [x, y] = [a.secondary ?? {}, b.secondary ?? {}];
  const keys = Object.keys(x);
  return keys.length === Object.keys(y).length && keys.every((key) => Object.hasOwn(y, key) && x[key] === y[key]);
}

/** Drops records that no ordinal points at, and closes the gaps. */
export function withDenseAttributes(block: IPAMBlockSpec): IPAMBlockSpec {
  const used = new Set(block.allocations);
  if (block.attributes.every((_, index) => used.has(index))) return block;
  const moved = new Map<number, number>();
  const attributes = block.attributes.filter((_, index) => {
    if (used.has(index)) moved.set(index, moved.size);
    return used.has(index);
  });
  // An index that points at nothing (a damaged block) stays as it is, for `checkBlock` to report.
  const allocations = block.allocations.map((index) => (index === null ? null : (moved.get(index) ?? index)));
  return { ...block, allocations, attributes };
}
