// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { formatIP, parseIP } from "../../net/ip.ts";
import { formatMethod, parseAddress, parseMethod } from "./settings.ts";

describe("parseMethod()", () => {
  test.each([
    "first-found",
    "kubernetes-internal-ip",
    "can-reach=192.0.2.9",
    "can-reach=www.example.org",
    "interface=eth.*,^en",
    "cidr=192.0.2.0/24,198.51.100.7/32",
    "skip-interface=docker",
  ])("reads %s, and formatMethod() writes it", (text) => {
    const method = parseMethod(text, 4);
    expect(method && formatMethod(method)).toBe(text);
  });

  test("reads CIDRs of its family, and an address as one", () => {
    expect(parseMethod("cidr=192.0.2.0/24,198.51.100.7", 4)).toMatchObject({
      cidrs: [{ prefixLength: 24 }, { prefixLength: 32 }],
    });
    expect(parseMethod("", 4)).toBeUndefined();
  });

  test.each([
    ["first", 4],
    ["interface=", 4],
    ["interface", 4],
    ["cidr=10.0.0.0/8", 6],
    ["cidr=fd00::/8", 4],
    ["cidr=x", 4],
    ["interface=(", 4],
    ["can-reach=fd00::1", 4],
    ["can-reach=192.0.2.1", 6],
    ["can-reach=192.0.2.300", 4],
    ["can-reach=a b", 4],
    ["nonsense=eth0", 4],
  ] as const)("refuses %s for IPv%i", (text, family) => {
    expect(() => parseMethod(text, family)).toThrow(SyntaxError);
  });
});

describe("parseAddress()", () => {
  const internal = { kind: "kubernetes-internal-ip" } as const;

  test.each([
    ["", undefined, { kind: "node-object" }],
    ["", internal, { kind: "detect", method: internal }],
    ["autodetect", undefined, { kind: "detect", method: { kind: "first-found" } }],
    ["autodetect", internal, { kind: "detect", method: internal }],
    ["none", internal, { kind: "none" }],
    ["192.0.2.1", internal, { kind: "explicit", ip: parseIP("192.0.2.1") }],
    ["192.0.2.1/24", undefined, { kind: "explicit", ip: parseIP("192.0.2.1"), prefixLength: 24 }],
  ])("%j with method %j", (text, method, setting) => {
    expect(parseAddress(text, 4, method)).toEqual(setting);
  });

  test("takes only its own family", () => {
    expect(parseAddress("2001:db8::1/64", 6, undefined)).toMatchObject({ prefixLength: 64 });
    for (const text of ["2001:db8::1", "192.0.2.1/33", "auto", formatIP(parseIP("::1"))])
      expect(() => parseAddress(text, 4, undefined)).toThrow("want autodetect, none, or an IPv4 address");
  });
});
