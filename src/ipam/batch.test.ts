// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { IPAMBlockSpec } from "../crds/ipam-block.ts";
import { parseCIDR } from "../net/cidr.ts";
import { type AssignOp, type BatchRules, type PlannedOp, planBatch, type ReleaseOp } from "./batch.ts";
import { assign, newBlock, nextRevision, withoutAffinity } from "./block.ts";
import { checkBlock } from "./check-block.ts";

const NOW = { ms: 1_787_395_200_123, ns: 1_000n };
const empty = newBlock(parseCIDR("10.0.0.0/30"), "host:node-a", NOW);

const RULES: BatchRules = { nowMs: NOW.ms, ipCooldownMs: 0, recordsReleases: false };

function plan(
  stored: IPAMBlockSpec | undefined,
  ops: readonly PlannedOp[],
  rules: Partial<BatchRules> = {},
): ReturnType<typeof planBatch> {
  return planBatch(stored, ops, { ...RULES, ...rules });
}
function take(handleID: string, tried: PlannedOp["tried"] = []): PlannedOp {
  const op: AssignOp = { kind: "assign", handleID, attributes: { node: "node-a" }, affinity: "host:node-a", count: 1 };
  return { op, tried };
}
function give(handleID: string, which: ReleaseOp["which"] = { node: "node-a" }, counted = 0): PlannedOp {
  return { op: { kind: "release", handleID, counted, which }, tried: [] };
}

describe("planBatch()", () => {
  it("puts many ops into one write, which counts once", () => {
    const planned = plan(empty, [take("a"), take("b"), take("c")]);
    expect(planned.write).toBe("update");
    expect(planned.block?.sequenceNumber).toBe(1_001n);
    expect(planned.results).toEqual([
      { kind: "assigned", ordinals: [0], sequenceNumber: 1_000n },
      { kind: "assigned", ordinals: [1], sequenceNumber: 1_000n },
      { kind: "assigned", ordinals: [2], sequenceNumber: 1_000n },
    ]);
  });

  it("lets an assignment have what a release of the same batch frees, and tells the rest that the block is full", () => {
    const full = plan(
      empty,
      ["a", "b", "c", "d"].map((h) => take(h)),
    ).block;
    const planned = plan(full, [take("e"), take("f"), give("b")]);
    expect(planned.results).toEqual([
      { kind: "assigned", ordinals: [1], sequenceNumber: 1_001n },
      { kind: "full" },
      { kind: "released", freed: 1, remaining: 0 },
    ]);
    expect(planned.block && checkBlock(planned.block, NOW.ms)).toEqual([]);
  });

  it("writes nothing when nothing changes", () => {
    const which = { ordinals: [{ ordinal: 0, sequenceNumber: 5n }] };
    expect(plan(empty, [give("a"), give("a", which)])).toEqual({
      write: "none",
      block: empty,
      results: [
        { kind: "released", freed: 0, remaining: 0 },
        { kind: "released", freed: 0, remaining: 0 },
      ],
    });
  });

  it("writes the block before an over-counted handle may go, so that an assignment on its way is never taken", () => {
    const planned = plan(empty, [give("a", { node: "node-a" }, 1)]);
    expect(planned).toMatchObject({ write: "update", block: { ...empty, sequenceNumber: 1_001n } });
    expect(plan(undefined, [give("a", { node: "node-a" }, 1)]).write).toBe("none");
    const other = plan(empty, [take("a")]).block;
    expect(plan(other, [give("a", { node: "node-b" }, 1)]).write).toBe("none");
  });

  it("frees neither a recycled address nor another node's", () => {
    const other = assign(empty, { handleID: "a", attributes: { node: "node-b" }, count: 1 });
    const block = nextRevision(other.block);
    const stale = { ordinals: [{ ordinal: 0, sequenceNumber: 999n }] };
    expect(plan(block, [give("a"), give("a", stale)]).results).toEqual([
      { kind: "released", freed: 0, remaining: 1 },
      { kind: "released", freed: 0, remaining: 1 },
    ]);
    const right = { ordinals: [{ ordinal: 0, sequenceNumber: 1_000n }] };
    expect(plan(block, [give("a", right)]).results).toEqual([{ kind: "released", freed: 1, remaining: 0 }]);
  });

  it("sends assignments elsewhere when the block is gone, is about to go, or is not ours", () => {
    for (const block of [
      undefined,
      { ...empty, deleted: true },
      withoutAffinity(empty),
      { ...empty, affinity: "host:b" },
    ])
      expect(plan(block, [take("a")])).toMatchObject({ write: "none", results: [{ kind: "notOurs" }] });
  });

  it("finds the place that a write without an answer has given", () => {
    const taken = plan(empty, [take("a")]).block;
    const again = take("a", [{ ordinals: [0], sequenceNumber: 1_000n }]);
    expect(plan(taken, [again])).toMatchObject({
      write: "none",
      results: [{ kind: "assigned", ordinals: [0], sequenceNumber: 1_000n }],
    });
    // Not taken after all: it gets another place.
    expect(plan(empty, [take("b"), again]).results).toMatchObject([{ ordinals: [0] }, { ordinals: [1] }]);
  });

  const op = { kind: "assign", handleID: "a", attributes: { node: "node-a" }, count: 1 } as const;

  it("gives several addresses of one request one record, and what there is when there are fewer", () => {
    const planned = plan(empty, [{ op: { ...op, count: 3 }, tried: [] }]);
    expect(planned.results).toEqual([{ kind: "assigned", ordinals: [0, 1, 2], sequenceNumber: 1_000n }]);
    expect(planned.block?.attributes).toHaveLength(1);
    expect(planned.block?.sequenceNumberForAllocation).toEqual({ "0": 1_000n, "1": 1_000n, "2": 1_000n });
    expect(plan(planned.block, [{ op: { ...op, count: 3 }, tried: [] }]).results).toMatchObject([{ ordinals: [3] }]);
  });

  it("passes over reserved ordinals in their places, unless one is asked for by name", () => {
    const isReserved = (ordinal: number): boolean => ordinal < 2;
    const planned = plan(empty, [take("a")], { isReserved });
    expect(planned.results).toMatchObject([{ ordinals: [2] }]);
    expect(planned.block?.unallocated).toEqual([0, 1, 3]);
    const named = plan(planned.block, [take("b"), take("c"), { op: { ...op, ordinal: 1 }, tried: [] }], { isReserved });
    expect(named.results).toMatchObject([{ ordinals: [3] }, { kind: "full" }, { ordinals: [1] }]);
    expect(named.block?.unallocated).toEqual([0]);
  });

  it("says who has the address that was asked for by name", () => {
    const taken = plan(empty, [take("b")]).block;
    const planned = plan(taken, [{ op: { ...op, ordinal: 0 }, tried: [] }]);
    expect(planned).toMatchObject({ write: "none", results: [{ kind: "taken", owner: { handle_id: "b" } }] });
  });

  it("lends to a node that asks for no affinity, also out of a block without an owner, but not out of a tombstone", () => {
    for (const block of [empty, withoutAffinity(empty), { ...empty, affinity: "host:b" }])
      expect(plan(block, [{ op, tried: [] }]).results).toMatchObject([{ ordinals: [0] }]);
    expect(plan({ ...empty, deleted: true }, [{ op, tried: [] }]).results).toEqual([{ kind: "notOurs" }]);
  });

  it("deletes a block without an owner when its last address goes, and keeps an empty one of ours", () => {
    const block = plan(empty, [take("a")]).block;
    expect(plan(block, [give("a")]).write).toBe("update");
    expect(plan(block && withoutAffinity(block), [give("a")]).write).toBe("delete");
  });
});

describe("planBatch() with a cooldown", () => {
  const HOUR_MS = 3_600_000;
  const cooling: Partial<BatchRules> = { ipCooldownMs: HOUR_MS, recordsReleases: true };
  const all = ["a", "b", "c", "d"].map((h) => take(h));
  const full = plan(empty, all).block;
  const held = (ordinal: number): ReleaseOp["which"] => ({ ordinals: [{ ordinal, sequenceNumber: 1_000n }] });

  it("records releases in the block: the handle may count down, and the address is not free", () => {
    const planned = plan(full, [give("a", { node: "node-a" }, 1), give("b", held(1), 1), take("e")], cooling);
    expect(planned.results).toEqual([
      { kind: "released", freed: 1, remaining: 0 },
      { kind: "released", freed: 1, remaining: 0 },
      { kind: "full" },
    ]);
    expect(planned.block?.unallocated).toEqual([]);
    expect(planned.block?.sequenceNumberForAllocation).toMatchObject({ "0": 1_000n, "1": 1_001n });
    expect(planned.block && checkBlock(planned.block, NOW.ms)).toEqual([]);
  });

  it("takes a second release for done, and asking for the address by name for too early", () => {
    const { block } = plan(full, [give("a")], cooling);
    const again = plan(block, [give("a"), give("a", held(0)), { op: { ...named, ordinal: 0 }, tried: [] }], cooling);
    expect(again).toMatchObject({ write: "none", block });
    expect(again.results).toMatchObject([
      { kind: "released", freed: 0 },
      { kind: "released", freed: 0 },
      { kind: "taken", owner: { releasedAt: new Date(NOW.ms).toISOString() } },
    ]);
  });

  it("frees what has cooled down in the same write, whoever recorded it and whatever is set now", () => {
    const { block } = plan(full, [give("b"), give("c")], cooling);
    const later = { nowMs: NOW.ms + HOUR_MS + 1, ipCooldownMs: HOUR_MS };
    const planned = plan(block, [take("e")], later);
    expect(planned.results).toMatchObject([{ kind: "assigned", ordinals: [1] }]);
    expect(planned.block?.unallocated).toEqual([2]);
    expect(plan(block, [take("e")], { ...later, nowMs: NOW.ms + HOUR_MS }).results).toEqual([{ kind: "full" }]);
    // The setting went to 0 since.
    expect(plan(block, [give("a")], { nowMs: NOW.ms + 1 }).block?.unallocated).toEqual([1, 2, 0]);
  });

  it("writes nothing for the sake of thawing alone, unless that is what was asked for", () => {
    const { block } = plan(full, [give("b")], cooling);
    const later = { nowMs: NOW.ms + HOUR_MS + 1, ipCooldownMs: HOUR_MS };
    expect(plan(block, [give("x")], later)).toMatchObject({ write: "none", block });
    const op: PlannedOp = { op: { kind: "thaw" }, tried: [] };
    expect(plan(block, [op], later)).toMatchObject({ write: "update", results: [{ kind: "thawed" }] });
    expect(plan(block, [op], later).block?.unallocated).toEqual([1]);
    expect(plan(block, [op], { ...later, nowMs: NOW.ms })).toMatchObject({ write: "none", block });
  });

  it("deletes a block without an owner once all has cooled down, not before", () => {
    const { block } = plan(empty, [take("a")]);
    const unowned = block && withoutAffinity(block);
    const released = plan(unowned, [give("a")], cooling);
    expect(released.write).toBe("update");
    const later = { nowMs: NOW.ms + HOUR_MS + 1, ipCooldownMs: HOUR_MS };
    expect(plan(released.block, [{ op: { kind: "thaw" }, tried: [] }], later).write).toBe("delete");
  });

  const named = { kind: "assign", handleID: "n", attributes: { node: "node-a" }, count: 1 } as const;

  it("passes over what the process remembers in its place, until nothing else is left and it is asked for", () => {
    const isCooling = (ordinal: number): boolean => ordinal < 3;
    const first = plan(empty, [take("a"), take("b")], { isCooling });
    expect(first.results).toMatchObject([{ ordinals: [3] }, { kind: "full" }]);
    expect(first.block?.unallocated).toEqual([0, 1, 2]);
    const op = { ...named, mayCool: true, count: 2 };
    const second = plan(first.block, [{ op, tried: [] }], { isCooling, isReserved: (o) => o === 1 });
    expect(second.results).toMatchObject([{ ordinals: [0, 2] }]);
    expect(plan(empty, [{ op, tried: [] }], { isCooling }).results).toMatchObject([{ ordinals: [3, 0] }]);
    const byName = plan(empty, [{ op: { ...named, ordinal: 2 }, tried: [] }], { isCooling });
    expect(byName.results).toMatchObject([{ ordinals: [2] }]);
  });

  it("lets what is released in the same write cool as well", () => {
    const isCooling = (): boolean => false;
    expect(plan(full, [give("a"), take("e")], { isCooling }).results[1]).toEqual({ kind: "full" });
    const op = { ...named, mayCool: true };
    expect(plan(full, [give("a"), { op, tried: [] }], { isCooling }).results[1]).toMatchObject({ ordinals: [0] });
  });
});
