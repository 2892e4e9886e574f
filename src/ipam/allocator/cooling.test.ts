// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { IPAMBlockSpec } from "../../crds/ipam-block.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { assign, newBlock, release } from "../block.ts";
import { cool, thaw } from "../cooldown.ts";
import { CoolingAddresses } from "./cooling.ts";

const EMPTY = newBlock(parseCIDR("10.0.0.0/29"), "host:node-a", { ms: 0, ns: 1n });
const FULL = assign(EMPTY, { handleID: "a", attributes: {}, count: 8 }).block;

function shown(...blocks: readonly (readonly [IPAMBlockSpec, number])[]): CoolingAddresses {
  const cooling = new CoolingAddresses(30_000);
  for (const [block, nowMs] of blocks) cooling.show(block, nowMs);
  return cooling;
}

describe("CoolingAddresses", () => {
  it("knows what went from used to free between two looks, for as long as the cooldown", () => {
    const cooling = shown([FULL, 0], [release(FULL, [1]), 1_000], [release(FULL, [1, 2]), 2_000]);
    expect([cooling.has(0, 2_000), cooling.has(1, 30_999), cooling.has(1, 31_000)]).toEqual([false, true, false]);
    expect([cooling.count(2_000, undefined), cooling.oldestMs]).toEqual([2, 1_000]);
    expect(cooling.count(2_000, (ordinal) => ordinal === 2)).toBe(1);
    expect([cooling.count(31_000, undefined), cooling.oldestMs]).toEqual([1, 2_000]);
    expect([cooling.count(32_000, undefined), cooling.oldestMs]).toEqual([0, Number.POSITIVE_INFINITY]);
    expect(cooling.isEmpty).toBe(true);
  });

  it("says nothing of what was free when it first looked, and forgets what is in use again", () => {
    expect(shown([EMPTY, 0]).isEmpty).toBe(true);
    expect(shown([FULL, 0], [EMPTY, 1], [FULL, 2]).isEmpty).toBe(true);
    // Also when the block was deleted and made anew in between: the address is the same.
    expect(shown([FULL, 0], [{ ...EMPTY, sequenceNumber: 9n }, 1]).count(1, undefined)).toBe(8);
  });

  it("counts a cooldown in the block, which is recorded from its beginning", () => {
    const recorded = cool(FULL, [0], { nowMs: 10_000, byAddress: new Set() });
    const thawed = thaw(recorded, 25_000, 5_000);
    expect(shown([FULL, 0], [recorded, 10_000], [thawed, 25_000]).oldestMs).toBe(10_000);
    expect(shown([FULL, 0], [recorded, 10_000], [thawed, 45_000]).isEmpty).toBe(true);
  });

  it("remembers nothing without a cooldown, and nothing of the future when the clock is set back", () => {
    const off = new CoolingAddresses(0);
    off.show(FULL, 0);
    off.show(EMPTY, 0);
    expect(off.isEmpty).toBe(true);
    const cooling = shown([FULL, 5_000], [EMPTY, 5_000]);
    expect([cooling.has(0, 4_999), cooling.count(4_999, undefined)]).toEqual([false, 0]);
  });
});
