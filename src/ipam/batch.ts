// SPDX-License-Identifier: Apache-2.0
import type { AllocationAttribute, IPAMBlockSpec } from "../crds/ipam-block.ts";
import { assign, type IsReserved, isEmptyBlock, isHeld, nextRevision, ordinalsOfHandle, release } from "./block.ts";
import { cool, thaw } from "./cooldown.ts";

/** Takes addresses: as many as there are of those asked for, or one that is named. */
export interface AssignOp {
  readonly kind: "assign";
  readonly handleID: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** What the block's `affinity` must be; absent when the node borrows: whoever owns it, if anybody. */
  readonly affinity?: string;
  readonly count: number;
  /** Just this one, even if it is reserved or was released a moment ago; `count` is 1 then. */
  readonly ordinal?: number;
  /** Also such as were released a moment ago, when there are no others. */
  readonly mayCool?: boolean;
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

/** Frees what has cooled down. Every other write does that as well; this one is for blocks that nobody writes. */
export interface ThawOp {
  readonly kind: "thaw";
}

export type BlockOp = AssignOp | ReleaseOp | ThawOp;

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
    }
  | { readonly kind: "thawed" };

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

/** What holds for all ops of a write. */
export interface BatchRules {
  /** Units: Unix milliseconds. */
  readonly nowMs: number;
  /** How old a record of a release must be before its ordinal is free. Units: milliseconds. */
  readonly ipCooldownMs: number;
  /** Releases leave such a record, instead of freeing at once. */
  readonly recordsReleases: boolean;
  readonly isReserved?: IsReserved;
  /** Free ordinals of which this process remembers that they were released a moment ago; absent: it has no memory. */
  readonly isCooling?: IsReserved;
}

/**
 * Works out one write for everybody who waits.
 *
 * A handle that counts more than the block holds may belong to an assignment that is still on its way: of a process that
 * died, or of a request that timed out. Before such a count may go, the block must be written, even if only its
 * sequence number changes: then that assignment can never be taken any more.
 *
 * What has cooled down is freed first, then what is released here, so that both can be given at once when the block is
 * full; since the queue is first in, first out, it is given last.
 */
export function planBatch(stored: IPAMBlockSpec | undefined, ops: readonly PlannedOp[], rules: BatchRules): BatchPlan {
  const results = new Array<BlockOpResult>(ops.length);
  const thawed = stored && thaw(stored, rules.nowMs, rules.ipCooldownMs);
  const released = releasable(thawed, ops);
  let block = thawed && applyReleases(thawed, released, rules);
  for (const [i, { op }] of ops.entries()) {
    if (op.kind !== "release") continue;
    const remaining = block === undefined ? 0 : ordinalsOfHandle(block, op.handleID).length;
    results[i] = { kind: "released", freed: [...released.values()].filter((by) => by === op).length, remaining };
  }
  const { isCooling } = rules;
  const now = isCooling && { ...rules, isCooling: (o: number): boolean => released.has(o) || isCooling(o) };
  for (const [i, { op, tried }] of ops.entries()) {
    if (op.kind === "thaw") results[i] = { kind: "thawed" };
    if (op.kind !== "assign") continue;
    const outcome = applyAssign(block, op, tried, now ?? rules);
    block = outcome.block;
    results[i] = outcome.result;
  }
  if (block === undefined) return { write: "none", block, results };
  const isTidier = thawed !== stored && ops.some(({ op }) => op.kind === "thaw");
  if (block === thawed && !isTidier && !ops.some(({ op }, i) => isOverCounted(op, results[i])))
    return { write: "none", block: stored, results };
  const isDead = block.affinity === undefined && isEmptyBlock(block);
  return { write: isDead ? "delete" : "update", block: nextRevision(block), results };
}

function isOverCounted(op: BlockOp, result: BlockOpResult | undefined): boolean {
  return op.kind === "release" && result?.kind === "released" && op.counted > result.freed + result.remaining;
}

/** The ordinals that may go, each with the op that gives it back. */
function releasable(block: IPAMBlockSpec | undefined, ops: readonly PlannedOp[]): ReadonlyMap<number, ReleaseOp> {
  const released = new Map<number, ReleaseOp>();
  if (block === undefined) return released;
  for (const { op } of ops) {
    if (op.kind !== "release") continue;
    for (const ordinal of ordinalsOf(block, op)) if (!released.has(ordinal)) released.set(ordinal, op);
  }
  return released;
}

function ordinalsOf(block: IPAMBlockSpec, op: ReleaseOp): readonly number[] {
  if ("node" in op.which) return ordinalsOfHandle(block, op.handleID, op.which.node);
  // Free already, cooling, or another's by now: left alone.
  const held = op.which.ordinals.filter((o) => isHeld(block, o.ordinal, op.handleID, o.sequenceNumber));
  return held.map((o) => o.ordinal);
}

function applyReleases(
  block: IPAMBlockSpec,
  released: ReadonlyMap<number, ReleaseOp>,
  { recordsReleases, nowMs }: BatchRules,
): IPAMBlockSpec {
  const ordinals = [...released.keys()];
  if (!recordsReleases) return release(block, ordinals);
  const byAddress = new Set(ordinals.filter((ordinal) => "ordinals" in (released.get(ordinal)?.which ?? {})));
  return cool(block, ordinals, { nowMs, byAddress });
}

function applyAssign(
  block: IPAMBlockSpec | undefined,
  op: AssignOp,
  tried: PlannedOp["tried"],
  { isReserved, isCooling }: BatchRules,
): { block: IPAMBlockSpec | undefined; result: BlockOpResult } {
  const { handleID, attributes, affinity, count, ordinal, mayCool = false } = op;
  // A write holds all of them or none.
  const taken = block && tried.find((t) => t.ordinals.every((o) => isHeld(block, o, handleID, t.sequenceNumber)));
  if (taken) return { block, result: { kind: "assigned", ...taken } };
  if (block === undefined || block.deleted) return { block, result: { kind: "notOurs" } };
  if (affinity !== undefined && block.affinity !== affinity) return { block, result: { kind: "notOurs" } };
  const passedOver = { ...(isReserved && { isReserved }), ...(isCooling && { isCooling }), mayCool };
  const request = { handleID, attributes, count, ...passedOver };
  const assigned = assign(block, { ...request, ...(ordinal !== undefined && { ordinal }) });
  const { ordinals, sequenceNumber } = assigned;
  if (ordinals.length > 0) return { block: assigned.block, result: { kind: "assigned", ordinals, sequenceNumber } };
  if (ordinal === undefined) return { block, result: { kind: "full" } };
  return { block, result: { kind: "taken", owner: block.attributes[block.allocations[ordinal] ?? -1] ?? {} } };
}
