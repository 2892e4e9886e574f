// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { blockName } from "../../crds/names.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { pendingAffinity, withState } from "../affinity.ts";
import { assign, newBlock, nextRevision } from "../block.ts";
import { expectSound, request, setUp, summary, used } from "../fake-node.ts";
import { newHandle } from "../handle.ts";
import { MemoryStore } from "../memory-store.ts";

const OTHER = "node-b";
const HEAD = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock" } as const;

/** A block of another node, in which some addresses are taken. Without a claim nobody knows of it but by a listing. */
async function foreign(store: MemoryStore, cidr: string, taken: number, isClaimed = true): Promise<void> {
  const block = parseCIDR(cidr);
  const name = blockName(block);
  const empty = newBlock(block, `host:${OTHER}`, { ms: 0, ns: 5n });
  const owner = { handleID: `other.${name}`, attributes: { node: OTHER }, count: taken };
  if (taken > 0) await store.create("handle", newHandle(owner.handleID, { [cidr]: taken }));
  const spec = taken > 0 ? nextRevision(assign(empty, owner).block) : empty;
  await store.create("block", { ...HEAD, metadata: { name }, spec });
  if (isClaimed) await store.create("affinity", withState(pendingAffinity(OTHER, block), "confirmed"));
}

/** Gives back what `foreign` took. */
async function free(store: MemoryStore, cidr: string): Promise<void> {
  await setUp({ shared: store, node: OTHER }).allocator.releaseByHandle(`other.${blockName(parseCIDR(cidr))}`);
}

function lists(store: MemoryStore): number {
  return summary(store.requests).filter((r) => r === "list block").length;
}

describe("a full pool", () => {
  const pools = [{ cidr: "10.0.0.0/29", blockSize: 30 }];
  const full = async (): Promise<MemoryStore> => {
    const store = new MemoryStore();
    await foreign(store, "10.0.0.0/30", 4);
    await foreign(store, "10.0.0.4/30", 4);
    return store;
  };
  const refuse = async (allocator: ReturnType<typeof setUp>["allocator"]): Promise<void> => {
    await expect(allocator.assign(request("a"))).rejects.toMatchObject({ code: "NoAddress" });
  };

  it("costs one listing, and no request at all for each refusal after it", async () => {
    const { store, allocator } = setUp({ pools, shared: await full() });
    await refuse(allocator);
    store.requests.length = 0;
    for (let i = 0; i < 20; i++) await refuse(allocator);
    expect(summary(store.requests)).toEqual([]);
  });

  it("is listed less and less often while nothing comes free, up to once a minute", async () => {
    const { store, allocator, clock } = setUp({ pools, shared: await full() });
    const perMinutes = async (minutes: number): Promise<number> => {
      const before = lists(store);
      for (let i = 0; i < 60 * minutes; i++) {
        await refuse(allocator);
        await clock.advance(1000);
      }
      return lists(store) - before;
    };
    // One for blocks of other sizes; after 8, 15, 30 and 45 s, and then every 45 s: half of a minute, and half of the rest.
    expect([await perMinutes(2), await perMinutes(4)]).toEqual([6, 5]);
  });

  it("is seen not to be full any more with the next listing, a minute later at most", async () => {
    const { store, allocator, clock } = setUp({ pools, shared: await full() });
    for (let i = 0; i < 6; i++) {
      await refuse(allocator);
      await clock.advance(60_000);
    }
    await refuse(allocator);
    await free(store, "10.0.0.4/30");
    await refuse(allocator);
    await clock.advance(60_000);
    await allocator.assign(request("a"));
    await allocator.releaseByHandle("a");
    expectSound(store);
  });
});

describe("what others have freed in an own block", () => {
  it("is found by a listing, without a read of each full block", async () => {
    const { store, allocator, clock } = setUp({ pools: [{ cidr: "10.0.0.0/29", blockSize: 30 }] });
    const held = await allocator.assign({ ...request("a"), count: 8 });
    await expect(allocator.assign(request("b"))).rejects.toMatchObject({ code: "NoAddress" });
    await setUp({ shared: store, node: "collector" }).allocator.release(held.slice(0, 1));
    await clock.advance(10_000);
    store.requests.length = 0;
    const [given] = await allocator.assign(request("b"));
    expect(given?.ip).toBe(held[0]?.ip);
    expect(summary(store.requests)).toEqual([
      "list block",
      "get affinity",
      "get block",
      "create handle",
      "update block",
    ]);
    expectSound(store);
  });
});

describe("a claim that is lost", () => {
  const pools = [{ cidr: "10.0.0.0/26", blockSize: 29 }];

  it("is noted, and the search goes on without a listing", async () => {
    const probe = setUp({ pools });
    await probe.allocator.assign(request("a"));
    const first = probe.store.all("block")[0]?.spec.cidr ?? "";
    const { store, allocator } = setUp({ pools });
    await foreign(store, first, 1, false);
    store.requests.length = 0;
    await allocator.assign({ ...request("a"), count: 16 });
    // The one for blocks of other sizes.
    expect(lists(store)).toBe(1);
    expect(summary(store.requests).filter((r) => r === "create affinity")).toHaveLength(3);
    expectSound(store);
  });

  it("leads to a listing when it is the fourth in a row, and to no more lost ones then", async () => {
    const { store, allocator } = setUp({ pools });
    for (let i = 0; i < 7; i++) await foreign(store, `10.0.0.${i * 8}/29`, 8, false);
    store.requests.length = 0;
    await allocator.assign(request("a"));
    expect(lists(store)).toBe(1 + 1);
    expect(summary(store.requests).filter((r) => r === "create affinity").length).toBeLessThanOrEqual(5);
    expect(used(store)).toBe(7 * 8 + 1);
    expectSound(store);
  });
});

describe("a block that lends", () => {
  it("is looked at before a handle counts it: one that has become full costs one read", async () => {
    const pools = [{ cidr: "10.0.0.0/29", blockSize: 30 }];
    const { store, allocator, clock } = setUp({ pools });
    await foreign(store, "10.0.0.0/30", 1);
    await foreign(store, "10.0.0.4/30", 1);
    await allocator.assign(request("a"));
    await clock.advance(1000);
    // The other node fills the block that has lent.
    const lender = store.all("block").find(({ spec }) => spec.attributes.length === 2);
    const filler = { handleID: "other.fill", attributes: { node: OTHER }, count: 2 };
    if (lender === undefined) throw new Error("nobody has lent");
    await store.create("handle", newHandle("other.fill", { [lender.spec.cidr]: 2 }));
    await store.update("block", { ...lender, spec: nextRevision(assign(lender.spec, filler).block) });
    store.requests.length = 0;
    await allocator.assign(request("b"));
    expect(summary(store.requests)).toEqual(["get block", "get block", "create handle", "update block"]);
    expectSound(store);
  });

  it("is the first of nodes in proportion to its room", async () => {
    const pools = [{ cidr: "10.0.0.0/25", blockSize: 26 }];
    let fromLarge = 0;
    for (let n = 0; n < 200; n++) {
      const { store, allocator } = setUp({ pools, node: `node-${n}` });
      await foreign(store, "10.0.0.0/26", 64 - 30);
      await foreign(store, "10.0.0.64/26", 64 - 10);
      await allocator.assign(request("a"));
      if (store.peek("block", "10-0-0-0-26")?.spec.unallocated.length === 29) fromLarge++;
    }
    expect(fromLarge).toBeGreaterThan(200 * 0.65);
    expect(fromLarge).toBeLessThan(200 * 0.85);
  });
});
