// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { IPAMBlockSpec } from "../crds/ipam-block.ts";
import { parseCIDR } from "../net/cidr.ts";
import { assign, isEmptyBlock, isHeld, newBlock, nextRevision, ordinalsOfHandle } from "./block.ts";
import { checkBlock, isNameless } from "./check-block.ts";
import { cool, nextThawMs, releasedAtMs, thaw } from "./cooldown.ts";

const S = 1_787_395_200_123_456_789n;
const NOW_MS = Date.parse("2026-08-22T10:00:00Z");
const NONE: ReadonlySet<number> = new Set();

function taken(...handles: readonly string[]): IPAMBlockSpec {
  let block = newBlock(parseCIDR("10.0.0.0/29"), "host:node-a", { ms: 0, ns: S });
  for (const handleID of handles)
    block = nextRevision(assign(block, { handleID, attributes: { node: "node-a" }, count: 1 }).block);
  return block;
}

describe("cool()", () => {
  it("points ordinals at one record of their release, with the sequence number of those released by address", () => {
    const block = taken("a", "b", "c");
    const cooling = cool(block, [0, 2], { nowMs: NOW_MS, byAddress: new Set([2]) });
    expect(cooling.attributes).toEqual([
      { handle_id: "b", secondary: { node: "node-a" } },
      { releasedAt: "2026-08-22T10:00:00.000Z" },
    ]);
    expect(cooling.allocations.slice(0, 4)).toEqual([1, 0, 1, null]);
    expect(cooling.sequenceNumberForAllocation).toEqual({ "0": S, "1": S + 1n, "2": S + 3n });
    expect(cooling.unallocated).toEqual([3, 4, 5, 6, 7]);
    expect(checkBlock(cooling, NOW_MS)).toEqual([]);
    expect(cool(cooling, [1], { nowMs: NOW_MS, byAddress: NONE }).attributes).toHaveLength(1);
    expect(cool(cooling, [1], { nowMs: NOW_MS + 1, byAddress: NONE }).attributes).toHaveLength(2);
  });

  it("leaves them neither free, nor held by anybody, nor the block empty", () => {
    const cooling = cool(taken("a"), [0], { nowMs: NOW_MS, byAddress: NONE });
    expect([isEmptyBlock(cooling), ordinalsOfHandle(cooling, "a"), isHeld(cooling, 0, "a", S)]).toEqual([
      false,
      [],
      false,
    ]);
    expect(releasedAtMs(cooling, 0)).toBe(NOW_MS);
    expect(releasedAtMs(cooling, 1)).toBeUndefined();
    // Whatever else a record says: with a time of release nobody holds it any more.
    const odd = { ...cooling, attributes: [{ ...cooling.attributes[0], handle_id: "a" }] };
    expect([ordinalsOfHandle(odd, "a"), isHeld(odd, 0, "a", S)]).toEqual([[], false]);
  });
});

describe("thaw()", () => {
  it("frees what is strictly older than the setting, in the order of the releases", () => {
    let block = cool(taken("a", "b", "c", "d"), [3], { nowMs: NOW_MS, byAddress: new Set([3]) });
    block = cool(block, [1], { nowMs: NOW_MS + 1, byAddress: NONE });
    block = cool(block, [0], { nowMs: NOW_MS + 2, byAddress: NONE });
    expect(thaw(block, NOW_MS + 5_000, 5_000)).toBe(block);
    expect(nextThawMs(block, 5_000)).toBe(NOW_MS + 5_001);
    const thawed = thaw(block, NOW_MS + 5_002, 5_000);
    expect(thawed.unallocated).toEqual([4, 5, 6, 7, 3, 1]);
    expect(Object.keys(thawed.sequenceNumberForAllocation)).toEqual(["0", "2"]);
    expect(thawed.attributes.map(({ handle_id, releasedAt }) => handle_id ?? releasedAt)).toEqual([
      "c",
      "2026-08-22T10:00:00.002Z",
    ]);
    expect(checkBlock(thawed, NOW_MS + 5_002)).toEqual([]);
    expect(thaw(block, NOW_MS + 3, 0).unallocated).toEqual([4, 5, 6, 7, 3, 1, 0]);
    expect(nextThawMs(taken("a"), 5_000)).toBe(Number.POSITIVE_INFINITY);
  });

  it("leaves alone what is of the future, or no time, and who holds an address", () => {
    const block = taken("a", "b", "c");
    const odd = { ...block, attributes: [{ releasedAt: "soon" }, { releasedAt: "2999-01-01T00:00:00Z" }, {}] };
    expect(thaw(odd, NOW_MS, 0)).toBe(odd);
    expect(thaw(block, NOW_MS, 0)).toBe(block);
    expect(nextThawMs(odd, 0)).toBe(Date.parse("2999-01-01T00:00:00Z") + 1);
    expect(checkBlock(odd, NOW_MS).map(({ kind }) => kind)).toEqual([
      "namelessAttribute",
      "releasedInFuture",
      "releasedInFuture",
    ]);
  });
});

describe("isNameless()", () => {
  it("knows what an old peer leaves of a cooldown record", () => {
    const cooling = cool(taken("a", "b"), [0, 1], { nowMs: NOW_MS, byAddress: NONE });
    // A Go struct without `releasedAt`, written again.
    const pruned = { ...cooling, attributes: cooling.attributes.map(({ releasedAt: _releasedAt, ...rest }) => rest) };
    expect(checkBlock(pruned, NOW_MS)).toEqual([{ kind: "namelessAttribute", index: 0, ordinals: [0, 1] }]);
    // Nobody can tell it from an address that somebody uses without a handle, so it is never freed by itself.
    expect(thaw(pruned, NOW_MS * 2, 0)).toBe(pruned);
    expect(isNameless({ handle_id: "a" })).toBe(false);
    expect(isNameless({ secondary: { node: "node-a" } })).toBe(false);
    expect(isNameless({ alternateOwnerAttrs: { pod: "p" } })).toBe(false);
    expect(isNameless({ secondary: {} })).toBe(true);
  });
});
