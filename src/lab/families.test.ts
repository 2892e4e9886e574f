// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { blockSizeOf, FAMILIES, hostOfURL, nodeIPs, segmentIPs } from "./families.ts";

test("nodeIPs() and segmentIPs() give one address of each family, in the families' order", () => {
  expect(nodeIPs(1, FAMILIES.dual)).toEqual([
    { family: 4, ip: "172.30.0.12", prefixLength: 24 },
    { family: 6, ip: "fd00:172:30::12", prefixLength: 64 },
  ]);
  expect(nodeIPs(31, FAMILIES.ipv6).map(({ ip }) => ip)).toEqual(["fd00:172:30::42"]);
  expect(segmentIPs(FAMILIES.dual).map(({ ip }) => ip)).toEqual(["172.30.0.1", "fd00:172:30::1"]);
});

test("blockSizeOf() keeps the number of addresses", () => {
  expect([4, 6].map((family) => blockSizeOf(family as 4 | 6, 26))).toEqual([26, 122]);
});

test("hostOfURL() puts IPv6 addresses in brackets", () => {
  expect(["172.30.0.1", "fd00::1"].map(hostOfURL)).toEqual(["172.30.0.1", "[fd00::1]"]);
});
