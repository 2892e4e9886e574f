// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { Node, Pod } from "../crds/core.ts";
import { parseGoDuration } from "../lib/go-duration.ts";
import { formatIP, parseIP } from "../net/ip.ts";
import { IN_USE_ANNOTATION, isSameRoom, projectNodeFacts, projectNodeRoom, projectPodFacts } from "./projections.ts";

describe("parseGoDuration()", () => {
  it.each([
    ["15m0s", 900_000],
    ["1h30m", 5_400_000],
    ["0", 0],
    ["0s", 0],
    ["1.5s", 1500],
    [".5s", 500],
    ["300ms", 300],
    ["2000000ns", 2],
    ["", undefined],
    ["15", undefined],
    ["-5m", undefined],
    ["5 m", undefined],
    ["soon", undefined],
  ])("%s", (text, ms) => {
    expect(parseGoDuration(text)).toBe(ms);
  });
});

describe("projectPodFacts()", () => {
  const pod = (parts: Partial<Pod>): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name: "web" }, ...parts });

  it("finds addresses in the status, in Calico's annotations and in Multus' network status", () => {
    const status = JSON.stringify([{ name: "net1", ips: ["10.9.0.1", "FD00::0:9"] }, { name: "net2" }]);
    const annotations = {
      "cni.projectcalico.org/podIP": "10.0.0.2/32",
      "cni.projectcalico.org/podIPs": "10.0.0.2/32,fd00::2/128",
      "k8s.v1.cni.cncf.io/network-status": status,
    };
    const facts = projectPodFacts(
      pod({
        metadata: { name: "web", annotations },
        spec: { nodeName: "node-a" },
        status: { phase: "Running", podIP: "10.0.0.1", podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] },
      }),
    );
    const addresses = ["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2", "10.9.0.1", "fd00::9"];
    expect(facts).toEqual({ nodeName: "node-a", isFinished: false, hasIP: true, addresses });
  });

  it.each([
    ["Succeeded", true],
    ["Failed", true],
    ["Pending", false],
  ])("phase %s", (phase, isFinished) => {
    expect(projectPodFacts(pod({ status: { phase } }))).toEqual({
      nodeName: "",
      isFinished,
      hasIP: false,
      addresses: [],
    });
  });

  it("takes annotations that cannot be read for none", () => {
    const annotations = { "k8s.v1.cni.cncf.io/network-status": "{", "cni.projectcalico.org/podIP": "x" };
    expect(projectPodFacts(pod({ metadata: { name: "web", annotations } })).addresses).toEqual([]);
  });
});

describe("projectNodeFacts()", () => {
  // Fields of core/v1 that Node's type leaves out.
  const node = (parts: object): Node => ({ apiVersion: "v1", kind: "Node", metadata: { name: "a" }, ...parts });
  const ready = (status: string) => ({ status: { conditions: [{ type: "Ready", status }] } });

  it.each([
    ["a kubelet that has fallen silent", ready("Unknown"), true],
    ["a kubelet that says no", ready("False"), false],
    ["a healthy kubelet", ready("True"), false],
    ["a machine without a kubelet", {}, false],
  ])("%s", (_, parts, isUnreachable) => {
    expect(projectNodeFacts(node(parts)).isUnreachable).toBe(isUnreachable);
  });

  it("knows the taint of a node that is out of service, and what its agent calls in use", () => {
    const taints = [{ key: "node.kubernetes.io/out-of-service", effect: "NoExecute" }];
    const metadata = { name: "a", annotations: { [IN_USE_ANNOTATION]: "10.0.0.1,FD00::1" } };
    expect(projectNodeFacts(node({ metadata, spec: { taints } }))).toEqual({
      isUnreachable: false,
      isOutOfService: true,
      inUse: ["10.0.0.1", "fd00::1"],
    });
  });
});

describe("projectNodeRoom()", () => {
  const room = (parts: object) =>
    projectNodeRoom({ apiVersion: "v1", kind: "Node", metadata: { name: "a" }, ...parts });

  it("has labels, and how many pods the kubelet allows", () => {
    expect(room({})).toEqual({ name: "a", labels: {}, addresses: [] });
    expect(room({ metadata: { name: "a", labels: { zone: "x" } }, status: { allocatable: { pods: "110" } } })).toEqual({
      name: "a",
      labels: { zone: "x" },
      maxPods: 110,
      addresses: [],
    });
    expect(room({ status: { allocatable: { pods: "1k" } } })).toEqual({ name: "a", labels: {}, addresses: [] });
  });

  it("has the node's own addresses, but not those that a virtual kubelet has of its pod", () => {
    const addresses = ["192.0.2.1", "2001:db8::1", "bad"].map((address) => ({ type: "InternalIP", address }));
    const status = { addresses: [...addresses, { type: "ExternalIP", address: "198.51.100.1" }] };
    expect(room({ status }).addresses.map(formatIP)).toEqual(["192.0.2.1", "2001:db8::1"]);
    expect(room({ metadata: { name: "a", labels: { type: "virtual-kubelet" } }, status }).addresses).toEqual([]);
  });
});

describe("isSameRoom()", () => {
  it("sees labels, pods and addresses, whatever the order of labels", () => {
    const a = { name: "a", labels: { x: "1", y: "2" }, maxPods: 110, addresses: [] };
    expect(isSameRoom(a, { ...a, addresses: [parseIP("192.0.2.1")] })).toBe(false);
    expect(isSameRoom(a, { ...a, labels: { y: "2", x: "1" } })).toBe(true);
    expect(isSameRoom(a, { ...a, labels: { x: "1" } })).toBe(false);
    expect(isSameRoom(a, { ...a, maxPods: 111 })).toBe(false);
  });
});
