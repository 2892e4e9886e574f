// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { acceptedUDP, dropsTheRest, parseAcceptance } from "./chain-way.ts";

const json = (...objects: readonly object[]): string => JSON.stringify({ nftables: [{ metainfo: {} }, ...objects] });
const ruleOf = (chain: string, ...expr: readonly object[]) => ({ rule: { chain, handle: 1, expr } });

describe("parseAcceptance()", () => {
  const match = (key: string, right: string, op = "==") => ({ match: { op, left: { meta: { key } }, right } });
  const accept = { accept: null };
  const rule = (...expr: readonly object[]) => ({ rule: { chain: "FORWARD", handle: 1, expr } });
  const say = (...rules: readonly object[]): string => {
    const { acceptsFrom, acceptsTo } = parseAcceptance(json(...rules), "FORWARD");
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

describe("what lies on the way", () => {
  const accept = { accept: null };
  const from = (right: string) => ({ match: { op: "==", left: { meta: { key: "iifname" } }, right } });
  const way = (...rules: readonly object[]) => parseAcceptance(json(...rules), "FORWARD").acceptsFrom;

  test("a chain that nothing leads to says nothing: ufw has one that accepts all that goes out", () => {
    const output = ruleOf("ufw-skip-to-policy-output", { counter: {} }, accept);
    expect(way(ruleOf("FORWARD", { jump: { target: "user" } }), output, ruleOf("user", from("cali*"), accept))).toEqual(
      ["cali*"],
    );
    expect(way(ruleOf("OUTPUT", { jump: { target: "x" } }), ruleOf("x", accept))).toEqual([]);
  });

  test("conditions of jumps count, too", () => {
    expect(way(ruleOf("FORWARD", from("cali*"), { goto: { target: "x" } }), ruleOf("x", accept))).toEqual(["cali*"]);
    expect(way(ruleOf("FORWARD", from("eth0"), { jump: { target: "x" } }), ruleOf("x", from("cali*"), accept))).toEqual(
      [],
    );
  });

  test("so do verdict maps, and chains that lead to each other end", () => {
    const map = { vmap: { key: { meta: { key: "iifname" } }, data: { set: [["cali*", { jump: { target: "x" } }]] } } };
    const back = ruleOf("x", { jump: { target: "FORWARD" } });
    expect(way(ruleOf("FORWARD", map), back, ruleOf("x", accept))).toEqual(["cali*"]);
  });
});

describe("dropsTheRest()", () => {
  test.each<[string, object[], boolean]>([
    ["nothing", [], false],
    ["firewalld: reject", [{ reject: { type: "icmpx", expr: "admin-prohibited" } }], true],
    ["iptables: REJECT", [{ counter: {} }, { xt: { type: "target", name: "REJECT" } }], true],
    ["a comment and drop", [{ xt: { type: "match", name: "comment" } }, { drop: null }], true],
    [
      "invalid packets only",
      [{ match: { op: "in", left: { ct: { key: "state" } }, right: "invalid" } }, { drop: null }],
      false,
    ],
    ["accept", [{ accept: null }], false],
  ])("by its last rule: %s", (_, expr, expected) => {
    const rules = [ruleOf("INPUT", { drop: null }), ruleOf("INPUT", ...expr), ruleOf("OTHER", { drop: null })];
    expect(dropsTheRest(json(...(expr.length === 0 ? [] : rules)), "INPUT")).toBe(expected);
  });
});

describe("acceptedUDP()", () => {
  const udp = (right: unknown, field = "dport", protocol = "udp") => ({
    match: { op: "==", left: { payload: { protocol, field } }, right },
  });
  const meta = (key: string, right: unknown, op = "==") => ({ match: { op, left: { meta: { key } }, right } });
  const state = (right: unknown) => ({ match: { op: "in", left: { ct: { key: "state" } }, right } });
  const xt = (name: string) => ({ xt: { type: "match", name } });

  test.each<[string, object[], string]>([
    ["a port", [udp(4789)], "4789-4789"],
    ["some ports", [udp({ set: [53, { range: [4000, 5000] }] })], "53-53,4000-5000"],
    ["a set with a name", [udp("@ports")], "0-65535"],
    [
      "from some network",
      [{ match: { op: "==", left: { payload: { protocol: "ip", field: "saddr" } }, right: "192.0.2.9" } }],
      "0-65535",
    ],
    ["on some link", [meta("iifname", "eth0")], "0-65535"],
    ["everything", [], "0-65535"],
    ["by what nft cannot print", [xt("multiport")], "0-65535"],
    ["of UDP", [meta("l4proto", { set: ["tcp", "udp"] })], "0-65535"],
    ["new connections", [state(["established", "new"])], "0-65535"],
    ["answers", [state(["established", "related"])], ""],
    ["answers, by iptables", [xt("conntrack")], ""],
    ["itself", [meta("iifname", "lo")], ""],
    ["pings", [meta("l4proto", "icmp"), xt("icmp")], ""],
    ["TCP", [udp(4789, "dport", "tcp")], ""],
    ["DHCP", [udp(67, "sport"), udp(68)], ""],
  ])("tells %s", (_, conditions, expected) => {
    const rule = ruleOf("INPUT", ...conditions, { counter: {} }, { accept: null });
    const ranges = acceptedUDP(json(rule, ruleOf("OUTPUT", { accept: null })), "INPUT");
    expect(ranges.map(({ min, max }) => `${min}-${max}`).join()).toBe(expected);
  });

  test("a verdict map with a name may lead anywhere; the usual one for states leads nowhere", () => {
    const map = (data: unknown) => ruleOf("INPUT", { vmap: { key: { ct: { key: "state" } }, data } });
    expect(acceptedUDP(json(map("@verdicts")), "INPUT")).toHaveLength(1);
    const states = [
      ["established", { accept: null }],
      ["invalid", { drop: null }],
    ];
    expect(acceptedUDP(json(map({ set: states })), "INPUT")).toEqual([]);
  });
});
