// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseTable } from "./parse.ts";
import { compareOutlines, compareTables, outlineOf, renderDifference, renderTable } from "./render.ts";
import type { Elements, Layout } from "./table.ts";

const LAYOUT: Layout = {
  counters: ["dropped"],
  sets: { pools: "ipv4_addr", sources: "ifname . ipv6_addr" },
  chains: [
    {
      name: "prerouting",
      hook: { type: "filter", hook: "prerouting", priority: -300 },
      rules: [{ text: 'iifname "cali*" goto pods', why: "pods" }],
    },
    { name: "pods", rules: [{ text: "counter name dropped drop", why: "all" }] },
  ],
};

const CONTENT = elements({ pools: ["10.0.0.0/8", "192.0.2.1/32"], sources: ['"cali1" . fd00::/64'] });

/** As nft 1.0.6 prints LAYOUT with CONTENT. */
const LISTED = {
  nftables: [
    { metainfo: { version: "1.0.6", release_name: "Lester Gooch #5", json_schema_version: 1 } },
    { table: { family: "inet", name: "gingham", handle: 2 } },
    { counter: { family: "inet", name: "dropped", table: "gingham", handle: 4, packets: 7, bytes: 588 } },
    {
      set: {
        family: "inet",
        name: "pools",
        table: "gingham",
        type: "ipv4_addr",
        handle: 5,
        flags: ["interval"],
        elem: [{ prefix: { addr: "10.0.0.0", len: 8 } }, "192.0.2.1"],
      },
    },
    {
      set: {
        family: "inet",
        name: "sources",
        table: "gingham",
        type: ["ifname", "ipv6_addr"],
        handle: 7,
        flags: ["interval"],
        elem: [{ concat: ["cali1", { prefix: { addr: "fd00::", len: 64 } }] }],
      },
    },
    {
      chain: {
        family: "inet",
        table: "gingham",
        name: "prerouting",
        handle: 1,
        type: "filter",
        hook: "prerouting",
        prio: -300,
        policy: "accept",
      },
    },
    { chain: { family: "inet", table: "gingham", name: "pods", handle: 2 } },
    {
      rule: { family: "inet", table: "gingham", chain: "prerouting", handle: 9, comment: "pods [9f2c3a3f]", expr: [] },
    },
    { rule: { family: "inet", table: "gingham", chain: "pods", handle: 10, comment: "all [5d54d3b3]", expr: [] } },
  ],
};

function elements(content: Readonly<Record<string, readonly string[]>>): Elements {
  return new Map(Object.entries(content).map(([name, members]) => [name, new Set(members)]));
}

/** LISTED with the comments that LAYOUT's rules really have. */
function listed(): { nftables: Record<string, Record<string, unknown>>[] } {
  const outline = outlineOf(LAYOUT);
  const copy = structuredClone(LISTED) as { nftables: Record<string, Record<string, unknown>>[] };
  for (const { rule } of copy.nftables) {
    if (rule !== undefined) rule["comment"] = outline.get(`rule 1 of chain ${String(rule["chain"])}`);
  }
  return copy;
}

describe("renderTable()", () => {
  test("replaces the table in one transaction, whether there is one or not", () => {
    expect(renderTable(LAYOUT, CONTENT)).toMatchInlineSnapshot(`
      "add table inet gingham
      delete table inet gingham
      table inet gingham {
      	counter dropped { }
      	set pools { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.1/32 } }
      	set sources { type ifname . ipv6_addr; flags interval; elements = { "cali1" . fd00::/64 } }
      	chain prerouting {
      		type filter hook prerouting priority -300; policy accept;
      		iifname "cali*" goto pods comment "pods [a737e727]"
      	}
      	chain pods {
      		counter name dropped drop comment "all [8514cf24]"
      	}
      }
      "
    `);
  });
});

describe("renderDifference()", () => {
  test("deletes before it adds, and names only what differs", () => {
    const desired = elements({ pools: ["10.0.0.0/8", "192.0.2.0/24"], sources: ['"cali1" . fd00::/64'] });
    expect(renderDifference(CONTENT, desired)).toBe(
      "delete element inet gingham pools { 192.0.2.1/32 }\nadd element inet gingham pools { 192.0.2.0/24 }\n",
    );
  });

  test("says nothing where nothing differs", () => {
    expect(
      renderDifference(CONTENT, elements({ sources: ['"cali1" . fd00::/64'], pools: ["192.0.2.1/32", "10.0.0.0/8"] })),
    ).toBeUndefined();
    expect(renderDifference(new Map(), elements({ pools: [] }))).toBeUndefined();
  });
});

describe("parseTable()", () => {
  test("sees in nft's own words what was rendered", () => {
    const actual = parseTable(JSON.stringify(listed()));
    expect(compareTables({ outline: outlineOf(LAYOUT), elements: CONTENT }, actual)).toEqual([]);
    expect(actual.counters).toEqual(new Map([["dropped", 7]]));
  });

  test("takes a set's flags as later versions of nft print them, too", () => {
    const newer = listed();
    for (const { set } of newer.nftables) if (set !== undefined) set["flags"] = "interval";
    expect(compareTables({ outline: outlineOf(LAYOUT), elements: CONTENT }, parseTable(JSON.stringify(newer)))).toEqual(
      [],
    );
  });

  test.each(["", "{", '{"nftables": 1}', '{"nftables": [{"set": {"name": "pools", "elem": ["@x"]}}]}'])(
    "calls unreadable what it cannot read: %s",
    (json) => {
      expect(compareOutlines(parseTable(json).outline, outlineOf(LAYOUT))).toContain("table changed");
    },
  );

  test.each<[string, (objects: Record<string, Record<string, unknown>>[]) => void, string]>([
    ["a rule gone", (objects) => objects.pop(), "rule 1 of chain pods missing"],
    ["a rule more", (objects) => objects.push({ rule: { chain: "pods" } }), "rule 2 of chain pods unknown"],
    [
      "another rule",
      (objects) => objects.splice(7, 1, { rule: { chain: "prerouting", comment: "x" } }),
      "rule 1 of chain prerouting changed",
    ],
    [
      "a chain's policy",
      (objects) => Object.assign(objects[5]?.["chain"] ?? {}, { policy: "drop" }),
      "chain prerouting changed",
    ],
    ["a chain more", (objects) => objects.push({ chain: { name: "x" } }), "chain x unknown"],
    ["a map", (objects) => objects.push({ map: { name: "x" } }), "map x unknown"],
    ["a set's flags", (objects) => Object.assign(objects[3]?.["set"] ?? {}, { flags: [] }), "set pools changed"],
    ["a set gone", (objects) => objects.splice(3, 1), "set pools missing"],
    ["a counter gone", (objects) => objects.splice(2, 1), "counter dropped missing"],
    ["a dormant table", (objects) => Object.assign(objects[1]?.["table"] ?? {}, { flags: "" }), "table changed"],
    [
      "an element gone",
      (objects) => Object.assign(objects[3]?.["set"] ?? {}, { elem: ["192.0.2.1"] }),
      "element 10.0.0.0/8 of set pools missing",
    ],
    [
      "a range",
      (objects) => {
        const set = objects[3]?.["set"] ?? {};
        set["elem"] = [...(set["elem"] as unknown[]), { range: ["10.0.0.1", "10.0.0.9"] }];
      },
      "element 10.0.0.1-10.0.0.9 of set pools unknown",
    ],
  ])("finds %s", (_, change, difference) => {
    const { nftables } = listed();
    change(nftables);
    const actual = parseTable(JSON.stringify({ nftables }));
    expect(compareTables({ outline: outlineOf(LAYOUT), elements: CONTENT }, actual)).toEqual([difference]);
  });
});
