// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { planPods } from "./plan-pods.ts";
import { findGaps } from "./routes.ts";

test("planPods() deals the pods out to the nodes in turn", () => {
  const plan = planPods(5, ["node-1", "node-2"]);
  expect(plan.map(({ name, node }) => `${name} ${node}`)).toEqual([
    "pod-1 node-1",
    "pod-2 node-2",
    "pod-3 node-1",
    "pod-4 node-2",
    "pod-5 node-1",
  ]);
  expect(plan.filter(({ hostPort }) => hostPort !== undefined).map(({ name }) => name)).toEqual(["pod-1"]);
  expect(plan.filter(({ bandwidth }) => bandwidth !== undefined).map(({ name }) => name)).toEqual(["pod-2"]);
});

const TABLES = new Map([
  ["node-1", ["default via 172.30.0.1 dev eth0", "blackhole 192.168.0.0/26 proto 80"]],
  ["node-2", ["192.168.0.0/26 via 172.30.0.11 dev eth0 proto 80", "blackhole 192.168.0.64/26 proto 80"]],
]);

test("findGaps() names each node that does not know a block", () => {
  expect(findGaps(TABLES, ["192.168.0.0/26"])).toEqual([]);
  expect(findGaps(TABLES, ["192.168.0.0/26", "192.168.0.64/26"])).toEqual([
    "node-1 has no route for block 192.168.0.64/26",
  ]);
});

test("findGaps() does not take a longer prefix for the block", () => {
  expect(findGaps(new Map([["node-1", ["192.168.0.0/260 dev x"]]]), ["192.168.0.0/26"])).toHaveLength(1);
});

test("findGaps() asks for no route to a block of one address, which is the pod's own", () => {
  expect(findGaps(new Map([["node-1", []]]), ["192.168.0.7/32", "fd00::7/128"])).toEqual([]);
  expect(findGaps(new Map([["node-1", []]]), ["fd00::40/122"])).toEqual(["node-1 has no route for block fd00::40/122"]);
});
