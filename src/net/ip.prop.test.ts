// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { IPv4 as OracleIPv4, IPv6 as OracleIPv6 } from "ip-num";
import { describe, expect, test } from "vitest";
import { cidrContains, cidrOf, cidrSize, cidrsOverlap, formatCIDR, ipAt, ordinalOf, parseCIDR } from "./cidr.ts";
import { addToIP, bitsOf, familyOf, formatIP, type IP, ipFromBytes, ipToBytes, parseIP } from "./ip.ts";
import type { IPv4 } from "./ipv4.ts";
import { formatIPv6, type IPv6, parseIPv6 } from "./ipv6.ts";

const ipv4 = fc.integer({ min: 0, max: 0xffffffff }).map((n) => n as IPv4);
/** Groups are often zero, so that every place of "::" is met. */
const ipv6 = fc
  .array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), { minLength: 8, maxLength: 8 })
  .map((groups) => groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n) as IPv6);
const ip: fc.Arbitrary<IP> = fc.oneof(ipv4, ipv6);
const cidr = ip.chain((address) =>
  fc.integer({ min: 0, max: bitsOf(familyOf(address)) }).map((length) => cidrOf(address, length)),
);

describe("IP text", () => {
  test("parseIP(formatIP(x)) is x", () => {
    fc.assert(
      fc.property(ip, (x) => {
        expect(parseIP(formatIP(x))).toBe(x);
      }),
    );
  });

  test("agrees with ip-num on values", () => {
    fc.assert(
      fc.property(ipv4, (x) => {
        expect(BigInt(x)).toBe(new OracleIPv4(formatIP(x)).getValue());
      }),
    );
    fc.assert(
      fc.property(ipv6, (x) => {
        expect(x).toBe(new OracleIPv6(formatIP(x)).getValue());
      }),
    );
  });

  test.each([
    ["::", "::"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["fd00:10:244::", "fd00:10:244::"],
    ["::ffff:10.0.0.1", "::ffff:10.0.0.1"],
    ["1:0:0:2:0:0:0:3", "1:0:0:2::3"],
  ])("formatIPv6 writes %s as RFC 5952 does", (text, canonical) => {
    expect(formatIPv6(parseIPv6(text))).toBe(canonical);
  });

  test.each([
    "",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "256.1.1.1",
    "1.2.3.4 ",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8::",
    "12345::",
    "fe80::1%eth0",
    "1.2.3.4::",
    "::1.2.3",
    "g::",
  ])("parseIP refuses %j", (text) => {
    expect(() => parseIP(text)).toThrow(SyntaxError);
  });

  test("parseIP answers or throws SyntaxError for any text", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f:./]{0,45}$/)), (text) => {
        try {
          parseIP(text);
        } catch (error) {
          expect(error).toBeInstanceOf(SyntaxError);
        }
      }),
    );
  });
});

describe("bytes", () => {
  test("ipFromBytes(ipToBytes(x)) is x", () => {
    fc.assert(
      fc.property(ip, (x) => {
        expect(ipFromBytes(ipToBytes(x))).toBe(x);
      }),
    );
  });

  test("ipFromBytes refuses other lengths", () => {
    expect(() => ipFromBytes(new Uint8Array(5))).toThrow(RangeError);
  });
});

describe("CIDR", () => {
  test("parseCIDR(formatCIDR(x)) is x", () => {
    fc.assert(
      fc.property(cidr, (x) => {
        expect(parseCIDR(formatCIDR(x))).toEqual(x);
      }),
    );
  });

  test("ordinalOf undoes ipAt", () => {
    fc.assert(
      fc.property(cidr, fc.nat(), (net, n) => {
        const ordinal = n % Math.min(cidrSize(net), 2 ** 31);
        expect(ordinalOf(net, ipAt(net, ordinal))).toBe(ordinal);
      }),
    );
  });

  test("cidrContains holds for each address of the network and for no neighbour", () => {
    fc.assert(
      fc.property(ipv4, fc.integer({ min: 1, max: 32 }), (address, length) => {
        const net = cidrOf(address, length);
        const size = cidrSize(net);
        expect(cidrContains(net, address)).toBe(true);
        expect(cidrContains(net, ipAt(net, size - 1))).toBe(true);
        const last = net.network as IPv4;
        if (last + size <= 0xffffffff) expect(cidrContains(net, addToIP(net.network, size))).toBe(false);
        if (last > 0) expect(cidrContains(net, addToIP(net.network, -1))).toBe(false);
      }),
    );
  });

  test("cidrsOverlap is symmetric and false across families", () => {
    fc.assert(
      fc.property(cidr, cidr, (a, b) => {
        expect(cidrsOverlap(a, b)).toBe(cidrsOverlap(b, a));
      }),
    );
    expect(cidrsOverlap(parseCIDR("0.0.0.0/0"), parseCIDR("::/0"))).toBe(false);
    expect(cidrsOverlap(parseCIDR("10.0.0.0/25"), parseCIDR("10.0.0.64/26"))).toBe(true);
  });

  test.each(["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "::/129", "10.0.0.0/08"])(
    "parseCIDR refuses %j",
    (text) => {
      expect(() => parseCIDR(text)).toThrow(SyntaxError);
    },
  );
});
