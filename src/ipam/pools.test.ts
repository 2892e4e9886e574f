// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { type EffectiveIPPool, effectiveIPPool, type IPPoolSpec, parseIPPool } from "../crds/ip-pool.ts";
import type { IPAMError } from "./errors.ts";
import { selectPools } from "./pools.ts";

function pool(name: string, spec: Partial<IPPoolSpec> & { cidr: string }): EffectiveIPPool {
  const raw = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name }, spec };
  return effectiveIPPool(parseIPPool(raw));
}

function choose(pools: readonly EffectiveIPPool[], names?: readonly string[], family: 4 | 6 = 4): string[] {
  return selectPools(pools, { family, nodeName: "node-a", ...(names && { names }) }).map((p) => p.name);
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
    expect(choose(pools, undefined, 6)).toEqual(["six"]);
  });

  it("refuses a selector that it cannot evaluate, and says what to do", () => {
    const picky = pool("zone", { cidr: "10.5.0.0/16", nodeSelector: 'zone == "west"' });
    const error = refusal(() => choose([v4, picky]));
    expect(error).toMatchObject({ code: "UnsupportedSelector" });
    expect(error.message).toContain("zone");
    const byNamespace = pool("ns", { cidr: "10.6.0.0/16", namespaceSelector: 'team == "x"' });
    expect(refusal(() => choose([byNamespace]))).toMatchObject({ code: "UnsupportedSelector" });
  });

  it("takes named pools as they are, by name or CIDR, whatever their selectors say", () => {
    const picky = pool("zone", { cidr: "10.5.0.0/16", nodeSelector: 'zone == "west"', assignmentMode: "Manual" });
    expect(choose([v4, picky], ["zone"])).toEqual(["zone"]);
    expect(choose([v4, picky], ["10.5.0.0/16"])).toEqual(["zone"]);
  });

  it("does not limit a family of which no pool is named", () => {
    const pools = [v4, pool("six", { cidr: "fd00::/64" })];
    expect(choose(pools, ["b"], 6)).toEqual(["six"]);
  });

  it("names the pool that is missing or not enabled, and why no pool suits", () => {
    const off = pool("off", { cidr: "10.2.0.0/16", disabled: true });
    expect(refusal(() => choose([v4], ["nope"])).message).toContain("IPPool nope does not exist (there are: b)");
    expect(refusal(() => choose([off], ["off"])).message).toContain("IPPool off (10.2.0.0/16) is not enabled");
    expect(refusal(() => choose([off])).message).toContain("off is not enabled");
    expect(refusal(() => choose([]))).toMatchObject({ code: "PoolNotFound" });
  });
});
