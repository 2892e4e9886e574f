// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { compilePattern } from "./pattern.ts";

describe("compilePattern", () => {
  it.each<[string, readonly string[], readonly string[]]>([
    ["^a+$", ["a"], ["A"]],
    ["^(?i)(Drop|Accept)?$", ["drop", "ACCEPT", ""], ["dropp"]],
    ["^a(?i)b|c$", ["ab", "aB", "C"], ["Ab", "b"]],
    ["^(a(?i)b|c)d$", ["aBd", "Cd"], ["aBD", "cD"]],
    ["^(?i)a(?s)b.c$", ["AB\nC"], ["AB"]],
    ["^[(?i)]+$", ["(?i)"], ["a"]],
    ["^\\(?i$", ["(i", "i"], ["I"]],
    ["^(?:a|b)$", ["a"], ["A"]],
  ])("reads %s as Go does", (pattern, matches, others) => {
    const regexp = compilePattern(pattern);
    for (const text of matches) expect(regexp.test(text), text).toBe(true);
    for (const text of others) expect(regexp.test(text), text).toBe(false);
  });

  it("refuses what is no pattern", () => {
    expect(() => compilePattern("(")).toThrow(SyntaxError);
    expect(() => compilePattern("(?i)(")).toThrow(SyntaxError);
  });
});
