// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEFAULT_IPAM_CONFIG } from "../../crds/ipam-config.ts";
import { request, type Setup, setUp } from "../fake-node.ts";
import { MemoryStore } from "../memory-store.ts";
import { clusterRoom } from "./room.ts";

const POOLS = ["10.0.0.0/26", "10.0.1.0/27", "10.0.2.0/28"];

interface Case {
  readonly blockSizes: readonly number[];
  readonly strictAffinity: boolean;
  readonly maxBlocksPerHost: number;
  readonly reserved: readonly string[];
  /** Pods of node-b, node-c and node-a, one after the other. */
  readonly pods: readonly [number, number, number];
  /** Of node-b's pods, how many go again. */
  readonly gone: number;
}

const cases: fc.Arbitrary<Case> = fc.record({
  blockSizes: fc.array(fc.integer({ min: 28, max: 31 }), { minLength: 1, maxLength: 3 }),
  strictAffinity: fc.boolean(),
  maxBlocksPerHost: fc.constantFrom(0, 1, 3, 10),
  reserved: fc.subarray(["10.0.0.0/29", "10.0.0.17/32", "10.0.0.48/28", "10.0.1.4/30"]),
  pods: fc.tuple(fc.nat({ max: 30 }), fc.nat({ max: 30 }), fc.nat({ max: 10 })),
  gone: fc.nat({ max: 30 }),
});

/** Takes as many addresses as there are, up to a number, in the given hour: claims of earlier ones may be taken over. */
async function fill(node: string, { most, hour }: { most: number; hour: number }, setup: Setup): Promise<number> {
  const { allocator, clock } = setUp({ ...setup, node });
  await clock.advance(hour * 3_600_000);
  for (let i = 0; i < most; i++) {
    try {
      await allocator.assign(request(`net.${node}-${most}-${i}`, [4], node));
    } catch {
      return i;
    }
  }
  return most;
}

/** What the plan says node-a can still get, and what it then really gets. */
async function planAndFill({ blockSizes, pods, gone, ...rest }: Case): Promise<{ planned: number; got: number }> {
  const { strictAffinity, maxBlocksPerHost, reserved } = rest;
  const shared = new MemoryStore();
  const pools = blockSizes.map((blockSize, i) => ({ cidr: POOLS[i] ?? "", blockSize }));
  const setup = { pools, reserved, shared, settings: { strictAffinity, maxBlocksPerHost } };
  const [ofB, ofC, ofA] = pods;
  await fill("node-b", { most: ofB, hour: 0 }, setup);
  await fill("node-c", { most: ofC, hour: 1 }, setup);
  const { allocator, sources } = setUp({ ...setup, node: "node-b" });
  for (let i = 0; i < Math.min(gone, ofB); i++) await allocator.releaseByHandle(`net.node-b-${ofB}-${i}`);
  await fill("node-a", { most: ofA, hour: 2 }, setup);
  const room = clusterRoom(
    {
      takenMs: 0,
      blocks: shared.all("block"),
      affinities: shared.all("affinity"),
      pools: await sources.pools(),
      reservations: reserved.map((cidr, i) => ({
        apiVersion: "crd.projectcalico.org/v1",
        kind: "IPReservation",
        metadata: { name: `r${i}` },
        spec: { reservedCIDRs: [cidr] },
      })),
      config: { ...DEFAULT_IPAM_CONFIG, strictAffinity, maxBlocksPerHost },
    },
    [{ name: "node-a", labels: {} }],
  );
  return { planned: room.nodes[0]?.total ?? -1, got: await fill("node-a", { most: 1000, hour: 3 }, setup) };
}

describe("clusterRoom()", () => {
  it("plans what the allocator then gives, where all blocks are of one size and wholly reserved or not at all", async () => {
    await fc.assert(
      fc.asyncProperty(cases, async (one) => {
        const blockSizes = one.blockSizes.map(() => one.blockSizes[0] ?? 28);
        // Which blocks a node claims first decides how many reserved addresses it meets before its limit.
        const reserved = one.reserved.filter((cidr) => cidr.endsWith("/28"));
        const { planned, got } = await planAndFill({ ...one, blockSizes, reserved });
        expect(got).toBe(planned);
      }),
      { numRuns: 60 },
    );
  });

  it("plans no less than the allocator gives, whatever the sizes", async () => {
    await fc.assert(
      fc.asyncProperty(cases, async (one) => {
        const { planned, got } = await planAndFill(one);
        expect(got).toBeLessThanOrEqual(planned);
      }),
      {
        numRuns: 40,
        examples: [
          [
            {
              blockSizes: [30, 30, 28],
              strictAffinity: false,
              maxBlocksPerHost: 10,
              reserved: ["10.0.0.0/29", "10.0.0.17/32"],
              pods: [20, 25, 0],
              gone: 7,
            },
          ],
        ],
      },
    );
  });
});
