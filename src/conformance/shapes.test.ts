// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { addressesOf, complainOfError, complainOfResult, interfaceOf } from "./shapes.ts";

const INTERFACES = [{ name: "veth0" }, { name: "eth0", sandbox: "/run/netns/a" }];

describe("complainOfResult()", () => {
  test.each([
    ["0.2.0", { ip4: { ip: "10.0.0.2/24" } }],
    ["0.4.0", { interfaces: INTERFACES, ips: [{ version: "6", address: "fd00::2/64", interface: 1 }] }],
    ["1.1.0", { interfaces: INTERFACES, ips: [{ address: "10.0.0.2/24", gateway: "10.0.0.1", interface: 1 }] }],
    ["1.1.0", { routes: [{ dst: "::/0", gw: "fe80::1", mtu: 1400 }], dns: { nameservers: ["10.0.0.1"], domain: "a" } }],
  ] as const)("takes the form of %s", (version, result) => {
    expect(complainOfResult({ cniVersion: version, ...result }, version)).toBeUndefined();
  });

  test.each([
    ["0.2.0", { ips: [] }, "has ips"],
    ["0.2.0", {}, "neither ip4 nor ip6"],
    ["0.3.0", { ips: [{ address: "10.0.0.2/24" }] }, 'the version not set, want "4"'],
    ["1.0.0", { ips: [{ version: "4", address: "10.0.0.2/24" }] }, "which 1.0.0 removed"],
    ["1.0.0", { ips: [{ address: "10.0.0.2" }] }, "want one with a prefix length"],
    ["1.0.0", { interfaces: INTERFACES, ips: [{ address: "10.0.0.2/24", interface: 2 }] }, "but there are 2"],
    ["1.0.0", { cniVersion: "0.4.0" }, 'want "1.0.0"'],
    ["1.0.0", { interfaces: [{}] }, "interfaces[0] has no name"],
    ["1.0.0", { ip4: {} }, "has ip4 or ip6"],
    ["1.0.0", { routes: {} }, "routes is {}"],
    ["1.0.0", { routes: [{ dst: "10.0.0.0" }] }, "routes[0] has no dst"],
    ["1.0.0", { routes: [{ dst: "10.0.0.0/8" }, { dst: "::/0", gw: "" }] }, 'routes[1] has the gw ""'],
    ["1.1.0", { routes: [{ dst: "10.0.0.0/8", mtu: "1400" }] }, 'routes[0] has the mtu "1400"'],
    ["1.0.0", { dns: [] }, "dns is []"],
    ["1.0.0", { dns: { nameservers: "10.0.0.1" } }, "dns has the nameservers"],
    ["1.0.0", { dns: { domain: 7 } }, "dns has the domain 7"],
  ] as const)("in %s complains of %j", (version, result, complaint) => {
    expect(complainOfResult({ cniVersion: version, ...result }, version)).toContain(complaint);
  });
});

test("complainOfError() wants one object with a code above 0 and a text", () => {
  expect(complainOfError('{"code": 4, "msg": "no"}')).toBeUndefined();
  for (const text of [
    "",
    "oops",
    "[]",
    '{"code": 0, "msg": "no"}',
    '{"code": 4}',
    '{"code":4,"msg":"a"}{}',
    '{"code":4,"msg":"a","details":1}',
  ])
    expect(complainOfError(text)).toBeDefined();
});

test("addressesOf() reads every form, interfaceOf() the container's end", () => {
  expect(addressesOf({ ip4: { ip: "10.0.0.2/24" }, ip6: { ip: "fd00::2/64" } })).toEqual(["10.0.0.2/24", "fd00::2/64"]);
  expect(addressesOf({ ips: [{ address: "10.0.0.2/24" }] })).toEqual(["10.0.0.2/24"]);
  expect(interfaceOf({ interfaces: INTERFACES }, "eth0")).toBe(INTERFACES[1]);
  expect(interfaceOf({ interfaces: INTERFACES }, "veth0")).toBeUndefined();
});
