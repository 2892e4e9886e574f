// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { formatIP } from "../../net/ip.ts";
import { fakeAffinity, fakePool } from "../fake-resources.ts";
import { testPairs } from "./test-pairs.ts";

function shown(...args: Parameters<typeof testPairs>): readonly string[] {
  return testPairs(...args).map((pair) => pair.map(formatIP).join(" "));
}

describe("testPairs()", () => {
  test("are the highest of a pool of each family, and of none without pools", () => {
    const pools = [fakePool("four", "10.0.0.0/16"), fakePool("six", "fd00:10:244::/48")];
    expect(shown(pools, [])).toEqual([
      "10.0.255.254 10.0.255.255",
      "fd00:10:244:ffff:ffff:ffff:ffff:fffe fd00:10:244:ffff:ffff:ffff:ffff:ffff",
    ]);
    expect(shown([fakePool("six", "fd00::/112")], [])).toEqual(["fd00::fffe fd00::ffff"]);
    expect(shown([], [])).toEqual(["169.254.1.2 169.254.1.3"]);
  });

  test("lie in no block that anybody claims, also one of one address", () => {
    const claims = ["10.0.0.192/26", "10.0.0.128/26", "10.0.0.127/32", "10.9.0.0/26", "fd00::/122", "no CIDR"].map(
      (cidr) => fakeAffinity("node", cidr),
    );
    expect(shown([fakePool("four", "10.0.0.0/24")], claims)).toEqual(["10.0.0.124 10.0.0.125"]);
  });

  test("come out of another pool, or out of none, when one is all claimed", () => {
    const claims = ["10.0.0.0/26", "10.0.0.64/26", "fd00::/122"].map((cidr) => fakeAffinity("node", cidr));
    const [full, other] = [fakePool("full", "10.0.0.0/25"), fakePool("other", "10.1.0.0/24")];
    expect(shown([full, other], claims)).toEqual(["10.1.0.254 10.1.0.255"]);
    expect(shown([full, fakePool("tiny", "10.2.0.1/32")], claims)).toEqual(["169.254.1.2 169.254.1.3"]);
    expect(shown([fakePool("zero", "0.0.0.0/31")], [fakeAffinity("node", "0.0.0.0/32")])).toEqual([
      "169.254.1.2 169.254.1.3",
    ]);
    expect(shown([fakePool("six", "fd00::/122")], claims)).toEqual(["fd67:696e:6768:616d::2 fd67:696e:6768:616d::3"]);
  });

  test("pools for load balancers, and what cannot be read, do not count", () => {
    const lb = fakePool("lb", "10.3.0.0/24", { allowedUses: ["LoadBalancer"] });
    expect(shown([lb, fakePool("broken", "10.0.0.0/99")], [])).toEqual(["169.254.1.2 169.254.1.3"]);
  });
});
