// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { ownerOfRoute } from "./ownership.ts";
import type { KernelRoute } from "./ports.ts";

const LINKS = new Map([
  [2, "eth0"],
  [11, "cali0123456789a"],
]);
const base = { dst: parseCIDR("10.0.0.5/32"), metric: 0, protocol: 80, onlink: false, scope: "universe" } as const;
const toPod: KernelRoute = { ...base, type: "unicast", ifIndex: 11 };
const toNode: KernelRoute = { ...base, type: "unicast", ifIndex: 2, gateway: parseIP("192.0.2.2"), onlink: true };

describe("ownerOfRoute()", () => {
  const cases: readonly [string, KernelRoute, "workload" | "cluster" | "foreign"][] = [
    ["protocol 80 on a pod's link", toPod, "workload"],
    ["protocol 80 on a link that is not known", { ...toPod, ifIndex: 99 }, "workload"],
    ["protocol 80 over the node's link", toNode, "cluster"],
    ["a blackhole of protocol 80", { ...base, type: "blackhole" }, "cluster"],
    ["protocol 80 without a device", { ...base, type: "unicast" }, "cluster"],
    ["Calico's route to a pod (boot)", { ...toPod, protocol: 3 }, "foreign"],
    ["the kernel's own route on a pod's link", { ...toPod, protocol: 2 }, "foreign"],
    ["an administrator's route", { ...toNode, protocol: 4 }, "foreign"],
    ["BIRD's blackhole", { ...base, type: "blackhole", protocol: 12 }, "foreign"],
  ];
  for (const [name, route, owner] of cases) {
    test(`calls ${name} ${owner}`, () => {
      expect(ownerOfRoute(route, (ifIndex) => LINKS.get(ifIndex))).toBe(owner);
    });
  }
});
