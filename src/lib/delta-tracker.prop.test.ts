// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DeltaTracker } from "./delta-tracker.ts";

type Key = "a" | "b" | "c" | "d" | "e";
type Value = { readonly n: number };
const equal = (a: Value, b: Value): boolean => a.n === b.n;

/** The two Maps that the tracker must always agree with. */
interface Model {
  desired: Map<Key, Value>;
  dataplane: Map<Key, Value>;
}

const key = fc.constantFrom<Key[]>("a", "b", "c", "d", "e");
const value = fc.record({ n: fc.integer({ min: 0, max: 2 }) });
const step = fc.oneof(
  fc.record({ op: fc.constantFrom("setDesired" as const, "setDataplane" as const), key, value }),
  fc.record({ op: fc.constantFrom("deleteDesired" as const, "deleteDataplane" as const), key }),
  fc.record({ op: fc.constant("replaceDataplane" as const), entries: fc.array(fc.tuple(key, value)) }),
  fc.record({
    op: fc.constantFrom("settleUpdates" as const, "settleDeletions" as const),
    accepted: fc.uniqueArray(key),
  }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function pendingUpdatesOf({ desired, dataplane }: Model): Map<Key, Value> {
  return new Map(
    [...desired].filter(([k, v]) => {
      const actual = dataplane.get(k);
      return actual === undefined || !equal(v, actual);
    }),
  );
}

function pendingDeletionsOf({ desired, dataplane }: Model): Map<Key, Value> {
  return new Map([...dataplane].filter(([k]) => !desired.has(k)));
}

function run(tracker: DeltaTracker<Key, Value>, model: Model, s: Step): void {
  switch (s.op) {
    case "setDesired":
      tracker.setDesired(s.key, s.value);
      model.desired.set(s.key, s.value);
      return;
    case "setDataplane":
      tracker.setDataplane(s.key, s.value);
      model.dataplane.set(s.key, s.value);
      return;
    case "deleteDesired":
      tracker.deleteDesired(s.key);
      model.desired.delete(s.key);
      return;
    case "deleteDataplane":
      tracker.deleteDataplane(s.key);
      model.dataplane.delete(s.key);
      return;
    case "replaceDataplane":
      tracker.replaceDataplane(s.entries);
      model.dataplane = new Map(s.entries);
      return;
    case "settleUpdates":
      for (const [k, v] of pendingUpdatesOf(model)) if (s.accepted.includes(k)) model.dataplane.set(k, v);
      tracker.settleUpdates((k) => s.accepted.includes(k));
      return;
    case "settleDeletions":
      for (const k of pendingDeletionsOf(model).keys()) if (s.accepted.includes(k)) model.dataplane.delete(k);
      tracker.settleDeletions((k) => s.accepted.includes(k));
      return;
    default:
      s satisfies never;
  }
}

const byKey = (map: ReadonlyMap<Key, Value>): [string, Value][] => [...map].toSorted(([a], [b]) => a.localeCompare(b));

describe("DeltaTracker", () => {
  test("agrees with two Maps after any sequence of operations", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const tracker = new DeltaTracker<Key, Value>(equal);
        const model: Model = { desired: new Map(), dataplane: new Map() };
        for (const s of steps) {
          run(tracker, model, s);
          expect(byKey(tracker.desired)).toEqual(byKey(model.desired));
          expect(byKey(tracker.dataplane)).toEqual(byKey(model.dataplane));
          expect(byKey(tracker.pendingUpdates)).toEqual(byKey(pendingUpdatesOf(model)));
          expect(byKey(tracker.pendingDeletions)).toEqual(byKey(pendingDeletionsOf(model)));
          expect(tracker.inSync).toBe(tracker.pendingUpdates.size + tracker.pendingDeletions.size === 0);
        }
      }),
    );
  });

  test("is in sync after everything pending was accepted", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const tracker = new DeltaTracker<Key, Value>(equal);
        const model: Model = { desired: new Map(), dataplane: new Map() };
        for (const s of steps) run(tracker, model, s);
        tracker.settleUpdates(() => true);
        tracker.settleDeletions(() => true);
        expect(tracker.inSync).toBe(true);
        expect(byKey(tracker.dataplane)).toEqual(byKey(model.desired));
      }),
    );
  });
});
