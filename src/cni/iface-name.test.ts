// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { handleIDOf, hostIfaceOf, type Owner } from "./iface-name.ts";

const pod = { namespace: "default", name: "web-0" };
const owner: Owner = { network: "net", containerID: "c1", ifName: "eth0", nodeName: "node-a" };

describe("hostIfaceOf()", () => {
  it("is Calico's name for eth0 of a pod, whatever node, network and sandbox", () => {
    // printf default.web-0 | sha1sum
    expect(hostIfaceOf({ ...owner, pod })).toBe("cali0d7763386da");
    expect(hostIfaceOf({ network: "x", containerID: "y", ifName: "eth0", nodeName: "z", pod })).toBe("cali0d7763386da");
  });

  it("fits the kernel, and differs by interface, node and container", () => {
    const names = [
      owner,
      { ...owner, pod },
      { ...owner, pod, ifName: "net1" },
      { ...owner, nodeName: "node-b" },
      { ...owner, containerID: "c2" },
      { ...owner, ifName: "eth1" },
    ].map(hostIfaceOf);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^cali[0-9a-f]{11}$/);
  });
});

describe("handleIDOf()", () => {
  it("is <network>.<containerID> for eth0 of a pod", () => {
    expect(handleIDOf({ ...owner, network: "k8s-pod-network", pod })).toBe("k8s-pod-network.c1");
  });

  it("belongs to one attachment of one machine", () => {
    const ids = [
      { ...owner, pod },
      { ...owner, pod, ifName: "net1" },
      owner,
      { ...owner, nodeName: "node-b" },
      { ...owner, containerID: "c2" },
      { ...owner, network: "other" },
    ].map(handleIDOf);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it.each([
    { ...owner, pod, network: "my_net" },
    { ...owner, pod, containerID: "c1." },
    { ...owner, pod, containerID: "a".repeat(230), network: "b".repeat(40) },
    { ...owner, network: "n".repeat(230) },
  ])("can always name an object: %j", (odd) => {
    expect(handleIDOf(odd).toLowerCase()).toMatch(/^[a-z0-9.-]{1,253}$/);
  });
});
