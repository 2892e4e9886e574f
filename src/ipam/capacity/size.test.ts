// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import { planSize } from "./size.ts";

const v4 = (cidr: string, blockSize: number) => ({ cidr: parseCIDR(cidr), family: 4 as const, blockSize });
const ask = { podsPerNode: 110, maxBlocksPerHost: 0 };

describe("planSize()", () => {
  it("counts blocks, addresses and nodes", () => {
    expect(planSize({ ...ask, pool: v4("10.0.0.0/16", 26), nodes: 512 })).toEqual({
      pool: "10.0.0.0/16",
      blockSize: 26,
      addresses: 65_536,
      blocks: 1024,
      addressesPerBlock: 64,
      podsPerNode: 110,
      blocksPerNode: 2,
      blockLimit: 20,
      maxNodes: 512,
      fits: true,
      warnings: ["110 pods need 2 blocks of 64 addresses a node; 18 of their 128 addresses stay free on a full node"],
    });
  });

  it("has nothing to say of a pool that is right", () => {
    const plan = planSize({ ...ask, podsPerNode: 64, pool: v4("10.0.0.0/16", 26), nodes: 1024 });
    expect(plan).toMatchObject({ fits: true, warnings: [], maxNodes: 1024 });
  });

  it("says how many nodes get no block", () => {
    const plan = planSize({ ...ask, podsPerNode: 10, pool: v4("10.0.0.0/24", 28), nodes: 20 });
    expect(plan).toMatchObject({ fits: false, maxNodes: 16 });
    expect(plan.warnings.join()).toContain("16 blocks for 20 nodes: 4 get none");
  });

  it("says when blocks run out as nodes fill", () => {
    const plan = planSize({ ...ask, pool: v4("10.0.0.0/20", 26), nodes: 40 });
    expect(plan).toMatchObject({ fits: false, maxNodes: 32 });
    expect(plan.warnings.join()).toContain(
      "40 full nodes want 80 blocks, and there are 64: once 32 are full, the other 8",
    );
  });

  it("says when a node's limit of blocks is below its pods", () => {
    const plan = planSize({ ...ask, pool: v4("10.0.0.0/16", 30) });
    expect(plan).toMatchObject({ fits: false, blocksPerNode: 28, maxNodes: Math.floor(16_384 / 20) });
    expect(plan.warnings).toEqual([expect.stringContaining("80 pods a node; raise maxBlocksPerHost")]);
    expect(planSize({ ...ask, maxBlocksPerHost: 30, pool: v4("10.0.0.0/16", 30) }).fits).toBe(true);
  });

  it("counts IPv6 beyond 2^53", () => {
    const pool = { cidr: parseCIDR("fd00::/48"), family: 6 as const, blockSize: 122 };
    expect(planSize({ ...ask, pool })).toMatchObject({ blocks: 2 ** 74, addresses: 2 ** 80, fits: true });
  });
});
