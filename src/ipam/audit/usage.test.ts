// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { affinityOf, blockOf, podAttributes } from "../gc/fake-cluster.ts";
import { BLOCK_A, changed, poolOf, reservationOf, SOUND, snapshotOf } from "./fake-snapshot.ts";
import { borrowedAddresses, type Usage, usageOf } from "./usage.ts";

const counts = ({ total, inUse, cooling, reserved, free }: Usage): string =>
  `${total} = ${inUse} + ${cooling} + ${reserved} + ${free}`;

describe("usageOf()", () => {
  it("counts in use, cooling, reserved and free, of blocks and of their pool", () => {
    const block = changed(BLOCK_A, {
      allocations: [0, 1, null, null],
      unallocated: [2, 3],
      attributes: [...BLOCK_A.spec.attributes, { releasedAt: "2026-08-22T10:39:00Z" }],
    });
    // One of the reserved addresses is in use, one is free in a block, and four are in no block yet.
    const reservations = [reservationOf("r", "10.0.0.0", "10.0.0.2", "10.0.0.8/30", "10.0.0.9", "192.0.2.0/24")];
    const { pools } = usageOf(snapshotOf({ blocks: [block], reservations, pools: [poolOf("pool", "10.0.0.0/28")] }));
    expect(pools.map(counts)).toEqual(["16 = 1 + 1 + 5 + 9"]);
    expect(pools[0]?.blocks.map(counts)).toEqual(["4 = 1 + 1 + 1 + 1"]);
  });

  it("counts a pool that is reserved as a whole", () => {
    const { pools } = usageOf(snapshotOf({ reservations: [reservationOf("r", "10.0.0.0/8")] }));
    expect(pools.map(counts)).toEqual(["65536 = 1 + 0 + 65535 + 0"]);
  });

  it("counts reserved addresses once where blocks overlap", () => {
    const blocks = [blockOf("10.0.0.0/28", "node-a"), blockOf("10.0.0.4/30", undefined)];
    const reservations = [reservationOf("r", "10.0.0.4/30")];
    const { pools } = usageOf(snapshotOf({ blocks, reservations }));
    expect(pools[0]?.reserved).toBe(8n);
  });

  it("is exact for pools beyond 2^53 addresses", () => {
    const blocks = [blockOf("fd00::/122", "node-a", [{ handleID: "net.a", attributes: podAttributes("node-a", "a") }])];
    const { pools } = usageOf(snapshotOf({ blocks, pools: [poolOf("six", "fd00::/64")] }));
    expect(pools.map(counts)).toEqual([`${2n ** 64n} = 1 + 0 + 0 + ${2n ** 64n - 1n}`]);
  });

  it("puts blocks into the smallest pool around them, in the order of addresses, and tells those in none", () => {
    const blocks = ["10.0.0.64/26", "10.0.0.0/26", "192.0.2.0/26"].map((cidr) => blockOf(cidr, "node-a"));
    const pools = [poolOf("wide", "10.0.0.0/8"), poolOf("near", "10.0.0.0/16")];
    const usage = usageOf(snapshotOf({ blocks, pools, affinities: [] }));
    expect(usage.pools.map(({ pool, blocks: own }) => [pool, own.map(({ cidr }) => cidr)])).toEqual([
      ["wide", []],
      ["near", ["10.0.0.0/26", "10.0.0.64/26"]],
    ]);
    expect(usage.outside.map(({ cidr }) => cidr)).toEqual(["192.0.2.0/26"]);
  });

  it("tells the state of a block's claim, and of a block without one", () => {
    const blocks = ["10.0.0.0/30", "10.0.0.4/30", "10.0.0.8/30"].map((cidr) => blockOf(cidr, "node-a"));
    const affinities = [affinityOf("node-a", "10.0.0.0/30", "pending"), affinityOf("node-b", "10.0.0.4/30")];
    const [pool] = usageOf(snapshotOf({ blocks, affinities })).pools;
    expect(pool?.blocks.map(({ state }) => state)).toEqual(["pending", undefined, undefined]);
  });
});

describe("borrowedAddresses()", () => {
  it("tells who uses an address of another node's block, or of nobody's", () => {
    const holders = ["node-a", "node-b"].map((node) => ({
      handleID: `net.${node}`,
      attributes: podAttributes(node, "p"),
    }));
    const tunnel = { handleID: "t", attributes: { node: "node-c", type: "vxlanTunnelAddress" } };
    const blocks = [blockOf("10.0.0.4/30", undefined, [tunnel]), blockOf("10.0.0.0/30", "node-a", holders)];
    expect(borrowedAddresses(snapshotOf({ blocks }))).toEqual([
      {
        address: "10.0.0.1",
        node: "node-b",
        block: "10.0.0.0/30",
        owner: "host:node-a",
        type: "pod",
        allocatedTo: "default/p",
      },
      { address: "10.0.0.4", node: "node-c", block: "10.0.0.4/30", type: "vxlanTunnelAddress", allocatedTo: "t" },
    ]);
    expect(borrowedAddresses(SOUND)).toEqual([]);
  });
});
