// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { Node } from "../../crds/core.ts";
import { fakeNode } from "../fake-resources.ts";
import { type NodeClaims, planCondition, planNodeStatus, replacedAddresses } from "./node-status.ts";
import { projectNode, sameNode } from "./projections.ts";

const NOW = "2026-07-28T12:00:00Z";
const CLAIMS = { addresses: { 4: "192.0.2.1/24" } };

function nodeWith(conditions: readonly object[], annotations?: Record<string, string>): Node {
  const node = fakeNode("node-a", ["192.0.2.1"], annotations);
  const status = { ...node.status, conditions, nodeInfo: { kernelVersion: "6.18" } };
  return { ...node, metadata: { ...node.metadata, resourceVersion: "7", labels: { zone: "a" } }, status };
}

describe("planCondition()", () => {
  const ready = { type: "Ready", status: "True" };

  test("makes the network available, and keeps everything else", () => {
    const unavailable = { type: "NetworkUnavailable", status: "True", reason: "NoRouteCreated" };
    const node = nodeWith([unavailable, ready], { other: "x" });
    expect(planCondition(node, true, NOW)).toEqual({
      ...node,
      status: {
        ...node.status,
        conditions: [
          ready,
          {
            type: "NetworkUnavailable",
            status: "False",
            reason: "GinghamIsUp",
            message: "Gingham is running on this node",
            lastHeartbeatTime: NOW,
            lastTransitionTime: NOW,
          },
        ],
      },
    });
  });

  test("is undefined when the node says it already, whoever said it", () => {
    const calico = { type: "NetworkUnavailable", status: "False", reason: "CalicoIsUp" };
    expect(planCondition(nodeWith([calico]), true, NOW)).toBeUndefined();
    const down = planCondition(nodeWith([ready, calico]), false, NOW);
    expect(down?.status).toMatchObject({
      conditions: [ready, { type: "NetworkUnavailable", status: "True", reason: "GinghamIsDown" }],
    });
    expect(down && planCondition(down, false, NOW)).toBeUndefined();
    expect(planCondition(nodeWith([]), true, NOW)).toBeDefined();
  });
});

function plan(node: Node, claims: NodeClaims): Node | undefined {
  return planNodeStatus(node, claims, NOW);
}

describe("planNodeStatus()", () => {
  test("adds the annotation, and keeps everything else", () => {
    const node = nodeWith([{ type: "NetworkUnavailable", status: "True" }], { other: "x" });
    const next = plan(node, CLAIMS);
    expect(next).toEqual({
      ...node,
      metadata: {
        ...node.metadata,
        annotations: { other: "x", "projectcalico.org/IPv4Address": "192.0.2.1/24" },
      },
    });
    expect(next && plan(next, CLAIMS)).toBeUndefined();
  });

  test("says the MTU of the links between nodes, and again only when it is another", () => {
    const first = plan(nodeWith([]), { addresses: {}, linkMTUBytes: 9000 });
    expect(first?.metadata.annotations).toEqual({ "gingham.dev/link-mtu": "9000" });
    expect(first && plan(first, { addresses: {}, linkMTUBytes: 9000 })).toBeUndefined();
    const next = first && plan(first, { addresses: {}, linkMTUBytes: 1500 });
    expect(next?.metadata.annotations).toEqual({ "gingham.dev/link-mtu": "1500" });
    expect(first && plan(first, { addresses: {} })).toBeUndefined();
  });

  test("a problem is a condition beside the others, from when it came, and goes with it", () => {
    const others = [
      { type: "Ready", status: "True" },
      { type: "NetworkUnavailable", status: "False" },
    ];
    const has = (message?: string): NodeClaims => ({
      addresses: {},
      ...(message === undefined ? {} : { encapsulationUnsupported: message }),
    });
    const told = plan(nodeWith(others), has("no IP-in-IP"));
    const condition = {
      type: "EncapsulationUnsupported",
      status: "True",
      reason: "KernelWithoutIPIP",
      message: "no IP-in-IP",
      lastHeartbeatTime: NOW,
      lastTransitionTime: NOW,
    };
    expect(told?.status).toMatchObject({ conditions: [...others, condition] });
    const later = told && planNodeStatus(told, has("no IP-in-IP at all"), "2026-07-28T13:00:00Z");
    expect(later?.status).toMatchObject({
      conditions: [
        ...others,
        { ...condition, message: "no IP-in-IP at all", lastHeartbeatTime: "2026-07-28T13:00:00Z" },
      ],
    });
    expect(later && plan(projectNode(later), has("no IP-in-IP at all"))).toBeUndefined();
    expect(later && plan(later, has())?.status).toMatchObject({ conditions: others });
    expect(plan(nodeWith(others), has())).toBeUndefined();
  });

  test("leaves the annotation of a family without an address alone", () => {
    const annotations = { "projectcalico.org/IPv6Address": "2001:db8::1/64" };
    const next = plan(nodeWith([], annotations), CLAIMS);
    expect(next?.metadata.annotations).toMatchObject(annotations);
  });
});

describe("planNodeStatus() and replacedAddresses()", () => {
  test("an empty claim takes the annotation away", () => {
    const node = nodeWith([], { "projectcalico.org/IPv4Address": "192.0.2.1/24", other: "x" });
    const next = plan(node, { addresses: { 4: "", 6: "" } });
    expect(next?.metadata.annotations).toEqual({ other: "x" });
    expect(next && plan(next, { addresses: { 4: "", 6: "" } })).toBeUndefined();
  });

  test("tell of another address, and not of another length or a first one", () => {
    const node = nodeWith([], { "projectcalico.org/IPv4Address": "192.0.2.1/24" });
    const replaced = (text: string) => replacedAddresses(node, { addresses: { 4: text, 6: "2001:db8::1/64" } });
    expect(replaced("192.0.2.9/24")).toEqual([
      { annotation: "projectcalico.org/IPv4Address", before: "192.0.2.1", after: "192.0.2.9", variable: "IP" },
    ]);
    expect(replaced("")).toMatchObject([{ after: "none" }]);
    expect(replaced("192.0.2.1/16")).toEqual([]);
  });
});

describe("projectNode()", () => {
  test("keeps what planNodeStatus() and addresses need, and drops the rest", () => {
    const node = nodeWith(
      [
        { type: "Ready", status: "True" },
        { type: "NetworkUnavailable", status: "True" },
      ],
      { other: "x", "projectcalico.org/IPv4Address": "192.0.2.1/24" },
    );
    const taints = [{ key: "a", effect: "NoSchedule" }];
    expect(projectNode({ ...node, spec: { taints } })).toEqual({
      apiVersion: "v1",
      kind: "Node",
      metadata: {
        name: "node-a",
        resourceVersion: "7",
        annotations: { "projectcalico.org/IPv4Address": "192.0.2.1/24" },
      },
      spec: { taints: [{ key: "a", effect: "NoSchedule" }] },
      status: {
        addresses: [{ type: "InternalIP", address: "192.0.2.1" }],
        conditions: [{ type: "NetworkUnavailable", status: "True" }],
      },
    });
  });

  test("sameNode() sees a changed condition or address, and no heartbeat", () => {
    const beat = (time: string) =>
      projectNode(nodeWith([{ type: "NetworkUnavailable", status: "False", lastHeartbeatTime: time }]));
    expect(sameNode(beat("1"), beat("2"))).toBe(true);
    expect(sameNode(beat("1"), projectNode(nodeWith([])))).toBe(false);
    const unsupported = (message: string) =>
      projectNode(nodeWith([{ type: "EncapsulationUnsupported", status: "True", message }]));
    expect(sameNode(unsupported("a"), unsupported("b"))).toBe(false);
    const tainted = { ...nodeWith([]), spec: { taints: [{ key: "a", effect: "NoExecute" }] } };
    expect(sameNode(projectNode(tainted), projectNode(nodeWith([])))).toBe(false);
    expect(sameNode(projectNode(fakeNode("n", ["192.0.2.1"])), projectNode(fakeNode("n", ["192.0.2.2"])))).toBe(false);
  });
});
