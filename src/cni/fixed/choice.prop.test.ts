// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type CIDR, cidrFamily, cidrOf, cidrSize, ipAt } from "../../net/cidr.ts";
import type { Family, IP } from "../../net/ip.ts";
import type { IPv4 } from "../../net/ipv4.ts";
import type { IPv6 } from "../../net/ipv6.ts";
import { addressAt } from "./choice.ts";

const anyCIDR: fc.Arbitrary<CIDR> = fc.oneof(
  fc.tuple(fc.nat(0xffff_ffff), fc.integer({ min: 26, max: 32 })).map(([ip, length]) => cidrOf(ip as IPv4, length)),
  fc
    .tuple(fc.bigInt({ min: 1n << 64n, max: (1n << 128n) - 1n }), fc.integer({ min: 122, max: 128 }))
    .map(([ip, length]) => cidrOf(ip as IPv6, length)),
);

/** One after the other, as a person would write them down. */
function expand(networks: readonly CIDR[], family: Family): readonly IP[] {
  return networks
    .filter((network) => cidrFamily(network) === family)
    .flatMap((network) => Array.from({ length: cidrSize(network) }, (_, i) => ipAt(network, i)));
}

describe("addressAt()", () => {
  it("counts as one who writes all addresses down", () => {
    fc.assert(
      fc.property(fc.array(anyCIDR, { maxLength: 6 }), fc.constantFrom<Family>(4, 6), (networks, family) => {
        const all = expand(networks, family);
        for (const [i, ip] of all.entries()) expect(addressAt(networks, family, i)).toBe(ip);
        expect(addressAt(networks, family, all.length)).toBeUndefined();
      }),
    );
  });
});
