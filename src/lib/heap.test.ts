// SPDX-License-Identifier: Apache-2.0
import { getHeapStatistics } from "node:v8";
import { expect, test } from "vitest";
import { shrinkHeap } from "./heap.ts";

test("shrinkHeap() gives back pages with little in them", () => {
  const megabytes = (): number => getHeapStatistics().total_physical_size / 1e6;
  const objects = Array.from({ length: 400_000 }, (_, i) => ({ i, text: `object ${i}` }));
  const kept = objects.filter(({ i }) => i % 1000 === 0);
  const before = megabytes();
  objects.length = 0;
  shrinkHeap();
  expect(megabytes()).toBeLessThan(before - 15);
  expect(kept).toHaveLength(400);
});
