// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { effectiveIPPool, parseIPPool } from "../../../crds/ip-pool.ts";
import { parseCIDR } from "../../../net/cidr.ts";
import { formatIP, parseIP } from "../../../net/ip.ts";
import { parseLease } from "./leases.ts";
import { describeImport, type ImportFacts, planImport } from "./plan.ts";

function pool(blockSize: number, cidr = "10.244.0.0/16"): ImportFacts["pools"][number] {
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name: "p" } };
  return effectiveIPPool(parseIPPool({ ...head, spec: { cidr, blockSize } }));
}

const LEASE = { network: "net", ip: parseIP("10.244.1.5"), containerID: "c1", ifName: "eth0" };
const BRIDGE = { subnet: parseCIDR("10.244.1.0/24"), gateway: parseIP("10.244.1.1"), link: "cni0" };
const FACTS: ImportFacts = {
  leases: [LEASE],
  namespaces: new Map([["10.244.1.5", "/run/netns/x"]]),
  isEnded: () => false,
  podOf: () => undefined,
  pools: [pool(24)],
  segments: [BRIDGE],
};

describe("parseLease()", () => {
  test.each([
    ["10.244.1.5", "c1\r\neth0", { containerID: "c1", ifName: "eth0" }],
    ["10.244.1.5", "c1\nnet1\n", { containerID: "c1", ifName: "net1" }],
    ["10.244.1.5", "c1", { containerID: "c1", ifName: "eth0" }],
    ["fd00::5", "c1\r\neth0", { containerID: "c1", ifName: "eth0" }],
  ])("reads %s with %j", (name, text, lease) => {
    const read = parseLease("net", name, text);
    expect(read).toMatchObject({ network: "net", ...lease });
    expect(read && formatIP(read.ip)).toBe(name);
  });

  test.each([
    ["lock", ""],
    ["last_reserved_ip.0", "10.244.1.5"],
    ["10.244.1.6", ""],
  ])("leaves %s out", (name, text) => expect(parseLease("net", name, text)).toBeUndefined());
});

describe("planImport()", () => {
  test("claims what a namespace has, for its pod and with its subnet", () => {
    const pod = { namespace: "default", name: "web" };
    expect(planImport({ ...FACTS, podOf: () => pod })).toEqual([
      { lease: LEASE, kind: "claim", netns: "/run/netns/x", pod, segment: BRIDGE },
    ]);
    // Of ptp, each address is by itself.
    expect(planImport({ ...FACTS, segments: [], pools: [pool(26)] })).toMatchObject([{ kind: "claim" }]);
  });

  test.each([
    [{ namespaces: new Map(), isEnded: () => true }, /^none: its container has gone/],
    [{ namespaces: new Map() }, /^none: no namespace has it/],
    [{ pools: [pool(24, "10.9.0.0/16")] }, /^no enabled IPPool has it: make one with blockSize 24$/],
    [
      { pools: [pool(26)] },
      /10\.244\.1\.0\/24 on cni0 as one subnet, and IPPool p has blocks of \/26: use a pool with blockSize 24/,
    ],
    [{ pools: [pool(20)] }, /blocks of \/20/],
  ] satisfies (readonly [Partial<ImportFacts>, RegExp])[])("claims nothing of %j", (change, reason) => {
    const [step] = planImport({ ...FACTS, ...change });
    expect(step?.kind).not.toBe("claim");
    expect(step && describeImport(step)).toMatch(reason);
  });
});
