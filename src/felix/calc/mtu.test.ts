// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { KernelLink } from "../ports.ts";
import { hostMTU, largePods, largeTunnels, MTU_IFACE_PATTERN, podMTU, tunnelMTU } from "./mtu.ts";

const PATTERN = new RegExp(MTU_IFACE_PATTERN);
const SETTINGS = { mtuIfacePattern: PATTERN };

function links(mtus: Readonly<Record<string, number>>, down: readonly string[] = []): KernelLink[] {
  return Object.entries(mtus).map(([name, mtuBytes], i) => ({
    ifIndex: i + 1,
    name,
    mtuBytes,
    up: !down.includes(name),
  }));
}

describe("hostMTU()", () => {
  test.each([
    ["the smallest of what matches", links({ eth0: 1500, ens3: 1450, wlan0: 1480 }), [], 1450],
    ["not of links that are down", links({ eth0: 1500, eth1: 1400 }, ["eth1"]), [], 1500],
    [
      "not of pods, bridges and tunnels",
      links({ eth0: 1500, cali1: 1200, docker0: 1300, "vxlan.calico": 1450 }),
      [],
      1500,
    ],
    ["also of the link with this node's address", links({ eth0: 9000, bond0: 1500 }), [{ ifIndex: 2 }], 1500],
    ["nothing where there is no such link", links({ docker0: 1500 }), [undefined], undefined],
  ])("is %s", (_, there, parents, expected) => {
    expect(hostMTU(there, PATTERN, parents)).toBe(expected);
  });
});

test("tunnelMTU() is 50 less in VXLAN over IPv4 and 70 over IPv6, or what is configured", () => {
  expect([4, 6].map((family) => tunnelMTU(1500, "vxlan", family === 4 ? 4 : 6, SETTINGS))).toEqual([1450, 1430]);
  expect(tunnelMTU(1500, "vxlan", 4, { ...SETTINGS, vxlanMTU: 1600, vxlanMTUV6: 1 })).toBe(1600);
});

test("podMTU() fits every encapsulation in use", () => {
  expect(podMTU(1500, [], SETTINGS)).toBe(1500);
  expect(podMTU(1500, ["none 4", "none 6"], SETTINGS)).toBe(1500);
  expect(podMTU(1500, ["none 4", "vxlan 4"], SETTINGS)).toBe(1450);
  expect(podMTU(1500, ["ipip 4", "none 6"], SETTINGS)).toBe(1480);
  expect(podMTU(9000, ["vxlan 4", "vxlan 6"], SETTINGS)).toBe(8930);
  expect(podMTU(1500, ["vxlan 6"], { ...SETTINGS, vxlanMTUV6: 1300 })).toBe(1300);
  // Somebody who sets it knows the links better than their MTU says.
  expect(podMTU(1500, ["vxlan 4"], { ...SETTINGS, vxlanMTU: 8950 })).toBe(8950);
  expect(podMTU(1500, ["vxlan 4", "ipip 4"], { ...SETTINGS, vxlanMTU: 8950 })).toBe(1480);
});

test("largeTunnels() names a configured MTU that the links do not carry, of an encapsulation in use", () => {
  const settings = { ...SETTINGS, vxlanMTU: 1460, vxlanMTUV6: 1460, ipipMTU: 1480 };
  expect(largeTunnels(1500, ["none 4", "vxlan 4", "ipip 4"], settings).map(({ message }) => message)).toEqual([
    "vxlanMTU is 1460, and what fits the links between nodes is 1450: large packets to other nodes are lost, unless these links carry more than their MTU says; correct vxlanMTU, or mtuIfacePattern",
  ]);
  expect(largeTunnels(1500, ["vxlan 6"], settings).map(({ subject }) => subject)).toEqual(["vxlanMTUV6"]);
  expect(largeTunnels(1500, ["vxlan 4", "vxlan 6", "ipip 4"], SETTINGS)).toEqual([]);
  expect(largeTunnels(1600, ["vxlan 4", "vxlan 6", "ipip 4"], settings)).toEqual([]);
});

test("largePods() names one pod, counts the others, and is silent while the MTU is not known", () => {
  const there = links({ cali1: 1500, cali2: 1450, cali3: 1500, eth0: 9000 });
  expect(largePods(there, 1450).map(({ message }) => message)).toEqual([
    "Pod interface cali1 and 1 more have an MTU of 1500, and 1450 fits between nodes: large packets to other nodes are lost; delete these pods, so that they are made anew",
  ]);
  expect(largePods(there, 1500)).toEqual([]);
  expect(largePods(there, 0)).toEqual([]);
});
