// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseIP } from "../../net/ip.ts";
import { combine, patchFor, type Wish, wishKey } from "./wish.ts";

const pod = { namespace: "default", name: "web-0", uid: "u1" };
const ips = [parseIP("10.0.0.1"), parseIP("fd00::1")];
const attached = (containerID: string): Wish => ({ pod, sandbox: { containerID, ips } });
const detached = (...gone: string[]): Wish => ({ pod, gone });
const state = (annotations: Record<string, string>, uid = "u1") => ({ uid, resourceVersion: "7", annotations });

describe("patchFor() a sandbox that is attached", () => {
  test("writes the first address, all addresses and the container, with the UID alone as precondition", () => {
    expect(patchFor(attached("c1"), undefined)).toEqual({
      uid: "u1",
      annotations: {
        "cni.projectcalico.org/podIP": "10.0.0.1/32",
        "cni.projectcalico.org/podIPs": "10.0.0.1/32,fd00::1/128",
        "cni.projectcalico.org/containerID": "c1",
      },
    });
  });

  test("takes a pod over from another sandbox, and writes nothing to another pod of that name", () => {
    expect(patchFor(attached("c2"), state({ "cni.projectcalico.org/containerID": "c1" }))).toBeDefined();
    expect(patchFor(attached("c2"), state({}, "u2"))).toBeUndefined();
  });
});

describe("patchFor() a static pod, which the runtime knows by the kubelet's UID", () => {
  const mirror = state({ "kubernetes.io/config.mirror": "u1" }, "m1");

  test("writes to its mirror, under the mirror's UID", () => {
    expect(patchFor(attached("c1"), mirror)).toMatchObject({ uid: "m1" });
    expect(patchFor(detached("c1"), mirror)).toMatchObject({ uid: "m1" });
  });

  test("writes nothing to the mirror of another", () => {
    expect(patchFor(attached("c1"), state({ "kubernetes.io/config.mirror": "u2" }, "m1"))).toBeUndefined();
  });
});

describe("patchFor() a sandbox that is gone", () => {
  const empty = { "cni.projectcalico.org/podIP": "", "cni.projectcalico.org/podIPs": "" };
  const written = {
    "cni.projectcalico.org/podIP": "10.0.0.1/32",
    "cni.projectcalico.org/podIPs": "10.0.0.1/32",
    "cni.projectcalico.org/containerID": "c1",
  };

  test("makes the addresses empty and leaves the container, with UID and resourceVersion as preconditions", () => {
    const patch = { uid: "u1", resourceVersion: "7", annotations: empty };
    expect(patchFor(detached("c1"), state(written))).toEqual(patch);
    expect(patchFor(detached("c0", "c1"), state(written))).toEqual(patch);
    // A pod that never got its annotations counts as finished by the empty text, too.
    expect(patchFor(detached("c1"), state({}))).toEqual(patch);
  });

  test.each([
    ["another container has the pod", state({ ...written, "cni.projectcalico.org/containerID": "c2" })],
    ["another pod has the name", state(written, "u2")],
    ["it is empty already", state({ ...written, ...empty })],
    ["nobody has read the pod", undefined],
  ])("writes nothing when %s", (_why, found) => {
    expect(patchFor(detached("c1"), found)).toBeUndefined();
  });
});

describe("combine()", () => {
  test("keeps a newer sandbox when the DEL of the old one comes late", () => {
    expect(combine(attached("c2"), detached("c1"))).toEqual(attached("c2"));
    expect(combine(detached("c1"), attached("c2"))).toEqual(attached("c2"));
  });

  test("writes a sandbox that came and went in one, over whichever was written before", () => {
    const both = combine(attached("c2"), detached("c2"));
    expect(both).toEqual({ pod, sandbox: { containerID: "c2", ips: [] } });
    expect(patchFor(both, undefined)).toEqual({
      uid: "u1",
      annotations: {
        "cni.projectcalico.org/podIP": "",
        "cni.projectcalico.org/podIPs": "",
        "cni.projectcalico.org/containerID": "c2",
      },
    });
  });

  test("remembers all sandboxes that went", () => {
    expect([detached("c1"), detached("c2"), detached("c1")].reduce(combine)).toEqual(detached("c1", "c2"));
  });
});

test("wishKey() tells pods of one name and different UIDs apart", () => {
  expect(wishKey(attached("c1"))).not.toBe(wishKey({ pod: { ...pod, uid: "u2" }, gone: [] }));
});
