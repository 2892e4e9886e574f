// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseYAML } from "./yaml.ts";

describe("parseYAML", () => {
  it("keeps integers beyond 2^53 exact, and the others numbers", async () => {
    const text = "a: 1763734567890123457\nb: -9007199254740993\nc: 5\nd: 1e3\ne: '1763734567890123457'\nf: [null, ~]\n";
    expect(await parseYAML(text)).toEqual([
      { a: 1763734567890123457n, b: -9007199254740993n, c: 5, d: 1000, e: "1763734567890123457", f: [null, null] },
    ]);
  });

  it("leaves out empty documents and throws for what is not YAML", async () => {
    expect(await parseYAML("---\na: 1\n---\n---\nb: 2\n")).toEqual([{ a: 1 }, { b: 2 }]);
    await expect(parseYAML("a: [")).rejects.toThrow();
  });
});
