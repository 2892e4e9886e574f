// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { macFromBytes, macToBytes, parseMAC } from "./mac.ts";

test("macFromBytes() undoes macToBytes()", () => {
  const mac = parseMAC("EE:ee:0a:00:1b:FF");
  expect(mac).toBe("ee:ee:0a:00:1b:ff");
  expect(macFromBytes(macToBytes(mac))).toBe(mac);
});

test.each(["", "ee:ee:ee:ee:ee", "ee-ee-ee-ee-ee-ee", "ee:ee:ee:ee:ee:eg", "ee:ee:ee:ee:ee:ee:ee"])(
  "parseMAC() refuses %j",
  (text) => {
    expect(() => parseMAC(text)).toThrow(SyntaxError);
  },
);

test("macFromBytes() refuses other lengths", () => {
  expect(() => macFromBytes(new Uint8Array(8))).toThrow(RangeError);
});
