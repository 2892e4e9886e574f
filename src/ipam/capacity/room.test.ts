// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { effectiveIPPool, type IPPoolSpec, parseIPPool } from "../../crds/ip-pool.ts";
import { DEFAULT_IPAM_CONFIG, type IPAMConfigSpec } from "../../crds/ipam-config.ts";
import { affinityOf, blockOf, podAttributes } from "../gc/fake-cluster.ts";
import { type CapacitySnapshot, clusterRoom } from "./room.ts";

const pool = (name: string, spec: Partial<IPPoolSpec> & { cidr: string }) =>
  effectiveIPPool(parseIPPool({ metadata: { name }, spec }));
const node = (name: string, labels: Record<string, string> = {}, maxPods = 110) => ({ name, labels, maxPods });
const pods = (node: string, count: number) =>
  Array.from({ length: count }, (_, i) => ({
    handleID: `net.${node}${i}`,
    attributes: podAttributes(node, `${node}${i}`),
  }));

function snapshot(parts: Partial<CapacitySnapshot>, config: Partial<IPAMConfigSpec> = {}): CapacitySnapshot {
  return {
    takenMs: 0,
    blocks: [],
    affinities: [],
    pools: [pool("main", { cidr: "10.0.0.0/28", blockSize: 30 })],
    reservations: [],
    config: { ...DEFAULT_IPAM_CONFIG, ...config },
    ...parts,
  };
}

/** Of the four blocks of four, node a has one with three pods, node b one that is full, and nobody the others. */
const shared = {
  blocks: [blockOf("10.0.0.0/30", "a", pods("a", 3)), blockOf("10.0.0.4/30", "b", pods("b", 4))],
  affinities: [affinityOf("a", "10.0.0.0/30"), affinityOf("b", "10.0.0.4/30")],
};

describe("clusterRoom()", () => {
  it("tells own, claimable and borrowable addresses apart", () => {
    const { nodes, pools, warnings } = clusterRoom(snapshot(shared), [node("b"), node("a")]);
    const common = { family: 4, maxPods: 110, ownBlocks: 1, blockLimit: 20, claimableBlocks: 2, claimable: 8 };
    expect(nodes).toEqual([
      { node: "a", ...common, own: 1, borrowable: 0, total: 9 },
      { node: "b", ...common, own: 0, borrowable: 1, total: 9 },
    ]);
    expect(pools).toMatchObject([{ freeInBlocks: 1, unclaimed: { blocks: 2, addresses: 8 }, nodes: 2 }]);
    expect(warnings).toEqual([]);
  });

  it("lets a node at its limit neither claim nor borrow", () => {
    const { nodes, warnings } = clusterRoom(snapshot(shared, { maxBlocksPerHost: 1 }), [node("a"), node("b")]);
    expect(nodes.map(({ total }) => total)).toEqual([1, 0]);
    expect(warnings).toEqual(["Node b has no IPv4 address for another pod: it has 1 of 1 blocks, its limit"]);
  });

  it("lets nobody borrow under strictAffinity, and claim without autoAllocateBlocks", () => {
    const strict = clusterRoom(snapshot(shared, { strictAffinity: true }), [node("b")]);
    expect(strict.nodes).toMatchObject([{ claimable: 8, borrowable: 0, total: 8 }]);
    const closed = clusterRoom(snapshot(shared, { strictAffinity: true, autoAllocateBlocks: false }), [node("a")]);
    expect(closed.nodes).toMatchObject([{ claimable: 0, borrowable: 0, total: 1 }]);
  });

  it("says how many nodes get no block", () => {
    const nodes = ["a", "b", "c", "d", "e"].map((name) => node(name));
    expect(clusterRoom(snapshot(shared), nodes).warnings).toEqual([
      "3 nodes have no IPv4 block yet, and 2 are left: 1 of them can only borrow",
    ]);
    expect(clusterRoom(snapshot(shared, { strictAffinity: true }), nodes).warnings.join()).toContain("strictAffinity");
  });

  it("goes by node selectors, and leaves out what not every pod may use", () => {
    const pools = [
      pool("east", { cidr: "10.0.0.0/28", blockSize: 30, nodeSelector: 'zone == "east"' }),
      pool("west", { cidr: "10.0.1.0/28", blockSize: 30, nodeSelector: 'zone == "west"' }),
      pool("team", { cidr: "10.0.2.0/28", blockSize: 30, namespaceSelector: 'team == "x"' }),
      pool("hand", { cidr: "10.0.3.0/28", blockSize: 30, assignmentMode: "Manual" }),
      pool("off", { cidr: "10.0.4.0/28", blockSize: 30, disabled: true }),
      pool("tunnel", { cidr: "10.0.5.0/28", blockSize: 30, allowedUses: ["Tunnel"] }),
    ];
    const nodes = [node("a", { zone: "east" }), node("b", { zone: "west" }), node("c")];
    const room = clusterRoom(snapshot({ ...shared, pools }), nodes);
    // Node b's block is in a pool that is not its own any more.
    expect(room.nodes.map(({ ownBlocks, total }) => [ownBlocks, total])).toEqual([
      [1, 9],
      [0, 16],
      [0, 0],
    ]);
    expect(room.pools.map((one) => [one.pool.name, one.nodes, one.notCounted])).toEqual([
      ["east", 1, undefined],
      ["west", 1, undefined],
      ["team", 3, 'for namespaces with team == "x" only'],
      ["hand", 3, "assigned by hand only"],
      ["off", 3, "not enabled"],
      ["tunnel", 3, "for Tunnel only"],
    ]);
    expect(room.warnings).toEqual(["Node c has no IPv4 address for another pod: its pools are full"]);
  });

  it("leaves reserved addresses, damaged blocks and load balancers' blocks out", () => {
    const reservations = [
      {
        apiVersion: "crd.projectcalico.org/v1",
        kind: "IPReservation",
        metadata: { name: "r" },
        spec: { reservedCIDRs: ["10.0.0.3", "10.0.0.8/30"] },
      },
    ];
    const broken = blockOf("10.0.0.4/30", "b");
    const blocks = [
      blockOf("10.0.0.0/30", "a"),
      { ...broken, spec: { ...broken.spec, unallocated: [0, 0, 1, 2] } },
      {
        ...blockOf("10.0.0.12/30", undefined),
        spec: { ...blockOf("10.0.0.12/30", undefined).spec, affinity: "virtual:lb" },
      },
    ];
    const room = clusterRoom(snapshot({ ...shared, blocks, reservations }), [node("a"), node("b")]);
    expect(room.nodes.map(({ own, claimable, borrowable }) => [own, claimable, borrowable])).toEqual([
      [3, 0, 0],
      [0, 3, 0],
    ]);
    expect(room.pools).toMatchObject([{ unclaimed: { blocks: 0, addresses: 0 } }]);
  });

  it("has a line for each family that has a pool", () => {
    const pools = [pool("v6", { cidr: "fd00::/64" }), ...snapshot({}).pools];
    const { nodes } = clusterRoom(snapshot({ pools }), [node("a")]);
    expect(nodes).toMatchObject([
      { family: 4, total: 16 },
      { family: 6, claimableBlocks: 20, total: 1280 },
    ]);
    expect(clusterRoom(snapshot({ pools: [] }), [node("a")]).nodes).toEqual([]);
  });
});
