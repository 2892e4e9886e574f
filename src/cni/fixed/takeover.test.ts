// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { type Claimant, type HolderFacts, kindOfHolder, stillHeld, whyKept } from "./takeover.ts";

const holder: HeldAddress = {
  ip: parseIP("10.0.0.5"),
  block: parseCIDR("10.0.0.0/26"),
  ordinal: 5,
  handleID: "net.old",
  sequenceNumber: 7n,
  attributes: { node: "node-1", namespace: "default", pod: "web-0", timestamp: "t" },
};
const me: Claimant = { pod: { namespace: "default", name: "web-0", uid: "new" }, nodeName: "node-2" };
const withAttributes = (attributes: Record<string, string>): HeldAddress => ({
  ...holder,
  attributes: { ...holder.attributes, ...attributes },
});

describe("kindOfHolder()", () => {
  it("tells an earlier life of the pod from everybody else", () => {
    expect(kindOfHolder(holder, me)).toBe("earlierElsewhere");
    expect(kindOfHolder(holder, { ...me, nodeName: "node-1" })).toBe("earlierHere");
    expect(kindOfHolder(withAttributes({ pod: "web-1" }), me)).toBe("other");
    expect(kindOfHolder(withAttributes({ namespace: "other" }), me)).toBe("other");
    expect(kindOfHolder(withAttributes({ type: "vxlanTunnelAddress" }), me)).toBe("other");
    expect(kindOfHolder(withAttributes({ "vmi-name": "vm" }), me)).toBe("other");
    expect(kindOfHolder(withAttributes({ "gingham-interface": "net1" }), me)).toBe("other");
    expect(kindOfHolder(holder, { nodeName: "node-2" })).toBe("other");
  });
});

describe("whyKept()", () => {
  const live = (uid: string, nodeName?: string): HolderFacts["livePod"] => ({
    uid,
    labels: {},
    annotations: {},
    ...(nodeName && { nodeName }),
  });
  const why = (livePod: HolderFacts["livePod"], isOutOfService = false, claimant = me): string =>
    whyKept(holder, claimant, { ...(livePod && { livePod }), isOutOfService }) ?? "taken over";

  it("gives the address to the pod that has the name now", () => {
    expect(why(live("new", "node-2"))).toBe("taken over");
    expect(why(live("new", "node-2"), false, { ...me, pod: { namespace: "default", name: "web-0" } })).toBe(
      "taken over",
    );
  });

  it("keeps it from a pod that is deleted itself, whatever became of the holder's node", () => {
    for (const lost of [false, true]) {
      expect(why(live("newer", "node-3"), lost)).toMatch(/is another one by now \(UID newer, on node node-3\)/);
      expect(why(live("newer", "node-2"), lost)).toMatch(/is another one by now/);
      expect(why(live("old", "node-1"), lost)).toMatch(/UID old, on node node-1/);
      expect(why(live("newer"), lost)).toMatch(/UID newer, not scheduled/);
    }
  });

  it("keeps it while the holder's pod is not deleted, unless its node is out of service", () => {
    const text =
      "it is taken over when pod default/web-0 is deleted there or node node-1 is marked out of service " +
      "(kubectl taint nodes node-1 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute)";
    // Whoever asked did not know the UID.
    const nameless: Claimant = { ...me, pod: { namespace: "default", name: "web-0" } };
    expect(why(live("old", "node-1"), false, nameless)).toBe(text);
    expect(why(undefined)).toBe(text);
    expect(why(live("old", "node-1"), true, nameless)).toBe("taken over");
    expect(why(undefined, true)).toBe("taken over");
  });
});

describe("stillHeld()", () => {
  it("is answered with try again, and names holder, node and the next step", () => {
    const error = stillHeld(holder, me, "wait");
    expect(error.cniCode).toBe(11);
    expect(error.message).toBe(
      "Address 10.0.0.5 of pod default/web-0 is still held by pod default/web-0 on node node-1 (handle net.old, block 10.0.0.0/26); wait; see gingham ipam show 10.0.0.5",
    );
  });
});
