// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { heldAddresses, ownerOf } from "./addresses.ts";
import { blockOf, nodeFacts, podAttributes, podFacts, viewOf } from "./fake-cluster.ts";
import type { ClusterView, Verdict } from "./types.ts";
import { verdictOf } from "./verdict.ts";

const HANDLE = "k8s-pod-network.abc";
const ALIVE = { "node-a": nodeFacts(), "node-b": nodeFacts() };

/** Verdict on 10.0.0.0, held with these attributes. */
function judge(view: ClusterView, attributes: Record<string, string>, handleID = HANDLE): Verdict {
  const [address] = heldAddresses(blockOf("10.0.0.0/30", "node-a", [{ handleID, attributes }]).spec);
  if (address === undefined) throw new Error("nothing is held");
  return verdictOf(address, ownerOf(address), view);
}

const pod = podAttributes("node-a", "web");
const only = (facts: ReturnType<typeof podFacts>): ClusterView => viewOf(ALIVE, { "default/web": facts });

describe("verdictOf() of a pod's address", () => {
  it.each<[string, ClusterView, Verdict]>([
    ["the pod is gone", viewOf(ALIVE), { kind: "leak", why: "podGone" }],
    ["it is scheduled elsewhere", only(podFacts("node-b", ["10.0.0.0"])), { kind: "leak", why: "podElsewhere" }],
    ["it is not scheduled", only(podFacts("", [])), { kind: "leak", why: "podElsewhere" }],
    ["it has no address yet", only(podFacts("node-a", [])), { kind: "keep", why: "podWithoutAddress" }],
    [
      "it has none yet but Calico's annotation",
      only(podFacts("node-a", ["10.0.0.9"], { hasIP: false })),
      { kind: "keep", why: "podWithoutAddress" },
    ],
    ["it has this address", only(podFacts("node-a", ["fd00::1", "10.0.0.0"])), { kind: "keep", why: "podHoldsIt" }],
    ["it has another address", only(podFacts("node-a", ["10.0.0.1"])), { kind: "leak", why: "notThePodsAddress" }],
    [
      "it has finished",
      only(podFacts("node-a", ["10.0.0.0"], { isFinished: true })),
      { kind: "leak", why: "podFinished" },
    ],
    [
      "it was evicted before it had an address",
      only(podFacts("node-a", [], { isFinished: true })),
      { kind: "leak", why: "podFinished" },
    ],
    [
      "it is gone, but its node calls the address in use",
      viewOf({ "node-a": nodeFacts({ inUse: ["10.0.0.0"] }) }),
      { kind: "keep", why: "nodeSaysInUse" },
    ],
    [
      "it is gone, and its node cannot be reached",
      viewOf({ "node-a": nodeFacts({ isUnreachable: true }) }),
      { kind: "keep", why: "nodeUnreachable" },
    ],
    [
      "it is gone, and its node is out of service",
      viewOf({ "node-a": nodeFacts({ isUnreachable: true, isOutOfService: true, inUse: ["10.0.0.0"] }) }),
      { kind: "leak", why: "podGone" },
    ],
    ["pod and node are gone", viewOf({ "node-b": nodeFacts() }), { kind: "leak", why: "podGone" }],
    [
      "the node is gone, the pod is not yet",
      viewOf({ "node-b": nodeFacts() }, { "default/web": podFacts("node-a", ["10.0.0.0"]) }),
      { kind: "keep", why: "podHoldsIt" },
    ],
    ["nobody keeps Node objects", viewOf({}), { kind: "keep", why: "nodeDecides" }],
  ])("when %s", (_, view, verdict) => {
    expect(judge(view, pod)).toEqual(verdict);
  });
});

describe("verdictOf() of other owners", () => {
  const elsewhere = viewOf({ "node-b": nodeFacts() });
  const segment = { node: "node-a", type: "ginghamSegment" };
  const tunnel = { node: "node-a", type: "vxlanTunnelAddress" };
  const attachment = { node: "node-a", "gingham-interface": "net1" };
  it.each<[string, Record<string, string>, string, ClusterView, Verdict]>([
    ["tunnel of a node", tunnel, "vxlan-tunnel-addr-node-a", viewOf(ALIVE), { kind: "keep", why: "nodeExists" }],
    ["segment of a node", segment, "gingham-segment.b", viewOf(ALIVE), { kind: "keep", why: "nodeExists" }],
    ["segment of a deleted node", segment, "gingham-segment.b", elsewhere, { kind: "leak", why: "nodeGone" }],
    ["tunnel of a deleted node", tunnel, "vxlan-tunnel-addr-node-a", elsewhere, { kind: "leak", why: "nodeGone" }],
    ["attachment of a node", attachment, "net.0123", viewOf(ALIVE), { kind: "keep", why: "nodeDecides" }],
    ["attachment of a deleted node", attachment, "net.0123", elsewhere, { kind: "leak", why: "nodeGone" }],
    ["attachment without any nodes", attachment, "net.0123", viewOf({}), { kind: "keep", why: "nodeDecides" }],
    ["Windows", {}, "windows-reserved-ipam-handle", elsewhere, { kind: "keep", why: "windows" }],
    ["no node", { namespace: "default", pod: "web" }, HANDLE, elsewhere, { kind: "keep", why: "unknownOwner" }],
    ["no pod", { node: "node-a" }, HANDLE, elsewhere, { kind: "keep", why: "unknownOwner" }],
    [
      "a service",
      { node: "node-a", type: "LoadBalancer", namespace: "default", service: "web" },
      "lb-Abc",
      elsewhere,
      { kind: "keep", why: "unknownOwner" },
    ],
    ["a virtual machine", { ...pod, "vmi-name": "vm" }, HANDLE, elsewhere, { kind: "keep", why: "unknownOwner" }],
    ["a VM's handle", pod, "k8s-pod-network.vmi.default.vm", elsewhere, { kind: "keep", why: "unknownOwner" }],
  ])("%s", (_, attributes, handleID, view, verdict) => {
    expect(judge(view, attributes, handleID)).toEqual(verdict);
  });

  it("a second owner keeps hands off", () => {
    const block = blockOf("10.0.0.0/30", "node-a", [{ handleID: HANDLE, attributes: pod }]);
    const attributes = block.spec.attributes.map((a) => ({ ...a, alternateOwnerAttrs: { node: "node-b" } }));
    const [address] = heldAddresses({ ...block.spec, attributes });
    expect(address && ownerOf(address)).toEqual({ kind: "unknown", node: "node-a" });
  });
});
