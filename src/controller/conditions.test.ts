// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { IPPoolCondition } from "../crds/ip-pool.ts";
import { mergeConditions } from "./conditions.ts";

const NOW_MS = Date.parse("2026-08-22T10:40:00Z");
const EARLIER = "2026-01-01T00:00:00Z";
const healthy = (status: string, message: string): IPPoolCondition => ({
  type: "gingham.dev/Healthy",
  status,
  reason: status === "True" ? "OK" : "TooFewBlocks",
  message,
});
const allocatable = (status: string, reason: string, message: string): IPPoolCondition => ({
  type: "Allocatable",
  status,
  reason,
  message,
});
const since = (condition: IPPoolCondition): IPPoolCondition => ({ ...condition, lastTransitionTime: EARLIER });

describe("mergeConditions()", () => {
  it("adds what is missing, and leaves the conditions of others as they are, where they are", () => {
    const foreign = since({ type: "example.org/Seen", status: "True" });
    expect(mergeConditions([foreign], [healthy("True", "")], NOW_MS)).toEqual([
      foreign,
      { ...healthy("True", ""), lastTransitionTime: "2026-08-22T10:40:00Z" },
    ]);
  });

  it("keeps the time of transition while the status stays, and renews it when the status changes", () => {
    const before = [since(healthy("False", "1 node"))];
    expect(mergeConditions(before, [healthy("False", "2 nodes")], NOW_MS)).toEqual([
      since(healthy("False", "2 nodes")),
    ]);
    const [changed] = mergeConditions(before, [healthy("True", "")], NOW_MS) ?? [];
    expect(changed?.lastTransitionTime).toBe("2026-08-22T10:40:00Z");
  });

  it("is undefined when nothing is new", () => {
    const before = [since(healthy("False", "1 node")), since(allocatable("True", "OK", ""))];
    expect(
      mergeConditions(before, [healthy("False", "1 node"), allocatable("True", "OK", "")], NOW_MS),
    ).toBeUndefined();
  });

  it("does not fight with Calico over words", () => {
    const theirs = [
      [since(allocatable("True", "", "")), allocatable("True", "OK", "")],
      [
        since(allocatable("False", "PoolDisabled", "IPPool.Spec.Disabled is true")),
        allocatable("False", "PoolDisabled", ""),
      ],
    ] as const;
    for (const [old, wanted] of theirs) expect(mergeConditions([old], [wanted], NOW_MS)).toBeUndefined();
    const [overlap] = mergeConditions([theirs[1][0]], [allocatable("False", "CIDROverlap", "x")], NOW_MS) ?? [];
    expect(overlap).toEqual(since(allocatable("False", "CIDROverlap", "x")));
  });
});
