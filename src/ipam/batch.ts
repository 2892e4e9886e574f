// SPDX-License-Identifier: Apache-2.0
import type { AllocationAttribute, IPAMBlockSpec } from "../crds/ipam-block.ts";
import { assign, type IsReserved, isEmptyBlock, isHeld, nextRevision, ordinalsOfHandle, release } from "./block.ts";

/** Takes addresses: as many as there are of those asked for, or one that is named. */
export interface AssignOp {
  readonly kind: "assign";
  readonly handleID: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** What the block's `affinity` must be; absent when the node borrows: whoever owns it, if anybody. */
  readonly affinity?: string;
  readonly count: number;
  /** Just this one, even if it is reserved; `count` is 1 then. */
  readonly ordinal?: number;
}

/** Gives addresses back: certain ones, or all that a node holds under the handle. */
export interface ReleaseOp {
  readonly kind: "release";
  readonly handleID: string;
  /** What the handle counts for this block, and will be set down from. */
  readonly counted: number;
  readonly which:
    | { readonly ordinals: readonly { readonly ordinal: number; readonly sequenceNumber: bigint }[] }
    | { readonly node: string };
}

export type BlockOp = AssignOp | ReleaseOp;

/** Where addresses of one request are, or may be. */
export interface Places {
  readonly ordinals: readonly number[];
  readonly sequenceNumber: bigint;
}

/** What an op came to. `full` and `notOurs` send an assignment to another block. */
export type BlockOpResult =
  /** At least one address, at most as many as asked for. */
  | ({ readonly kind: "assigned" } & Places)
  | { readonly kind: "full" }
  | { readonly kind: "notOurs" }
  /** The one that was named is not free; this is who has it. A record without a handle is cooling down. */
  | { readonly kind: "taken"; readonly owner: AllocationAttribute }
  | {
      readonly kind: "released";
      readonly freed: number;
      /** What the handle still holds in this block, on any node. */
      readonly remaining: number;
    };

/** An op, and every place that a write whose outcome nobody knows may have given it. */
export interface PlannedOp {
  readonly op: BlockOp;
  readonly tried: readonly Places[];
}

/** One write of one block for many ops. `results` are in the order of the ops, and true once the write is taken. */
export interface BatchPlan {
  readonly write: "none" | "update" | "delete";
  /** The block as it is to be stored; undefined when the block is not there. */
  readonly block: IPAMBlockSpec | undefined;
  readonly results: readonly BlockOpResult[];
}

/**
 * Works out one write for everybody who waits.
 *
 * A handle that counts more than the block holds may belong to an assignment that is still on its way: of a process that
 * died, or of a request that timed out. Before such a count may go, the block must be written, even if only its
 * sequence number changes: then that assignment can never be taken any more.
 *
 * Releases come first, so that what they free can be given at once when the
 * block is full; since the queue is first in, first out, it is given last.
 */
export function planBatch(
  stored: IPAMBlockSpec | undefined,
  ops: readonly PlannedOp[],
  isReserved?: IsReserved,
): BatchPlan {
  const results = new Array<BlockOpResult>(ops.length);
  let block = stored;
  for (const [i, { op }] of ops.entries()) {
    if (op.kind !== "release") continue;
    const before = block;
    block = before === undefined ? undefined : applyRelease(before, op);
    results[i] = {
      kind: "released",
      freed: (block?.unallocated.length ?? 0) - (before?.unallocated.length ?? 0),
      remaining: block === undefined ? 0 : ordinalsOfHandle(block, op.handleID).length,
    };
  }
  for (const [i, { op, tried }] of ops.entries()) {
    if (op.kind !== "assign") continue;
    const outcome = applyAssign(block, op, tried, isReserved);
    block = outcome.block;
    results[i] = outcome.result;
  }
  if (block === undefined) return { write: "none", block, results };
  if (block === stored && !ops.some(({ op }, i) => isOverCounted(op, results[i])))
    return { write: "none", block, results };
  const isDead = block.affinity === undefined && isEmptyBlock(block);
  return { write: isDead ? "delete" : "update", block: nextRevision(block), results };
}

function isOverCounted(op: BlockOp, result: BlockOpResult | undefined): boolean {
  return op.kind === "release" && result?.kind === "released" && op.counted > result.freed + result.remaining;
}

function applyRelease(block: IPAMBlockSpec, op: ReleaseOp): IPAMBlockSpec {
  if ("node" in op.which) return release(block, ordinalsOfHandle(block, op.handleID, op.which.node));
  // Free already, or another's by now: left alone.
  const held = op.which.ordinals.filter((o) => isHeld(block, o.ordinal, op.handleID, o.sequenceNumber));
  return release(
    block,
    held.map((o) => o.ordinal),
  );
}

function applyAssign(
  block: IPAMBlockSpec | undefined,
  op: AssignOp,
  tried: PlannedOp["tried"],
  isReserved: IsReserved | undefined,
): { block: IPAMBlockSpec | undefined; result: BlockOpResult } {
  const { handleID, attributes, affinity, count, ordinal } = op;
  // A write holds all of them or none.
  const taken = block && tried.find((t) => t.ordinals.every((o) => isHeld(block, o, handleID, t.sequenceNumber)));
  if (taken) return { block, result: { kind: "assigned", ...taken } };
  if (block === undefined || block.deleted) return { block, result: { kind: "notOurs" } };
  if (affinity !== undefined && block.affinity !== affinity) return { block, result: { kind: "notOurs" } };
  const request = { handleID, attributes, count, ...(isReserved && { isReserved }) };
  const assigned = assign(block, { ...request, ...(ordinal !== undefined && { ordinal }) });
  const { ordinals, sequenceNumber } = assigned;
  if (ordinals.length > 0) return { block: assigned.block, result: { kind: "assigned", ordinals, sequenceNumber } };
  if (ordinal === undefined) return { block, result: { kind: "full" } };
  return { block, result: { kind: "taken", owner: block.attributes[block.allocations[ordinal] ?? -1] ?? {} } };
}
