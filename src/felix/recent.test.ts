// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { mergeEvents, RecentEvents } from "./recent.ts";

test("RecentEvents keeps the last ones, counts all, and tells a repeated one once", () => {
  const events = new RecentEvents(2);
  expect(events.report()).toEqual({ total: 0, recent: [] });
  events.add(1, "a");
  events.add(2, "b");
  events.add(3, "b");
  expect(events.report()).toEqual({
    total: 3,
    recent: [
      { atMs: 1, what: "a" },
      { atMs: 3, what: "b", times: 2 },
    ],
  });
  events.add(4, "c");
  expect(events.report()).toEqual({
    total: 4,
    recent: [
      { atMs: 3, what: "b", times: 2 },
      { atMs: 4, what: "c" },
    ],
  });
});

test("mergeEvents() puts two histories in the order of time", () => {
  const [a, b] = [new RecentEvents(), new RecentEvents()];
  a.add(1, "a");
  a.add(3, "a again");
  b.add(2, "b");
  expect(mergeEvents(a.report(), b.report())).toEqual({
    total: 3,
    recent: [
      { atMs: 1, what: "a" },
      { atMs: 2, what: "b" },
      { atMs: 3, what: "a again" },
    ],
  });
});
