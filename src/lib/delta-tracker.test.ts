// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { DeltaTracker } from "./delta-tracker.ts";

describe("DeltaTracker", () => {
  test("setDesired() makes a missing key pending, and nothing else", () => {
    const tracker = new DeltaTracker<string, number>();
    tracker.setDesired("a", 1);
    expect([...tracker.pendingUpdates]).toEqual([["a", 1]]);
    expect([...tracker.pendingDeletions]).toEqual([]);
    expect([...tracker.dataplane]).toEqual([]);
  });

  test("settleUpdates() keeps pending what the callback refuses", () => {
    const tracker = new DeltaTracker<string, number>();
    tracker.setDesired("good", 1);
    tracker.setDesired("bad", 2);
    tracker.settleUpdates((key) => key === "good");
    expect([...tracker.pendingUpdates]).toEqual([["bad", 2]]);
    expect([...tracker.dataplane]).toEqual([["good", 1]]);
  });

  test("replaceDataplane() finds what others deleted and what is left over", () => {
    const tracker = new DeltaTracker<string, number>();
    tracker.setDesired("kept", 1);
    tracker.setDesired("lost", 2);
    tracker.settleUpdates(() => true);
    tracker.replaceDataplane([
      ["kept", 1],
      ["stale", 3],
    ]);
    expect([...tracker.pendingUpdates]).toEqual([["lost", 2]]);
    expect([...tracker.pendingDeletions]).toEqual([["stale", 3]]);
  });

  test("a value undefined is still a value", () => {
    const tracker = new DeltaTracker<string, undefined>();
    tracker.setDesired("a", undefined);
    expect(tracker.pendingUpdates.has("a")).toBe(true);
    tracker.setDataplane("a", undefined);
    expect(tracker.inSync).toBe(true);
  });
});
