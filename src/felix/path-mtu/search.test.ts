// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { measurePath } from "./search.ts";

test("measurePath() finds what a path carries, of either family, in few packets", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(4 as const, 6 as const),
      fc.integer({ min: 1280, max: 9000 }),
      fc.integer({ min: 1280, max: 9000 }),
      async (family, carries, needed) => {
        let packets = 0;
        const measured = await measurePath(
          async (bytes) => {
            packets++;
            return bytes <= carries;
          },
          family,
          needed,
        );
        expect(measured).toEqual(carries >= needed ? { kind: "wide" } : { kind: "narrow", bytes: carries });
        expect(packets).toBeLessThan(60);
      },
    ),
  );
});

test("measurePath() says nothing of a path that nobody answers on, and forgives a lost packet", async () => {
  expect(await measurePath(async () => false, 4, 1500)).toEqual({ kind: "silent" });
  let sent = 0;
  expect(await measurePath(async () => ++sent % 3 === 0, 4, 1500)).toEqual({ kind: "wide" });
});
