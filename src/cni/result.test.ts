// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseIP } from "../net/ip.ts";
import { renderResult } from "./result.ts";
import type { AddResult } from "./types.ts";

const RESULT: AddResult = {
  host: { name: "cali01234567890", mac: "ee:ee:ee:ee:ee:ee" },
  container: { name: "eth0", mac: "02:00:00:00:00:01", mtuBytes: 1450, sandbox: "/run/netns/a" },
  ips: [parseIP("10.0.0.1"), parseIP("fd00::1")],
  routes: [
    { dst: "0.0.0.0/0", gw: "169.254.1.1" },
    { dst: "::/0", gw: "fe80::ecee:eeff:feee:eeee" },
  ],
  dns: { nameservers: ["10.96.0.10"] },
};
const { routes, dns } = RESULT;
const interfaces = [
  { name: "cali01234567890", mac: "ee:ee:ee:ee:ee:ee" },
  { name: "eth0", mac: "02:00:00:00:00:01", sandbox: "/run/netns/a" },
];
const ips = [
  { address: "10.0.0.1/32", interface: 1 },
  { address: "fd00::1/128", interface: 1 },
];

describe("renderResult()", () => {
  it("1.1.0 has the MTU", () => {
    expect(renderResult(RESULT, "1.1.0")).toEqual({
      cniVersion: "1.1.0",
      interfaces: interfaces.map((iface) => ({ ...iface, mtu: 1450 })),
      ips,
      routes,
      dns,
    });
  });

  it("1.0.0 has neither MTU nor version", () => {
    expect(renderResult(RESULT, "1.0.0")).toEqual({ cniVersion: "1.0.0", interfaces, ips, routes, dns });
  });

  it("names the gateway for an interface that is not the pod's primary one", () => {
    const container = { ...RESULT.container, name: "net1" };
    expect(renderResult({ ...RESULT, container }, "1.0.0")).toMatchObject({
      ips: [
        { address: "10.0.0.1/32", interface: 1, gateway: "169.254.1.1" },
        { address: "fd00::1/128", interface: 1, gateway: "fe80::ecee:eeff:feee:eeee" },
      ],
    });
  });

  it.each(["0.4.0", "0.3.1", "0.3.0"] as const)("%s has the version of each address", (cniVersion) => {
    expect(renderResult(RESULT, cniVersion)).toEqual({
      cniVersion,
      interfaces,
      ips: [
        { version: "4", ...ips[0] },
        { version: "6", ...ips[1] },
      ],
      routes,
      dns,
    });
  });

  it.each(["0.2.0", "0.1.0"] as const)("%s has ip4 and ip6", (cniVersion) => {
    expect(renderResult(RESULT, cniVersion)).toEqual({
      cniVersion,
      ip4: { ip: "10.0.0.1/32", routes: [routes[0]] },
      ip6: { ip: "fd00::1/128", routes: [routes[1]] },
      dns,
    });
    expect(renderResult({ ...RESULT, ips: RESULT.ips.slice(1) }, cniVersion)).not.toHaveProperty("ip4");
  });
});
