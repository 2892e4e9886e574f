// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { addToBlocks, settleBlocks } from "./handle.ts";
import { checkHandleID } from "./handle-id.ts";

describe("addToBlocks()", () => {
  it("removes a key at zero and never goes below", () => {
    expect(addToBlocks({ a: 1 }, ["a", "b"], 1)).toEqual({ a: 2, b: 1 });
    expect(addToBlocks({ a: 1, b: 2 }, ["a", "b", "c"], -1)).toEqual({ b: 1 });
  });
});

describe("settleBlocks()", () => {
  it("makes counts what the blocks say", () => {
    expect(
      settleBlocks(
        { a: 3, b: 1 },
        new Map([
          ["a", 0],
          ["b", 2],
        ]),
      ),
    ).toEqual({ b: 2 });
  });
});

describe("checkHandleID()", () => {
  it("refuses what cannot name an object, and says what is wrong", () => {
    expect(() => checkHandleID("k8s-Pod-network.3f2a")).not.toThrow();
    expect(() => checkHandleID(`net.${"c".repeat(250)}`)).toThrow(/254 characters, an object name has at most 253/);
    for (const id of ["my_net.c1", "net.", "-net.c1", "net..c1", "net.c1\r", ""])
      expect(() => checkHandleID(id), id).toThrow(expect.objectContaining({ code: "InvalidHandle" }));
  });
});
