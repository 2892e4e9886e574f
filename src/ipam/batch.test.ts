// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseCIDR } from "../net/cidr.ts";
import { type AssignOp, type PlannedOp, planBatch, type ReleaseOp } from "./batch.ts";
import { assign, newBlock, nextRevision, withoutAffinity } from "./block.ts";
import { checkBlock } from "./check-block.ts";

const NOW = { ms: 1_787_395_200_123, ns: 1_000n };
const empty = newBlock(parseCIDR("10.0.0.0/30"), "host:node-a", NOW);

function take(handleID: string, tried: PlannedOp["tried"] = []): PlannedOp {
  const op: AssignOp = { kind: "assign", handleID, attributes: { node: "node-a" }, affinity: "host:node-a", count: 1 };
  return { op, tried };
}
function give(handleID: string, which: ReleaseOp["which"] = { node: "node-a" }, counted = 0): PlannedOp {
  return { op: { kind: "release", handleID, counted, which }, tried: [] };
}

describe("planBatch()", () => {
  it("puts many ops into one write, which counts once", () => {
    const plan = planBatch(empty, [take("a"), take("b"), take("c")]);
    expect(plan.write).toBe("update");
    expect(plan.block?.sequenceNumber).toBe(1_001n);
    expect(plan.results).toEqual([
      { kind: "assigned", ordinals: [0], sequenceNumber: 1_000n },
      { kind: "assigned", ordinals: [1], sequenceNumber: 1_000n },
      { kind: "assigned", ordinals: [2], sequenceNumber: 1_000n },
    ]);
  });

  it("lets an assignment have what a release of the same batch frees, and tells the rest that the block is full", () => {
    const full = planBatch(
      empty,
      ["a", "b", "c", "d"].map((h) => take(h)),
    ).block;
    const plan = planBatch(full, [take("e"), take("f"), give("b")]);
    expect(plan.results).toEqual([
      { kind: "assigned", ordinals: [1], sequenceNumber: 1_001n },
      { kind: "full" },
      { kind: "released", freed: 1, remaining: 0 },
    ]);
    expect(plan.block && checkBlock(plan.block, NOW.ms)).toEqual([]);
  });

  it("writes nothing when nothing changes", () => {
    const which = { ordinals: [{ ordinal: 0, sequenceNumber: 5n }] };
    expect(planBatch(empty, [give("a"), give("a", which)])).toEqual({
      write: "none",
      block: empty,
      results: [
        { kind: "released", freed: 0, remaining: 0 },
        { kind: "released", freed: 0, remaining: 0 },
      ],
    });
  });

  it("writes the block before an over-counted handle may go, so that an assignment on its way is never taken", () => {
    const plan = planBatch(empty, [give("a", { node: "node-a" }, 1)]);
    expect(plan).toMatchObject({ write: "update", block: { ...empty, sequenceNumber: 1_001n } });
    expect(planBatch(undefined, [give("a", { node: "node-a" }, 1)]).write).toBe("none");
    const other = planBatch(empty, [take("a")]).block;
    expect(planBatch(other, [give("a", { node: "node-b" }, 1)]).write).toBe("none");
  });

  it("frees neither a recycled address nor another node's", () => {
    const other = assign(empty, { handleID: "a", attributes: { node: "node-b" }, count: 1 });
    const block = nextRevision(other.block);
    const stale = { ordinals: [{ ordinal: 0, sequenceNumber: 999n }] };
    expect(planBatch(block, [give("a"), give("a", stale)]).results).toEqual([
      { kind: "released", freed: 0, remaining: 1 },
      { kind: "released", freed: 0, remaining: 1 },
    ]);
    const right = { ordinals: [{ ordinal: 0, sequenceNumber: 1_000n }] };
    expect(planBatch(block, [give("a", right)]).results).toEqual([{ kind: "released", freed: 1, remaining: 0 }]);
  });

  it("sends assignments elsewhere when the block is gone, is about to go, or is not ours", () => {
    for (const block of [
      undefined,
      { ...empty, deleted: true },
      withoutAffinity(empty),
      { ...empty, affinity: "host:b" },
    ])
      expect(planBatch(block, [take("a")])).toMatchObject({ write: "none", results: [{ kind: "notOurs" }] });
  });

  it("finds the place that a write without an answer has given", () => {
    const taken = planBatch(empty, [take("a")]).block;
    const again = take("a", [{ ordinals: [0], sequenceNumber: 1_000n }]);
    expect(planBatch(taken, [again])).toMatchObject({
      write: "none",
      results: [{ kind: "assigned", ordinals: [0], sequenceNumber: 1_000n }],
    });
    // Not taken after all: it gets another place.
    expect(planBatch(empty, [take("b"), again]).results).toMatchObject([{ ordinals: [0] }, { ordinals: [1] }]);
  });

  const op = { kind: "assign", handleID: "a", attributes: { node: "node-a" }, count: 1 } as const;

  it("gives several addresses of one request one record, and what there is when there are fewer", () => {
    const plan = planBatch(empty, [{ op: { ...op, count: 3 }, tried: [] }]);
    expect(plan.results).toEqual([{ kind: "assigned", ordinals: [0, 1, 2], sequenceNumber: 1_000n }]);
    expect(plan.block?.attributes).toHaveLength(1);
    expect(plan.block?.sequenceNumberForAllocation).toEqual({ "0": 1_000n, "1": 1_000n, "2": 1_000n });
    expect(planBatch(plan.block, [{ op: { ...op, count: 3 }, tried: [] }]).results).toMatchObject([{ ordinals: [3] }]);
  });

  it("passes over reserved ordinals in their places, unless one is asked for by name", () => {
    const isReserved = (ordinal: number): boolean => ordinal < 2;
    const plan = planBatch(empty, [take("a")], isReserved);
    expect(plan.results).toMatchObject([{ ordinals: [2] }]);
    expect(plan.block?.unallocated).toEqual([0, 1, 3]);
    const named = planBatch(plan.block, [take("b"), take("c"), { op: { ...op, ordinal: 1 }, tried: [] }], isReserved);
    expect(named.results).toMatchObject([{ ordinals: [3] }, { kind: "full" }, { ordinals: [1] }]);
    expect(named.block?.unallocated).toEqual([0]);
  });

  it("says who has the address that was asked for by name", () => {
    const taken = planBatch(empty, [take("b")]).block;
    const plan = planBatch(taken, [{ op: { ...op, ordinal: 0 }, tried: [] }]);
    expect(plan).toMatchObject({ write: "none", results: [{ kind: "taken", owner: { handle_id: "b" } }] });
  });

  it("lends to a node that asks for no affinity, also out of a block without an owner, but not out of a tombstone", () => {
    for (const block of [empty, withoutAffinity(empty), { ...empty, affinity: "host:b" }])
      expect(planBatch(block, [{ op, tried: [] }]).results).toMatchObject([{ ordinals: [0] }]);
    expect(planBatch({ ...empty, deleted: true }, [{ op, tried: [] }]).results).toEqual([{ kind: "notOurs" }]);
  });

  it("deletes a block without an owner when its last address goes, and keeps an empty one of ours", () => {
    const block = planBatch(empty, [take("a")]).block;
    expect(planBatch(block, [give("a")]).write).toBe("update");
    expect(planBatch(block && withoutAffinity(block), [give("a")]).write).toBe("delete");
  });
});
