// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import { cidrsOverlap, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { request, setUp } from "../fake-node.ts";
import { MemoryStore, type StoreRequest } from "../memory-store.ts";
import type { Allocator } from "./allocator.ts";

/** The least that a node may know: no claim at all, or, when it asks for it, what there was when its own was written. */
class SlowWatch {
  readonly #seen: (readonly BlockAffinity[])[] = [];

  look(store: MemoryStore): void {
    this.#seen.push(store.all("affinity"));
  }

  since(store: MemoryStore, claim: BlockAffinity): readonly BlockAffinity[] {
    const { uid } = claim.metadata;
    return this.#seen.find((all) => all.some(({ metadata }) => metadata.uid === uid)) ?? store.all("affinity");
  }
}

interface Race {
  readonly store: MemoryStore;
  readonly nodes: readonly Allocator[];
}

/** Nodes that have heard of the pool with different block sizes. */
function raceOf(pool: string, sizes: readonly number[], onRequest: (made: StoreRequest) => Promise<void>): Race {
  const watch = new SlowWatch();
  const store = new MemoryStore({
    onRequest: async (made) => {
      await onRequest(made);
      watch.look(store);
      return undefined;
    },
  });
  const nodes = sizes.map((blockSize, i) => {
    const { allocator, sources } = setUp({ shared: store, node: `node-${i}`, pools: [{ cidr: pool, blockSize }] });
    Object.assign(sources, {
      knownBlocks: (claim?: BlockAffinity) => {
        const live = (claim ? watch.since(store, claim) : []).filter(({ spec }) => spec.deleted !== "true");
        return live.map(({ spec }) => parseCIDR(spec.cidr));
      },
    });
    return allocator;
  });
  return { store, nodes };
}

function overlaps(store: MemoryStore): readonly string[] {
  const cidrs = store.all("block").map(({ spec }) => parseCIDR(spec.cidr));
  return cidrs.flatMap((a, i) => {
    const other = cidrs.slice(i + 1).find((b) => cidrsOverlap(a, b));
    return other === undefined ? [] : [`${formatCIDR(a)} and ${formatCIDR(other)}`];
  });
}

async function interleave(
  s: fc.Scheduler,
  pool: string,
  sizes: readonly number[],
): Promise<{ readonly store: MemoryStore; readonly served: number }> {
  const { store, nodes } = raceOf(pool, sizes, async ({ verb, kind, name }) => {
    await s.schedule(Promise.resolve(), `${verb} ${kind} ${name}`);
  });
  const calls = nodes.map((allocator, i) => allocator.assign(request(`net.c${i}`, [4], `node-${i}`)));
  const ended = Promise.allSettled(calls);
  await s.waitFor(ended);
  return { store, served: (await ended).filter(({ status }) => status === "fulfilled").length };
}

describe("nodes that cut one pool into blocks of different size, since its blockSize has just changed", () => {
  it("never own blocks that overlap, whoever is faster with which write", async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async (s) => {
        const { store } = await interleave(s, "10.0.0.0/26", [26, 28, 27]);
        expect(overlaps(store)).toEqual([]);
      }),
    );
  }, 60_000);

  it("all get addresses where there is room for all of their blocks", async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async (s) => {
        const { store, served } = await interleave(s, "10.0.0.0/24", [26, 28]);
        expect(overlaps(store)).toEqual([]);
        expect(served).toBe(2);
      }),
    );
  }, 60_000);
});
