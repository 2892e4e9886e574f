// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { formatRate, measureRate } from "./rate.ts";

test("measureRate() leaves the burst at the start out", () => {
  const burst = { atMs: 1000, bytes: 1_000_000 };
  const steady = Array.from({ length: 10 }, (_, i) => ({ atMs: 1400 + i * 100, bytes: 1250 }));
  expect(measureRate([burst, ...steady], 300)).toEqual({ bytes: 12_500, seconds: 1, bitsPerSecond: 100_000 });
});

test("measureRate() of nothing is 0", () => {
  expect(measureRate([], 300)).toEqual({ bytes: 0, seconds: 0, bitsPerSecond: 0 });
  expect(measureRate([{ atMs: 5, bytes: 9 }], 300).bitsPerSecond).toBe(0);
});

test("formatRate() picks the unit", () => {
  expect([19_123_000, 2_500_000_000, 900].map(formatRate)).toEqual(["19.1 Mbit/s", "2.5 Gbit/s", "0.9 kbit/s"]);
});
