// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseChains, parseJumps, parseLegacyForward } from "./nft-json.ts";

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
    const { chains, forward, input } = parseChains(listed);
    expect(chains.map(({ chain }) => chain)).toEqual(["FORWARD", "INPUT", "cali-FORWARD", "f"]);
    expect(forward).toEqual([
      { family: "ip", table: "filter", chain: "FORWARD", policy: "drop" },
      { family: "inet", table: "t", chain: "f", policy: "accept" },
    ]);
    expect(input).toEqual([{ family: "ip", table: "filter", chain: "INPUT", policy: "drop" }]);
  });

  test.each(["", "{", "{}", "[]"])("finds nothing in %j", (text) => {
    expect(parseChains(text)).toEqual({ chains: [], forward: [], input: [] });
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

test("parseLegacyForward() follows jumps that every packet takes, and sees a last rule that rejects", () => {
  const ufw = [
    "-P FORWARD ACCEPT",
    "-N ufw-user-forward",
    "-A FORWARD -j ufw-before-forward",
    "-A FORWARD -p tcp -j only-tcp",
    "-A FORWARD -j REJECT --reject-with icmp-host-prohibited",
    "-A ufw-before-forward -j ufw-user-forward",
    "-A ufw-user-forward -i cali+ -j ACCEPT",
    "-A ufw-user-forward -j ufw-before-forward",
    "-A only-tcp -o cali+ -j ACCEPT",
    "-A ufw-skip-to-policy-output -j ACCEPT",
  ].join("\n");
  expect(parseLegacyForward("ip", ufw)).toMatchObject({ policy: "drop", acceptsFrom: ["cali*"], acceptsTo: [] });
});
