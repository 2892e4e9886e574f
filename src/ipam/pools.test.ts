// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { type EffectiveIPPool, effectiveIPPool, type IPPoolSpec, parseIPPool } from "../crds/ip-pool.ts";
import type { IPAMError } from "./errors.ts";
import { type PoolNeed, selectorsInUse, selectPools, selectsNode } from "./pools.ts";

function pool(name: string, spec: Partial<IPPoolSpec> & { cidr: string }): EffectiveIPPool {
  const raw = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name }, spec };
  return effectiveIPPool(parseIPPool(raw));
}

function choose(pools: readonly EffectiveIPPool[], names?: readonly string[], need: Partial<PoolNeed> = {}): string[] {
  const asked = { family: 4, nodeName: "node-a", nodeLabels: {}, ...(names && { names }), ...need } as const;
  return selectPools(pools, asked).pools.map((p) => p.name);
}

function refusal(fn: () => unknown): IPAMError {
  try {
    fn();
  } catch (error) {
    return error as IPAMError; // every refusal of this folder is one
  }
  throw new Error("was not refused");
}

describe("selectPools()", () => {
  const v4 = pool("b", { cidr: "10.1.0.0/16" });

  it("takes enabled automatic pools of the family for workloads, by name", () => {
    const pools = [
      v4,
      pool("a", { cidr: "10.0.0.0/16", nodeSelector: " all( ) " }),
      pool("six", { cidr: "fd00::/64" }),
      pool("off", { cidr: "10.2.0.0/16", disabled: true }),
      pool("hand", { cidr: "10.3.0.0/16", assignmentMode: "Manual" }),
      pool("lb", { cidr: "10.4.0.0/16", allowedUses: ["LoadBalancer"] }),
    ];
    expect(choose(pools)).toEqual(["a", "b"]);
    expect(choose(pools, undefined, { family: 6 })).toEqual(["six"]);
    expect(choose(pools, undefined, { use: "LoadBalancer" })).toEqual(["lb"]);
  });

  it("takes pools whose selectors select node and namespace; no namespace is one without labels", () => {
    const west = pool("west", { cidr: "10.5.0.0/16", nodeSelector: 'zone == "west"' });
    const team = pool("team", { cidr: "10.6.0.0/16", namespaceSelector: 'team in {"x", "y"}' });
    const rest = pool("rest", { cidr: "10.7.0.0/16", namespaceSelector: "!has(team)" });
    const pools = [west, team, rest];
    expect(choose(pools, undefined, { nodeLabels: { zone: "west" } })).toEqual(["rest", "west"]);
    expect(choose(pools, undefined, { namespace: "a", namespaceLabels: { team: "x" } })).toEqual(["team"]);
    const error = refusal(() => choose([west, team], undefined, { namespace: "a" }));
    expect(error.message).toContain("namespace a");
    expect(error.message).toContain('west is for nodes with zone == "west", and node-a is none');
    expect(error.message).toContain('team is for namespaces with team in {"x", "y"}, and a is none');
  });

  it("uses no pool for some nodes on a node that the API server does not know", () => {
    const other = pool("other", { cidr: "10.5.0.0/16", nodeSelector: "!has(zone)" });
    expect(selectPools([v4, other], { family: 4, nodeName: "node-a" }).pools).toEqual([v4]);
    expect(() => selectPools([other], { family: 4, nodeName: "node-a" })).toThrow(/does not know node node-a/);
  });

  it("leaves out a pool whose selector cannot be read, reports it, and goes on with the others", () => {
    const bad = pool("bad", { cidr: "10.5.0.0/16", nodeSelector: "zone = west" });
    const choice = selectPools([v4, bad], { family: 4, nodeName: "node-a", nodeLabels: {} });
    expect(choice.pools).toEqual([v4]);
    expect(choice.findings).toMatchObject([{ pool: "bad", field: "nodeSelector", error: { position: 5 } }]);
    expect(refusal(() => choose([bad])).message).toContain("bad has a nodeSelector that cannot be read");
  });

  it("takes named pools as they are, by name or CIDR, whatever their selectors say", () => {
    const picky = pool("zone", { cidr: "10.5.0.0/16", nodeSelector: 'zone == "west"', assignmentMode: "Manual" });
    expect(choose([v4, picky], ["zone"])).toEqual(["zone"]);
    expect(choose([v4, picky], ["10.5.0.0/16"])).toEqual(["zone"]);
  });

  it("refuses a named pool of the other family, and one for another use", () => {
    const six = pool("six", { cidr: "fd00::/64" });
    const tunnel = pool("tunnel", { cidr: "10.8.0.0/16", allowedUses: ["Tunnel"] });
    expect(refusal(() => choose([v4, six], ["six"])).message).toContain("IPPool six (fd00::/64) is not an IPv4 pool");
    expect(refusal(() => choose([tunnel], ["tunnel"])).message).toContain("tunnel is for Tunnel only");
    expect(choose([v4, six], [], { family: 6 })).toEqual(["six"]);
  });

  it("names the pool that is missing or not enabled, and why no pool suits", () => {
    const off = pool("off", { cidr: "10.2.0.0/16", disabled: true });
    expect(refusal(() => choose([v4], ["nope"])).message).toContain(
      "IPPool nope does not exist, or is not valid (there are: b)",
    );
    expect(refusal(() => choose([off], ["off"])).message).toContain("IPPool off (10.2.0.0/16) is not enabled");
    expect(refusal(() => choose([off])).message).toContain("off is not enabled");
    expect(refusal(() => choose([]))).toMatchObject({ code: "PoolNotFound" });
  });
});

describe("selectorsInUse() and selectsNode()", () => {
  it("say which labels matter", () => {
    const plain = pool("plain", { cidr: "10.0.0.0/16", nodeSelector: "all( )" });
    const west = pool("west", { cidr: "10.5.0.0/16", nodeSelector: 'zone == "west"' });
    const bad = pool("bad", { cidr: "10.6.0.0/16", nodeSelector: "zone" });
    expect(selectorsInUse([plain])).toEqual({ nodeSelector: false, namespaceSelector: false });
    expect(selectorsInUse([plain, west])).toEqual({ nodeSelector: true, namespaceSelector: false });
    expect([plain, west, bad].map((p) => selectsNode(p, { zone: "east" }))).toEqual([true, false, undefined]);
    expect([plain, west].map((p) => selectsNode(p, undefined))).toEqual([true, undefined]);
  });
});
