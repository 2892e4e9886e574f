// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseAcceptance, parseChains, parseJumps, parseLegacyForward } from "./nft-json.ts";

const json = (...objects: readonly object[]): string => JSON.stringify({ nftables: [{ metainfo: {} }, ...objects] });

describe("parseChains()", () => {
  test("tells chains at the forward hook apart, with their policy", () => {
    const base = { family: "ip", table: "filter", handle: 1 };
    const listed = json(
      { chain: { ...base, name: "FORWARD", type: "filter", hook: "forward", prio: 0, policy: "drop" } },
      { chain: { ...base, name: "INPUT", type: "filter", hook: "input", prio: 0, policy: "drop" } },
      { chain: { ...base, name: "cali-FORWARD" } },
      { chain: { ...base, family: "inet", table: "t", name: "f", hook: "forward", policy: "accept" } },
    );
    const { chains, forward } = parseChains(listed);
    expect(chains.map(({ chain }) => chain)).toEqual(["FORWARD", "INPUT", "cali-FORWARD", "f"]);
    expect(forward).toEqual([
      { family: "ip", table: "filter", chain: "FORWARD", policy: "drop" },
      { family: "inet", table: "t", chain: "f", policy: "accept" },
    ]);
  });

  test.each(["", "{", "{}", "[]"])("finds nothing in %j", (text) => {
    expect(parseChains(text)).toEqual({ chains: [], forward: [] });
  });
});

describe("parseAcceptance()", () => {
  const match = (key: string, right: string, op = "==") => ({ match: { op, left: { meta: { key } }, right } });
  const accept = { accept: null };
  const rule = (...expr: readonly object[]) => ({ rule: { chain: "FORWARD", handle: 1, expr } });
  const say = (...rules: readonly object[]): string => {
    const { acceptsFrom, acceptsTo } = parseAcceptance(json(...rules));
    return `${acceptsFrom.join(",") || "-"} ${acceptsTo.join(",") || "-"}`;
  };
  const address = (field: string, right: unknown) => ({
    match: { op: "==", left: { payload: { protocol: "ip", field } }, right },
  });
  const prefix = { prefix: { addr: "10.0.0.0", len: 16 } };
  const comment = { xt: { type: "match", name: "comment" } };

  test.each<[string, object[], string]>([
    ["nothing", [], "- -"],
    ["what comes from pods", [rule(match("iifname", "cali*"), { counter: {} }, accept)], "cali* -"],
    ["what goes to pods", [rule(match("oifname", "cali*"), accept)], "- cali*"],
    ["with a comment of iptables", [rule(match("iifname", "cali*"), comment, { counter: {} }, accept)], "cali* -"],
    ["everything", [rule({ counter: {} }, accept)], "* *"],
    ["everything, with a comment", [rule(comment, accept)], "* *"],
    [
      "a network",
      [rule(address("saddr", prefix), accept), rule(address("daddr", "10.9.0.1"), accept)],
      "10.0.0.0/16 10.9.0.1",
    ],
    ["several networks", [rule(address("saddr", { set: [prefix, "10.9.0.1"] }), accept)], "10.0.0.0/16,10.9.0.1 -"],
    ["a range", [rule(address("saddr", { range: ["10.0.0.1", "10.0.0.9"] }), accept)], "- -"],
    ["one pod", [rule(match("iifname", "cali123"), accept)], "cali123 -"],
    ["all but pods", [rule(match("iifname", "cali*", "!="), accept)], "- -"],
    ["a port", [rule(address("dport", "80"), accept)], "- -"],
    ["with a further condition", [rule(match("iifname", "cali*"), match("oifname", "eth0"), accept)], "- -"],
    ["with one that nft cannot read", [rule({ xt: { type: "match", name: "set" } }, accept)], "- -"],
    ["and drops", [rule(match("iifname", "cali*"), { drop: null })], "- -"],
  ])("%s", (_, rules, expected) => {
    expect(say(...rules)).toBe(expected);
  });
});

test("parseJumps() finds rules that lead to a chain", () => {
  const rules = [{ jump: { target: "cali-FORWARD" } }, { goto: { target: "cali-x" } }, { jump: { target: "DOCKER" } }];
  const listed = json(
    ...rules.map((expr, i) => ({ rule: { chain: "FORWARD", handle: i, expr: [{ counter: {} }, expr] } })),
  );
  expect(parseJumps(listed, (chain) => chain.startsWith("cali-"))).toEqual([
    { chain: "FORWARD", handle: 0 },
    { chain: "FORWARD", handle: 1 },
  ]);
});

test("parseLegacyForward() reads iptables' own words", () => {
  expect(parseLegacyForward("ip", "")).toBeUndefined();
  expect(parseLegacyForward("ip", "-P FORWARD ACCEPT\n")).toMatchObject({ policy: "accept" });
  const text = [
    "-P FORWARD DROP",
    "-A FORWARD -i cali+ -j ACCEPT",
    '-A FORWARD -d 10.0.0.0/16 -m comment --comment "to pods" -j ACCEPT',
    "-A FORWARD -i eth0 -o cali+ -j ACCEPT",
    "-A FORWARD -o eth0 -j ACCEPT",
  ].join("\n");
  expect(parseLegacyForward("ip", "-P FORWARD DROP\n-A FORWARD -j ACCEPT\n")?.acceptsTo).toEqual(["*"]);
  expect(parseLegacyForward("ip6", text)).toMatchObject({
    family: "ip6",
    policy: "drop",
    acceptsFrom: ["cali*"],
    acceptsTo: ["10.0.0.0/16", "eth0"],
  });
});
