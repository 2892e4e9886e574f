// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { SelectorError } from "./errors.ts";
import { formatSelector, type Labels, matches, parseSelector } from "./selector.ts";

const LABELS: Labels = { zone: "west-1", "example.com/rack": "r_7", empty: "", all: "1", contains: "x" };

function selects(text: string, labels: Labels = LABELS): boolean {
  return matches(parseSelector(text), labels);
}

function refusal(text: string): SelectorError {
  try {
    parseSelector(text);
  } catch (error) {
    if (error instanceof SelectorError) return error;
    throw error;
  }
  throw new Error(`${text} was not refused`);
}

describe("parseSelector() and matches()", () => {
  it.each([
    ["", true],
    [" \t", true],
    ["all()", true],
    ["all( \t)", true],
    ["global()", true],
    ["!all()", false],
    ["has(zone)", true],
    ["has( example.com/rack )", true],
    ["has(toString)", false],
    ["!has(zone)", false],
    ['zone == "west-1"', true],
    ["zone=='west-1'", true],
    ['zone == "west"', false],
    ['empty == ""', true],
    ['none == ""', false],
    ['zone != "east"', true],
    ['zone != "west-1"', false],
    ['none != "east"', true],
    ["zone in {\"east\", 'west-1'}", true],
    ["zone in{'west-1',}", true],
    ["zone in {}", false],
    ["zone not in {}", true],
    ['zone not in {"west-1"}', false],
    ['zone notin {"west-1"}', false],
    ['none in {"a"}', false],
    ['none not in {"a"}', true],
    ['zone contains "st-"', true],
    ['none contains ""', false],
    ['zone starts with "west"', true],
    ['zone startswith "east"', false],
    ['zone ends  with "-1"', true],
    ['none ends with ""', false],
    ['all == "1" && contains contains "x"', true],
    ['!zone == "west-1"', false],
    ["!!has(zone)", true],
    ["!(!has(zone))", true],
    ["has(none) || has(zone) && has(none)", false],
    ["has(zone) || has(none) && has(none)", true],
    ["(has(none) || has(zone)) && !has(none)", true],
  ])("%s is %s", (text, expected) => {
    expect(selects(text)).toBe(expected);
    expect(selects(formatSelector(parseSelector(text)))).toBe(expected);
  });

  it.each([
    ["zone", 4, "an operator"],
    ['zone = "a"', 5, "an operator"],
    ["zone == west", 8, "a string"],
    ['zone == "west', 13, "ends the string"],
    ["zone in west", 8, "{"],
    ['zone in {"a" "b"}', 13, "}"],
    ['zone is "a"', 5, "an operator"],
    ["has(zone", 3, "an operator"],
    ["has()", 3, "an operator"],
    ["(has(a)", 7, ")"],
    ["has(a))", 6, "the end"],
    ["has(a) has(b)", 7, "the end"],
    ["has(a) & has(b)", 7, "a label name"],
    ["&& has(a)", 0, "a label name"],
    ["has(a) &&", 9, "a label name"],
    ["!", 1, "a label name"],
    ["all()\n", 5, "a label name"],
    ["ä == 'a'", 0, "a label name"],
  ])("refuses %j at position %i and says that it expected %s", (text, position, expected) => {
    const error = refusal(text);
    expect(error).toMatchObject({ code: "InvalidSelector", position });
    expect(error.expected).toContain(expected);
    expect(error.message).toContain(`at position ${position}`);
  });

  it("refuses parentheses that would use up the stack", () => {
    expect(refusal(`${"(".repeat(100_000)}all()`).expected).toContain("parentheses");
  });
});
