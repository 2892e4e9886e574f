// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlockSpec } from "../crds/ipam-block.ts";
import { assign, isEmptyBlock, isHeld, nextRevision, ordinalsOfHandle, release } from "./block.ts";

/** Takes one address. */
export interface AssignOp {
  readonly kind: "assign";
  readonly handleID: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** What the block's `affinity` must be. (Borrowing, when it comes, asks for none.) */
  readonly affinity: string;
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

/** What an op came to. `full` and `notOurs` send an assignment to another block. */
export type BlockOpResult =
  | { readonly kind: "assigned"; readonly ordinal: number; readonly sequenceNumber: bigint }
  | { readonly kind: "full" }
  | { readonly kind: "notOurs" }
  | {
      readonly kind: "released";
      readonly freed: number;
      /** What the handle still holds in this block, on any node. */
      readonly remaining: number;
    };

/** An op, and every place that a write whose outcome nobody knows may have given it. */
export interface PlannedOp {
  readonly op: BlockOp;
  readonly tried: readonly { readonly ordinal: number; readonly sequenceNumber: bigint }[];
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
export function planBatch(stored: IPAMBlockSpec | undefined, ops: readonly PlannedOp[]): BatchPlan {
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
    const outcome = applyAssign(block, op, tried);
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
): { block: IPAMBlockSpec | undefined; result: BlockOpResult } {
  const taken = block && tried.find((t) => isHeld(block, t.ordinal, op.handleID, t.sequenceNumber));
  if (taken) return { block, result: { kind: "assigned", ...taken } };
  if (block === undefined || block.deleted || block.affinity !== op.affinity)
    return { block, result: { kind: "notOurs" } };
  const assigned = assign(block, { handleID: op.handleID, attributes: op.attributes, count: 1 });
  const ordinal = assigned.ordinals[0];
  if (ordinal === undefined) return { block, result: { kind: "full" } };
  return {
    block: assigned.block,
    result: { kind: "assigned", ordinal, sequenceNumber: assigned.sequenceNumber },
  };
}
