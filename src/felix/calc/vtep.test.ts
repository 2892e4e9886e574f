// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseIP } from "../../net/ip.ts";
import { fakeNode } from "../fake-resources.ts";
import { derivedMAC, tunnelEndOf } from "./vtep.ts";

describe("derivedMAC()", () => {
  // Expected: `printf NAME | sha1sum | cut -c 1-10`, after 66.
  test.each([
    ["node-a", 4, "66:07:02:c1:cc:60"],
    ["node-a", 6, "66:d4:d5:51:3d:42"],
  ] as const)("of %s for IPv%d", (name, family, mac) => {
    expect(derivedMAC(name, family)).toBe(mac);
  });
});

describe("tunnelEndOf()", () => {
  test("takes another MAC from the annotation, and derives one where that is malformed", () => {
    const end = (annotations: Record<string, string>) => {
      const malformed: string[] = [];
      return { ...tunnelEndOf(fakeNode("node-a", [], annotations), 6, malformed), malformed };
    };
    const ip = parseIP("fd00::1");
    const address = { "projectcalico.org/IPv6VXLANTunnelAddr": "fd00::1" };
    const mac = "projectcalico.org/VXLANTunnelMACAddrV6";
    expect(end({ ...address, [mac]: "EE:00:00:00:00:01" })).toEqual({ ip, mac: "ee:00:00:00:00:01", malformed: [] });
    expect(end({ ...address, [mac]: "x" })).toEqual({ ip, mac: derivedMAC("node-a", 6), malformed: [`${mac} x`] });
    expect(end({ [mac]: "ee:00:00:00:00:01" })).toEqual({ malformed: [] });
    expect(end({ "projectcalico.org/IPv6VXLANTunnelAddr": "" })).toEqual({ malformed: [] });
  });
});
