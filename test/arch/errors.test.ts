// SPDX-License-Identifier: Apache-2.0
import { globSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { CNI_CODE } from "../../src/cni/errors.ts";

const catalogue = readFileSync("docs/errors.md", "utf8");

/** Codes as the error classes write them: `super("Code", …` and unions of literals named …ErrorCode. */
function codesInSource(): Set<string> {
  const codes = new Set<string>();
  for (const file of globSync("src/**/errors.ts").filter((path) => !path.startsWith("src/lab/"))) {
    const text = readFileSync(file, "utf8");
    for (const match of text.matchAll(/super\(\s*"(\w+)"/g)) codes.add(match[1] ?? "");
    for (const union of text.matchAll(/type \w*Code\b[^=]*=([^;]+);/g)) {
      for (const literal of (union[1] ?? "").matchAll(/"(\w+)"/g)) codes.add(literal[1] ?? "");
    }
  }
  return codes;
}

describe("docs/errors.md", () => {
  test.each(Object.entries(CNI_CODE))("has CNI code %s with its number", (name, code) => {
    expect(catalogue).toMatch(new RegExp(`^\\| ${code} \\| ${name} \\|`, "m"));
  });

  test("names every reason of the operator's condition Degraded", () => {
    const union = /type ProblemReason =([^;]+);/.exec(readFileSync("src/operator/problem.ts", "utf8"))?.[1] ?? "";
    const reasons = [...union.matchAll(/"(\w+)"/g)].map((match) => match[1] ?? "");
    expect(reasons.length).toBeGreaterThan(10);
    expect(reasons.filter((reason) => !catalogue.includes(`\n| ${reason} |`))).toEqual([]);
  });

  test("names every code that an error class has", () => {
    const codes = codesInSource();
    expect(codes.size).toBeGreaterThan(20);
    const missing = [...codes].filter((code) => !new RegExp(`\\b${code}\\b`).test(catalogue));
    expect(missing).toEqual([]);
  });
});
