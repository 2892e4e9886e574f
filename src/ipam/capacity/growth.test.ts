// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { newBlock } from "../block.ts";
import { growthOf } from "./growth.ts";

const NOW = Date.parse("2026-08-22T12:00:00Z");
const DAY = 86_400_000;

function claimed(...daysAgo: readonly number[]): readonly IPAMBlock[] {
  return daysAgo.map((days, i) => ({
    apiVersion: "crd.projectcalico.org/v1",
    kind: "IPAMBlock",
    metadata: { name: `b${i}` },
    spec: newBlock(parseCIDR(`10.0.${i}.0/26`), "host:a", { ms: NOW - days * DAY, ns: 1n }),
  }));
}

describe("growthOf()", () => {
  it("counts the claims of the last week", () => {
    const blocks = claimed(100, 99, 60, 7.5, 6.5, 5, 3, 2, 1, 0.5, 0);
    expect(growthOf(blocks, 70, NOW)).toEqual({ kind: "growing", windowDays: 7, blocksPerDay: 1, daysToFull: 70 });
  });

  it("leaves out a young pool's first day, in which each node claims a block", () => {
    const blocks = claimed(4, 4, 4, 3.9, 3.5, 2, 1, 0.1);
    expect(growthOf(blocks, 10, NOW)).toEqual({ kind: "growing", windowDays: 3, blocksPerDay: 1, daysToFull: 10 });
  });

  it("knows when nothing grows, and when the pool is full", () => {
    expect(growthOf(claimed(30, 20), 70, NOW)).toEqual({ kind: "still", windowDays: 7 });
    expect(growthOf(claimed(30, 1), 0, NOW)).toMatchObject({ daysToFull: 0 });
  });

  it("does not guess from less than two days", () => {
    expect(growthOf(claimed(1.9, 1, 0), 70, NOW)).toEqual({
      kind: "unknown",
      why: "not enough history: the oldest block is 45 h old, and it takes 48 h",
    });
    expect(growthOf([], 70, NOW)).toMatchObject({ kind: "unknown" });
    expect(growthOf(claimed(-1), 70, NOW)).toMatchObject({ kind: "unknown" });
  });

  it("passes over blocks of old releases, which do not say when they were claimed", () => {
    const [old, ...rest] = claimed(5, 4, 3.5, 0.5);
    if (old === undefined) throw new Error("no block");
    const { affinityClaimTime: _, ...spec } = old.spec;
    expect(growthOf([{ ...old, spec }, ...rest], 3, NOW)).toMatchObject({ windowDays: 3, blocksPerDay: 1 / 3 });
    expect(growthOf([{ ...old, spec }], 3, NOW)).toMatchObject({ kind: "unknown" });
  });
});
