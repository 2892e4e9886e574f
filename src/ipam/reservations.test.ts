// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cidrContains, cidrSize, formatCIDR, ipAt, parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { NO_RESERVATIONS, ReservationIndex } from "./reservations.ts";

describe("ReservationIndex", () => {
  const cidr = fc
    .tuple(fc.integer({ min: 0, max: 63 }), fc.integer({ min: 26, max: 32 }), fc.boolean())
    .map(([n, length, isV6]) => parseCIDR(isV6 ? `fd00::${n.toString(16)}/${length + 96}` : `10.0.0.${n}/${length}`));

  it("agrees with a look at every address", () => {
    fc.assert(
      fc.property(fc.array(cidr, { maxLength: 8 }), cidr, (networks, block) => {
        const reservations = new ReservationIndex(networks);
        const isReserved = reservations.of(block);
        const expected = Array.from({ length: cidrSize(block) }, (_, ordinal) =>
          networks.some((network) => cidrContains(network, ipAt(block, ordinal))),
        );
        expect(expected.map((_, ordinal) => isReserved?.(ordinal) ?? false)).toEqual(expected);
        expect(reservations.covers(block)).toBe(expected.every(Boolean));
      }),
    );
  });

  it("names the widest reservation around a block", () => {
    const reservations = new ReservationIndex(["10.0.0.0/24", "10.0.0.0/16", "10.0.0.0/28"].map(parseCIDR));
    const widest = reservations.widest(parseCIDR("10.0.0.0/26"));
    expect(widest && formatCIDR(widest)).toBe("10.0.0.0/16");
    expect(reservations.widest(parseCIDR("10.1.0.0/26"))).toBeUndefined();
  });

  it("reserves nothing when there is none", () => {
    expect(NO_RESERVATIONS.has(parseIP("10.0.0.1"))).toBe(false);
    expect(NO_RESERVATIONS.covers(parseCIDR("10.0.0.0/32"))).toBe(false);
  });
});
