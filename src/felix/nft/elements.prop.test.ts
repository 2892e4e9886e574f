// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { type CIDR, cidrContains, cidrOf, cidrsOverlap, parseCIDR } from "../../net/cidr.ts";
import { type IP, parseIP } from "../../net/ip.ts";
import type { IPv4 } from "../../net/ipv4.ts";
import type { IPv6 } from "../../net/ipv6.ts";
import { elementsOf, withoutCovered } from "./elements.ts";

/** Few bits vary, so that networks lie inside each other often. */
const cidr4 = fc.tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 22, max: 32 }));
const networks = fc.oneof(
  fc.array(cidr4.map(([n, length]) => cidrOf((0x0a000000 + n * 4) as IPv4, length))),
  fc.array(cidr4.map(([n, length]) => cidrOf(((0xfdn << 120n) + BigInt(n * 4)) as IPv6, length + 96))),
);

test("no two networks that are kept share an address, and none is lost", () => {
  fc.assert(
    fc.property(networks, (given) => {
      const kept = withoutCovered(given);
      for (const [i, a] of kept.entries()) for (const b of kept.slice(i + 1)) expect(cidrsOverlap(a, b)).toBe(false);
      const isIn = (ip: IP, cidrs: readonly CIDR[]): boolean => cidrs.some((cidr) => cidrContains(cidr, ip));
      for (const { network } of given) expect(isIn(network, kept)).toBe(true);
      for (const cidr of kept) expect(given).toContainEqual(cidr);
    }),
  );
});

test("the order of what is given does not show", () => {
  fc.assert(
    fc.property(networks, (given) => {
      expect(withoutCovered(given.toReversed())).toEqual(withoutCovered(given));
    }),
  );
});

test("prefixes of one pod never hide those of another", () => {
  const elements = elementsOf({
    natPools: [],
    allPools: ["10.0.0.0/8", "10.1.0.0/16", "fd00::/64"].map(parseCIDR),
    nodes: [parseIP("192.0.2.1"), parseIP("192.0.2.1"), parseIP("2001:db8::1")],
    allowedSources: [
      { hostIface: "cali1", prefix: parseCIDR("10.0.0.0/8") },
      { hostIface: "cali2", prefix: parseCIDR("10.0.0.0/24") },
      { hostIface: "cali1", prefix: parseCIDR("10.0.0.0/24") },
      { hostIface: "cali2", prefix: parseCIDR("fd00::/8") },
    ],
  });
  expect(Object.fromEntries([...elements].map(([name, set]) => [name, [...set]]))).toEqual({
    "nat-pools-v4": [],
    "nat-pools-v6": [],
    "all-pools-v4": ["10.0.0.0/8"],
    "all-pools-v6": ["fd00::/64"],
    "nodes-v4": ["192.0.2.1/32"],
    "nodes-v6": ["2001:db8::1/128"],
    "allowed-sources-v4": ['"cali1" . 10.0.0.0/8', '"cali2" . 10.0.0.0/24'],
    "allowed-sources-v6": ['"cali2" . fd00::/8'],
  });
});
