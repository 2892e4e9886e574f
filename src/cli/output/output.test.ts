// SPDX-License-Identifier: Apache-2.0
import { load } from "js-yaml";
import { describe, expect, it } from "vitest";
import { parseJSON } from "../../lib/json.ts";
import { serialize } from "./format.ts";
import { formatBar, formatCount, formatPercent } from "./numbers.ts";
import { styleOf } from "./style.ts";
import { renderFacts, renderTable } from "./table.ts";

describe("renderTable()", () => {
  const columns = [
    { title: "NAME", text: ([name]: readonly [string, number]) => name },
    { title: "N", text: ([, n]: readonly [string, number]) => String(n), align: "right" as const },
  ];

  it("makes columns as wide as their widest cell, without blanks at the end of a line", () => {
    expect(
      renderTable(columns, [
        ["a", 1],
        ["longer", 100],
      ]),
    ).toBe("NAME       N\na          1\nlonger   100\n");
    expect(renderTable([columns[0] as (typeof columns)[0]], [["a", 1]])).toBe("NAME\na\n");
    expect(renderTable(columns, [])).toBe("NAME   N\n");
  });

  it("does not count colours", () => {
    const red = styleOf(true).bad("a");
    expect(red).not.toBe("a");
    expect(renderTable(columns, [[red, 1]])).toBe(`NAME   N\n${red}      1\n`);
    expect(styleOf(false).bad("a")).toBe("a");
  });
});

describe("renderFacts()", () => {
  it("puts the values under each other", () => {
    expect(
      renderFacts([
        ["Pool", "p"],
        ["Sequence", ""],
      ]),
    ).toBe("Pool       p\nSequence\n");
  });
});

describe("serialize()", () => {
  const data = { sequenceNumber: 1_787_395_200_123_456_789n, small: 7, text: "1787395200123456789", none: [] };

  it("keeps 64-bit integers exact in JSON", async () => {
    const text = await serialize(data, "json");
    expect(text).toContain('"sequenceNumber": 1787395200123456789,');
    expect(parseJSON(text)).toEqual(data);
  });

  it("keeps them exact in YAML, and texts that look like numbers texts", async () => {
    const text = await serialize(data, "yaml");
    expect(text).toContain("sequenceNumber: 1787395200123456789\n");
    expect(load(text)).toMatchObject({ small: 7, text: "1787395200123456789", none: [] });
  });
});

describe("numbers for people", () => {
  it.each([
    [0n, "0"],
    [999_999_999n, "999999999"],
    [2n ** 64n, "1.8447e+19"],
  ])("formatCount(%s)", (count, text) => expect(formatCount(count)).toBe(text));

  it.each([
    [0n, 10n, "0%", "░░░░░░░░░░"],
    [1n, 65_536n, "<1%", "█░░░░░░░░░"],
    [5n, 10n, "50%", "█████░░░░░"],
    [999n, 1000n, ">99%", "██████████"],
    [10n, 10n, "100%", "██████████"],
    [0n, 0n, "0%", "░░░░░░░░░░"],
  ])("%s of %s", (part, whole, percent, bar) => {
    expect([formatPercent(part, whole), formatBar(part, whole)]).toEqual([percent, bar]);
  });
});
