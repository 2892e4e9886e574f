// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { IPAMBlockSpec } from "../crds/ipam-block.ts";
import { parseCIDR } from "../net/cidr.ts";
import {
  assign,
  borrowedCount,
  isEmptyBlock,
  isHeld,
  newBlock,
  nextRevision,
  ordinalsOfHandle,
  release,
} from "./block.ts";
import { checkBlock } from "./check-block.ts";

const NOW = { ms: 1_787_395_200_123, ns: 1_787_395_200_123_456_789n };
const CIDR = parseCIDR("10.0.0.0/29");

function take(block: IPAMBlockSpec, handleID: string, count = 1, node = "node-a"): IPAMBlockSpec {
  return nextRevision(assign(block, { handleID, attributes: { node }, count }).block);
}

describe("newBlock()", () => {
  it("has every ordinal free in order, the first and the last included, and starts from nanoseconds", () => {
    const block = newBlock(CIDR, "host:node-a", NOW);
    expect(block).toEqual({
      cidr: "10.0.0.0/29",
      affinity: "host:node-a",
      affinityClaimTime: "2026-08-22T10:40:00.123Z",
      allocations: new Array(8).fill(null),
      unallocated: [0, 1, 2, 3, 4, 5, 6, 7],
      attributes: [],
      sequenceNumber: 1_787_395_200_123_456_789n,
      sequenceNumberForAllocation: {},
      deleted: false,
      strictAffinity: false,
    });
    expect(newBlock(CIDR, undefined, NOW)).not.toHaveProperty("affinityClaimTime");
  });
});

describe("assign()", () => {
  it("shares one attribute among the addresses of a request and records the counter before the write", () => {
    const S = NOW.ns;
    const assigned = assign(newBlock(CIDR, "host:node-a", NOW), {
      handleID: "net.c1",
      attributes: { node: "node-a", timestamp: "t1" },
      count: 3,
    });
    const block = nextRevision(assigned.block);
    expect(assigned.ordinals).toEqual([0, 1, 2]);
    expect(assigned.sequenceNumber).toBe(S);
    expect(block.allocations.slice(0, 4)).toEqual([0, 0, 0, null]);
    expect(block.attributes).toEqual([{ handle_id: "net.c1", secondary: { node: "node-a", timestamp: "t1" } }]);
    expect(block.sequenceNumber).toBe(S + 1n);
    expect(block.sequenceNumberForAllocation).toEqual({ "0": S, "1": S, "2": S });
    expect(block.unallocated).toEqual([3, 4, 5, 6, 7]);
  });

  it("reuses an equal record, but none that cools down or has a second owner", () => {
    const base = newBlock(CIDR, "host:node-a", NOW);
    const twice = take(take(base, "net.c1"), "net.c1");
    expect(twice.attributes).toHaveLength(1);
    for (const extra of [{ releasedAt: "2026-08-22T10:00:00Z" }, { alternateOwnerAttrs: { pod: "p" } }]) {
      const odd = { ...twice, attributes: [{ ...twice.attributes[0], ...extra }] };
      expect(take(odd, "net.c1").attributes).toHaveLength(2);
    }
  });

  it("gives what there is when the block runs out, and leaves a full block as it is", () => {
    const assigned = assign(newBlock(CIDR, "host:node-a", NOW), { handleID: "h", attributes: {}, count: 9 });
    expect(assigned.ordinals).toHaveLength(8);
    expect(assign(assigned.block, { handleID: "i", attributes: {}, count: 1 }).block).toBe(assigned.block);
  });

  it("leaves the block that it was given untouched", () => {
    const block = take(newBlock(CIDR, "host:node-a", NOW), "net.c1", 2);
    const before = structuredClone(block);
    assign(block, { handleID: "net.c2", attributes: {}, count: 2 });
    release(block, [0, 1]);
    expect(block).toEqual(before);
  });
});

describe("release()", () => {
  it("appends to the queue, drops sequence numbers and closes the gaps of the attributes", () => {
    let block = newBlock(CIDR, "host:node-a", NOW);
    for (const handle of ["a", "b", "a2", "c"]) block = take(block, handle);
    const freed = release(block, ordinalsOfHandle(block, "b"));
    expect(freed.unallocated).toEqual([4, 5, 6, 7, 1]);
    expect(freed.allocations.slice(0, 4)).toEqual([0, null, 1, 2]);
    expect(freed.attributes.map((a) => a.handle_id)).toEqual(["a", "a2", "c"]);
    expect(Object.keys(freed.sequenceNumberForAllocation)).toEqual(["0", "2", "3"]);
    expect(checkBlock(freed, NOW.ms)).toEqual([]);
  });

  it("does nothing to an ordinal that is free already", () => {
    const block = take(newBlock(CIDR, "host:node-a", NOW), "a");
    expect(release(block, [3, 99])).toBe(block);
  });
});

describe("ordinalsOfHandle()", () => {
  it("can be limited to the owner's node, and cuts handles at a carriage return", () => {
    let block = take(newBlock(CIDR, "host:node-a", NOW), "net.c1", 1, "node-a");
    block = take(block, "net.c1", 1, "node-b");
    block = take(block, "net.c1\r\neth0", 1, "node-a");
    expect(ordinalsOfHandle(block, "net.c1")).toEqual([0, 1, 2]);
    expect(ordinalsOfHandle(block, "net.c1", "node-a")).toEqual([0, 2]);
    expect(borrowedCount(block, "node-a")).toBe(1);
  });
});

describe("isHeld()", () => {
  it("needs handle and sequence number together, and reads a missing number as 0", () => {
    const block = take(newBlock(CIDR, "host:node-a", NOW), "net.c1");
    expect(isHeld(block, 0, "net.c1", NOW.ns)).toBe(true);
    expect(isHeld(block, 0, "net.c1", NOW.ns + 1n)).toBe(false);
    expect(isHeld(block, 0, "net.c2", NOW.ns)).toBe(false);
    expect(isHeld(block, 1, "net.c1", NOW.ns)).toBe(false);
    expect(isHeld({ ...block, sequenceNumberForAllocation: {} }, 0, "net.c1", 0n)).toBe(true);
  });
});

describe("isEmptyBlock()", () => {
  it("ignores what Windows reserves for itself, and counts a cooling address as held", () => {
    const block = newBlock(CIDR, "host:node-a", NOW);
    expect(isEmptyBlock(block)).toBe(true);
    expect(isEmptyBlock(take(block, "windows-reserved-ipam-handle", 4))).toBe(true);
    expect(isEmptyBlock(take(block, "a"))).toBe(false);
    const cooling = { ...take(block, "a"), attributes: [{ releasedAt: "2026-08-22T10:00:00Z" }] };
    expect(isEmptyBlock(cooling)).toBe(false);
  });
});

describe("checkBlock()", () => {
  it("finds what calicoctl ipam check finds", () => {
    const block = take(newBlock(CIDR, "host:node-a", NOW), "a", 2);
    const kinds = (spec: IPAMBlockSpec): string[] => checkBlock(spec, NOW.ms).map((finding) => finding.kind);
    expect(kinds(block)).toEqual([]);
    expect(kinds({ ...block, attributes: [] })).toEqual(["attributeOutOfRange", "attributeOutOfRange"]);
    expect(kinds({ ...block, attributes: [...block.attributes, {}] })).toEqual(["unreferencedAttribute"]);
    const future = new Date(NOW.ms + 1).toISOString();
    expect(kinds({ ...block, attributes: [{ releasedAt: future }] })).toEqual(["releasedInFuture"]);
    expect(kinds({ ...block, unallocated: [2, 2, 4, 5, 6, 7] })).toEqual(["duplicateFree"]);
    expect(kinds({ ...block, unallocated: [2, 3, 4, 5, 6, 8] })).toEqual(["freeOutOfRange"]);
    expect(kinds({ ...block, unallocated: [0, 3, 4, 5, 6, 7] })).toEqual(["freeButAllocated"]);
    expect(kinds({ ...block, unallocated: [3, 4, 5, 6, 7] })).toEqual(["sizeMismatch"]);
  });
});
