// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cidrContains, cidrOf, parseCIDR } from "../net/cidr.ts";
import { addToIP, parseIP } from "../net/ip.ts";
import { addressesIn } from "./pool-blocks.ts";

describe("addressesIn()", () => {
  it("counts each address once, as one does who looks at every address", () => {
    const base = parseIP("10.0.0.0");
    const network = fc
      .record({ at: fc.integer({ min: 0, max: 255 }), prefixLength: fc.integer({ min: 23, max: 32 }) })
      .map(({ at, prefixLength }) => cidrOf(addToIP(base, at), prefixLength));
    fc.assert(
      fc.property(network, fc.array(network, { maxLength: 6 }), (pool, others) => {
        let count = 0;
        for (let i = 0; i < 512; i++) {
          const ip = addToIP(base, i);
          if (cidrContains(pool, ip) && others.some((other) => cidrContains(other, ip))) count++;
        }
        expect(addressesIn(pool, others)).toBe(count);
      }),
    );
  });

  it("knows IPv6, and that families are apart", () => {
    expect(addressesIn(parseCIDR("fd00::/112"), [parseCIDR("fd00::/120"), parseCIDR("0.0.0.0/0")])).toBe(256);
  });
});
