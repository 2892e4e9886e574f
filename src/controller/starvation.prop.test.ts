// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type EffectiveIPPool, effectiveIPPool } from "../crds/ip-pool.ts";
import { DEFAULT_IPAM_CONFIG } from "../crds/ipam-config.ts";
import { poolObject } from "./fake-pools.ts";
import { starvingPools } from "./starvation.ts";

const STRICT = { ...DEFAULT_IPAM_CONFIG, strictAffinity: true };

/** How many of the nodes can have a block at the same time, by trying to move others out of the way (Kuhn's algorithm). */
function servedNodes(choices: readonly (readonly number[])[], blocks: readonly number[]): number {
  const slots = blocks.flatMap((count, pool) => Array.from({ length: count }, () => pool));
  const owners: (number | undefined)[] = slots.map(() => undefined);
  const place = (node: number, tried: Set<number>): boolean =>
    slots.some((pool, slot) => {
      if (tried.has(slot) || choices[node]?.includes(pool) !== true) return false;
      tried.add(slot);
      const owner = owners[slot];
      if (owner !== undefined && !place(owner, tried)) return false;
      owners[slot] = node;
      return true;
    });
  return choices.filter((_, node) => place(node, new Set())).length;
}

describe("starvingPools()", () => {
  it("never cries wolf: when it says that nodes get no block, no way of claiming serves them all", () => {
    const node = fc.uniqueArray(fc.integer({ min: 0, max: 2 }), { maxLength: 3 });
    const sizes = fc.tuple(...[0, 1, 2].map(() => fc.integer({ min: 0, max: 2 })));
    let starving = 0;
    fc.assert(
      fc.property(fc.array(node, { maxLength: 10 }), sizes, (choices, bits) => {
        const pools: EffectiveIPPool[] = bits.map((extra, i) => {
          const spec = { cidr: `10.${i}.0.0/24`, blockSize: 24 + extra, nodeSelector: `has(pool-${i})` };
          return effectiveIPPool(poolObject(`pool-${i}`, spec));
        });
        const nodes = choices.map((chosen, i) => ({
          name: `node-${i}`,
          labels: Object.fromEntries(chosen.map((pool) => [`pool-${pool}`, ""])),
          addresses: [],
        }));
        const found = starvingPools(pools, nodes, STRICT);
        const choosers = choices.filter((chosen) => chosen.length > 0);
        const served = servedNodes(
          choosers,
          bits.map((extra) => 2 ** extra),
        );
        if (found.size > 0) {
          starving++;
          expect(served).toBeLessThan(choosers.length);
        }
        // Where all nodes have the same choice, it finds every shortage.
        if (new Set(choosers.map((chosen) => chosen.toSorted((a, b) => a - b).join())).size === 1)
          expect(found.size > 0).toBe(served < choosers.length);
      }),
    );
    expect(starving).toBeGreaterThan(0);
  });
});
