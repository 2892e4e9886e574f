// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { IPAMBlockSpec } from "../../crds/ipam-block.ts";
import { blockName } from "../../crds/names.ts";
import { type CIDR, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { formatIP } from "../../net/ip.ts";
import { hostAffinity, pendingAffinity, withState } from "../affinity.ts";
import { assign, newBlock, nextRevision } from "../block.ts";
import { expectSound, NODE, request, setUp, summary, used } from "../fake-node.ts";
import { newHandle } from "../handle.ts";
import { MemoryStore, type StoreRequest } from "../memory-store.ts";

describe("assign()", () => {
  it("claims the first block in three writes after one look for blocks of other sizes, then writes handle and block", async () => {
    const { store, allocator } = setUp();
    const [allocation] = await allocator.assign(request("net.c1"));
    expect(summary(store.requests)).toEqual([
      "list block",
      "create affinity",
      "create block",
      "update affinity",
      "create handle",
      "update block",
    ]);
    const [block] = store.all("block");
    const [affinity] = store.all("affinity");
    expect(affinity?.spec).toMatchObject({ node: NODE, state: "confirmed", type: "host", deleted: "false" });
    expect(block?.spec.affinity).toBe("host:node-a");
    expect(block?.spec.attributes).toEqual([{ handle_id: "net.c1", secondary: request("net.c1").attributes }]);
    expect(store.peek("handle", "net.c1")?.spec.block).toEqual({ [block?.spec.cidr ?? ""]: 1 });
    expect(allocation?.sequenceNumber).toBe((block?.spec.sequenceNumber ?? 0n) - 1n);
  });

  it("costs a lone ADD two writes and no read, once warm", async () => {
    const { store, allocator } = setUp();
    await allocator.warmUp([4]);
    store.requests.length = 0;
    await allocator.assign(request("net.c1"));
    expect(summary(store.requests)).toEqual(["create handle", "update block"]);
  });

  it("serves 100 ADDs at once with at most 10 block writes and no read", async () => {
    const { store, allocator } = setUp({ isResident: true });
    await allocator.warmUp([4]);
    store.requests.length = 0;
    const all = await Promise.all(Array.from({ length: 100 }, (_, i) => allocator.assign(request(`net.c${i}`))));
    expect(new Set(all.flat().map((a) => formatIP(a.ip))).size).toBe(100);
    expect(store.requests.filter((r) => !r.isWrite)).toEqual([]);
    expect(summary(store.requests).filter((r) => r === "update block").length).toBeLessThanOrEqual(10);
    expect(summary(store.requests).filter((r) => r === "create handle")).toHaveLength(100);
    expectSound(store);
  });

  it("keeps to 10 block writes when requests take different times", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 20, maxLength: 60 }), async (delays) => {
        let n = 0;
        const onRequest = async (): Promise<undefined> => {
          for (let i = 4 + (delays[n++ % delays.length] ?? 0); i > 0; i--) await turn();
        };
        const { store, allocator } = setUp({ isResident: true, store: { onRequest } });
        await allocator.warmUp([4]);
        store.requests.length = 0;
        await Promise.all(Array.from({ length: 100 }, (_, i) => allocator.assign(request(`net.c${i}`))));
        expect(store.requests.filter((r) => !r.isWrite)).toEqual([]);
        expect(summary(store.requests).filter((r) => r === "update block").length).toBeLessThanOrEqual(10);
        expect(used(store)).toBe(100);
      }),
      { numRuns: 25 },
    );
  });

  it("waits a little for an assignment whose handle is still being written, and then no longer", async () => {
    const delays = new Map([
      ["net.slow", 4],
      ["net.hung", 1000],
    ]);
    const onRequest = async ({ verb, name }: StoreRequest): Promise<undefined> => {
      for (let i = verb === "create" ? (delays.get(name) ?? 0) : 0; i > 0; i--) await turn();
    };
    const { store, allocator } = setUp({ store: { onRequest } });
    await allocator.warmUp([4]);
    store.requests.length = 0;
    await Promise.all(["net.c1", "net.slow"].map((handleID) => allocator.assign(request(handleID))));
    expect(summary(store.requests)).toEqual(["create handle", "create handle", "update block"]);
    const hung = allocator.assign(request("net.hung"));
    await allocator.assign(request("net.c2"));
    expect(used(store)).toBe(3);
    await hung;
    expect(used(store)).toBe(4);
  });

  it("reads none of the node's blocks in a burst, once warm", async () => {
    const first = setUp();
    await Promise.all(Array.from({ length: 100 }, (_, i) => first.allocator.assign(request(`net.c${i}`))));
    const { store, allocator } = setUp({ shared: first.store });
    await allocator.warmUp([4]);
    store.requests.length = 0;
    await Promise.all(Array.from({ length: 100 }, (_, i) => allocator.assign(request(`net.d${i}`))));
    expect(store.requests.filter((r) => !r.isWrite)).toEqual([]);
  });

  it("claims no second block when an ADD comes while the node's own is being read", async () => {
    const first = setUp();
    await first.allocator.assign(request("net.c1"));
    const { store, allocator } = setUp({ shared: first.store, isResident: true });
    await Promise.all([allocator.warmUp([4]), ...["net.c2", "net.c3"].map((id) => allocator.assign(request(id)))]);
    expect(store.all("block")).toHaveLength(1);
  });

  it("takes one address of each family, in the order asked for, with one handle write", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/16" }, { cidr: "fd00::/64" }] });
    await allocator.warmUp([4, 6]);
    store.requests.length = 0;
    const allocations = await allocator.assign(request("net.c1", [6, 4]));
    expect(allocations.map((a) => typeof a.ip)).toEqual(["bigint", "number"]);
    expect(summary(store.requests).sort()).toEqual(["create handle", "update block", "update block"]);
  });

  it("takes nothing when one family has no address", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/16" }, { cidr: "fd00::/128", blockSize: 128 }] });
    await allocator.assign(request("net.c1", [4, 6]));
    await expect(allocator.assign(request("net.c2", [4, 6]))).rejects.toMatchObject({ code: "NoAddress" });
    expect(used(store)).toBe(2);
    expect(store.peek("handle", "net.c2")).toBeUndefined();
    expectSound(store);
  });

  it("says pool, node, blocks and the next step when nothing is left", async () => {
    const { allocator } = setUp({ pools: [{ cidr: "10.0.0.0/31", blockSize: 31 }] });
    await allocator.assign(request("net.c1"));
    await allocator.assign(request("net.c2"));
    await expect(allocator.assign(request("net.c3"))).rejects.toThrow(
      "No free address in pool-0 (10.0.0.0/31): node node-a owns 1 of its blocks, all full, and all 1 blocks are taken; add an IPPool",
    );
  });

  it("claims no block that overlaps one of another size", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/24", blockSize: 26 }] });
    await store.create("affinity", withState(pendingAffinity("node-b", parseCIDR("10.0.0.0/25")), "confirmed"));
    await store.create("affinity", withState(pendingAffinity("node-b", parseCIDR("10.0.0.192/28")), "confirmed"));
    await allocator.assign(request("net.c1"));
    expect(store.all("block").map((b) => b.spec.cidr)).toEqual(["10.0.0.128/26"]);
    const others = Array.from({ length: 64 }, (_, i) => allocator.assign(request(`net.d${i}`)));
    const results = await Promise.allSettled(others);
    expect(results.filter((r) => r.status === "fulfilled")).toHaveLength(63);
    const refused: unknown = results.find((r) => r.status === "rejected")?.reason;
    expect(refused).toMatchObject({ code: "Overlap" });
    expect(String(refused)).toContain("3 overlap blocks or pools of another size, such as 10.0.0.");
    expect(String(refused)).toMatch(
      /10\.0\.0\.(?:0|64)\/26 with block 10\.0\.0\.0\/25|10\.0\.0\.192\/26 with block 10\.0\.0\.192\/28/,
    );
  });

  it("names both of two pools that overlap, when only the other one may have the addresses", async () => {
    const pools = [{ cidr: "10.0.0.0/26" }, { cidr: "10.0.0.0/26", blockSize: 28, nodeSelector: "has(nothing)" }];
    const { allocator } = setUp({ pools: pools.toReversed() });
    await expect(allocator.assign(request("net.c1"))).rejects.toThrow(
      /No free address in pool-1 \(10\.0\.0\.0\/26\).* 1 overlap blocks or pools of another size, such as 10\.0\.0\.0\/26 with IPPool pool-0 \(10\.0\.0\.0\/26\); remove/,
    );
  });

  it("refuses while the datastore is locked, and so does release", async () => {
    const { store, allocator } = setUp({ settings: { datastoreReady: false } });
    await expect(allocator.assign(request("net.c1"))).rejects.toMatchObject({ code: "NotReady" });
    await expect(allocator.releaseByHandle("net.c1")).rejects.toMatchObject({ code: "NotReady" });
    expect(store.requests).toEqual([]);
  });

  it("claims no block where IPAMConfig forbids it", async () => {
    const { store, allocator } = setUp({ settings: { autoAllocateBlocks: false } });
    await expect(allocator.assign(request("net.c1"))).rejects.toThrow(/autoAllocateBlocks/);
    expect(store.all("affinity")).toEqual([]);
  });

  it("counts a handle up that is there already, such as after a crash", async () => {
    const { store, allocator } = setUp();
    await allocator.warmUp([4]);
    const cidr = store.all("block")[0]?.spec.cidr ?? "";
    await store.create("handle", newHandle("net.c1", { [cidr]: 1 }));
    await allocator.assign(request("net.c1"));
    expect(store.peek("handle", "net.c1")?.spec.block).toEqual({ [cidr]: 2 });
    // The handle counts one too many; a release makes it what the block says.
    await allocator.releaseByHandle("net.c1");
    expect(store.peek("handle", "net.c1")).toBeUndefined();
  });

  it("finishes the deletion of a handle and of an affinity that somebody left half done", async () => {
    const { store, allocator } = setUp();
    const marked = newHandle("net.c1", { "10.0.0.0/26": 1 });
    await store.create("handle", { ...marked, spec: { ...marked.spec, deleted: true } });
    await allocator.assign(request("net.c1"));
    expect(store.peek("handle", "net.c1")?.spec.deleted).toBe(false);
    expectSound(store);
  });

  it("refuses a handle that differs from another's by case alone", async () => {
    const { store, allocator } = setUp();
    await allocator.assign(request("Net.c1"));
    await expect(allocator.assign(request("net.c1"))).rejects.toMatchObject({ code: "InvalidHandle" });
    expect(used(store)).toBe(1);
  });

  it("prefetches the next block before the last one is full", async () => {
    const { store, allocator } = setUp({ isResident: true, pools: [{ cidr: "10.0.0.0/24", blockSize: 28 }] });
    for (let i = 0; i < 12; i++) await allocator.assign(request(`net.c${i}`));
    expect(store.all("block")).toHaveLength(1);
    await allocator.assign(request("net.c12"));
    await expect.poll(() => store.all("affinity").filter((a) => a.spec.state === "confirmed").length).toBe(2);
  });

  it("does not fail, nor ask again and again, when there is nothing to prefetch", async () => {
    const { store, allocator, errors } = setUp({ isResident: true, pools: [{ cidr: "10.0.0.0/28", blockSize: 28 }] });
    await Promise.all(Array.from({ length: 16 }, (_, i) => allocator.assign(request(`net.c${i}`))));
    expect(errors).toEqual([]);
    expect(summary(store.requests).filter((r) => r.startsWith("list")).length).toBeLessThanOrEqual(1);
  });
});

describe("loading blocks that are there", () => {
  const cidr = parseCIDR("10.0.0.0/28");
  const pools = [{ cidr: "10.0.0.0/24", blockSize: 28 }];
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock", metadata: { name: "10-0-0-0-28" } };
  const block = (affinity?: string) => ({ ...head, spec: newBlock(cidr, affinity, { ms: 0, ns: 5n }) });

  it("uses an affine confirmed block after one read", async () => {
    const { store, allocator } = setUp({ pools });
    await store.create("affinity", withState(pendingAffinity(NODE, cidr), "confirmed"));
    await store.create("block", block(hostAffinity(NODE)));
    store.requests.length = 0;
    await allocator.assign(request("net.c1"));
    expect(summary(store.requests)).toEqual(["get block", "create handle", "update block"]);
  });

  it.each(["pending", "pendingDeletion"] as const)(
    "confirms a block whose affinity is %s by writing it",
    async (state) => {
      const { store, allocator } = setUp({ pools });
      await store.create("affinity", withState(pendingAffinity(NODE, cidr), state));
      await store.create("block", block(hostAffinity(NODE)));
      store.requests.length = 0;
      await allocator.warmUp([4]);
      const repair = ["get block", "update affinity", "list block", "update block", "update affinity"];
      expect(summary(store.requests)).toEqual(repair);
      expect(store.all("block")[0]?.spec.sequenceNumber).toBe(6n);
      expect(store.all("affinity")[0]?.spec.state).toBe("confirmed");
    },
  );

  it("makes the block that an affinity promises", async () => {
    const { store, allocator } = setUp({ pools });
    await store.create("affinity", withState(pendingAffinity(NODE, cidr), "confirmed"));
    store.requests.length = 0;
    await allocator.warmUp([4]);
    const repair = ["get block", "update affinity", "list block", "create block", "update affinity"];
    expect(summary(store.requests)).toEqual(repair);
  });

  it.each([hostAffinity("node-b"), undefined])("drops its affinity when the block's owner is %s", async (owner) => {
    const { store, allocator } = setUp({ pools });
    await store.create("affinity", pendingAffinity(NODE, cidr));
    await store.create("block", block(owner));
    await allocator.warmUp([4]);
    const ours = store.all("affinity").map((a) => a.spec.cidr);
    expect(ours).toHaveLength(1);
    expect(ours).not.toContain("10.0.0.0/28");
    expect(store.peek("block", "10-0-0-0-28")?.spec.affinity).toBe(owner);
  });

  it("gives an affinity without labels its labels with the next write", async () => {
    const { store, allocator } = setUp({ pools });
    const bare = pendingAffinity(NODE, cidr);
    await store.create("affinity", { ...bare, metadata: { name: bare.metadata.name } });
    await allocator.warmUp([4]);
    expect(store.all("affinity")[0]?.metadata.labels).toEqual(bare.metadata.labels);
  });

  it("steps aside for a block that exists without an affinity", async () => {
    const settings = { strictAffinity: true };
    const { store, allocator, sources, clock } = setUp({ pools: [{ cidr: "10.0.0.0/27", blockSize: 28 }], settings });
    expect(await sources.knownBlocks()).toEqual([]);
    const inUse = (spec: IPAMBlockSpec): IPAMBlockSpec =>
      assign(spec, { handleID: "x", attributes: {}, count: 1 }).block;
    const both = [
      { ...block(), spec: inUse(block().spec) },
      {
        ...block(),
        metadata: { name: "10-0-0-16-28" },
        spec: inUse(newBlock(parseCIDR("10.0.0.16/28"), undefined, { ms: 0, ns: 5n })),
      },
    ];
    for (const b of both) await store.create("block", b);
    await expect(allocator.assign(request("net.c1"))).rejects.toMatchObject({ code: "NoAddress" });
    expect(store.all("affinity")).toEqual([]);
    const second = both[1];
    const stored = second && store.peek("block", second.metadata.name);
    if (stored) await store.delete("block", stored);
    // Only the next listing shows it.
    await clock.advance(10_000);
    await allocator.assign(request("net.c1"));
    expect(used(store)).toBe(2);
  });

  it("lets one of two nodes have the last block", async () => {
    const store = new MemoryStore();
    const last = {
      pools: [{ cidr: "10.0.0.0/28", blockSize: 28 }],
      shared: store,
      settings: { strictAffinity: true },
    };
    const [a, b] = [setUp({ ...last, node: "node-a" }), setUp({ ...last, node: "node-b" })];
    const results = await Promise.allSettled([
      a.allocator.assign(request("net.c1", [4], "node-a")),
      b.allocator.assign(request("net.c2", [4], "node-b")),
    ]);
    expect(results.map((r) => r.status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(store.all("affinity")).toHaveLength(1);
    expect(used(store)).toBe(1);
  });
});

describe("a block's status", () => {
  it("is right soon after a peer's write got in the way of it", async () => {
    const { store, allocator, clock } = setUp({ isResident: true });
    const [held] = await allocator.assign(request("net.c1"));
    const name = held === undefined ? "" : blockName(held.block);
    const stored = store.peek("block", name);
    if (stored === undefined) throw new Error("no block");
    const { block: spec } = assign(stored.spec, { handleID: "peer", attributes: { node: "node-b" }, count: 3 });
    expect(await store.update("block", { ...stored, spec: nextRevision(spec) })).toMatchObject({ kind: "ok" });
    for (let second = 0; second < 10; second++) await clock.advance(1000);
    expect(store.peek("block", name)?.status).toMatchObject({ used: 4, free: 60, borrowed: 3 });
    expect(allocator.blockStatuses().size).toBe(1);
    allocator.close();
  });
});

describe("a claim that somebody deleted", () => {
  const unclaimed = async (
    settings: Parameters<typeof setUp>[0] = {},
  ): Promise<ReturnType<typeof setUp> & { cidr: CIDR }> => {
    const node = setUp(settings);
    const [held] = await node.allocator.assign(request("net.c1"));
    if (held === undefined) throw new Error("no address");
    for (const affinity of node.store.all("affinity")) await node.store.delete("affinity", affinity);
    return { ...node, cidr: held.block };
  };

  it("comes back while the block is this node's", async () => {
    const { store, allocator, cidr } = await unclaimed();
    await allocator.restoreClaim(cidr);
    expect(store.all("affinity")).toMatchObject([{ spec: { node: NODE, cidr: formatCIDR(cidr), state: "confirmed" } }]);
    expectSound(store);
  });

  it("stays away when the block has gone with it, or is somebody else's", async () => {
    const { store, allocator, cidr } = await unclaimed();
    const block = store.peek("block", blockName(cidr));
    if (block === undefined) throw new Error("no block");
    const spec = nextRevision({ ...block.spec, affinity: hostAffinity("node-b") });
    expect(await store.update("block", { ...block, spec })).toMatchObject({ kind: "ok" });
    await allocator.restoreClaim(cidr);
    expect(store.all("affinity")).toEqual([]);
    const gone = await unclaimed();
    for (const one of gone.store.all("block")) await gone.store.delete("block", one);
    await gone.allocator.restoreClaim(gone.cidr);
    expect(gone.store.all("affinity")).toEqual([]);
  });

  it("is not written while the datastore is locked", async () => {
    const { store, allocator, cidr, sources } = await unclaimed();
    const settings = await sources.settings();
    Object.assign(sources, { settings: () => ({ ...settings, datastoreReady: false }) });
    store.requests.length = 0;
    await allocator.restoreClaim(cidr);
    expect(store.requests).toEqual([]);
  });
});

describe("refreshPeriodically()", () => {
  it("brings the status in line with what a peer wrote", async () => {
    const { store, allocator, clock } = setUp({ isResident: true });
    const [held] = await allocator.assign(request("net.c1"));
    if (held === undefined) throw new Error("no address");
    const stop = new AbortController();
    const done = allocator.refreshPeriodically(stop.signal);
    const name = blockName(held.block);
    const stored = store.peek("block", name);
    if (stored === undefined) throw new Error("no block");
    const taken = assign(stored.spec, { handleID: "peer", attributes: { node: NODE }, count: 3 }).block;
    expect(await store.update("block", { ...stored, spec: taken })).toMatchObject({ kind: "ok" });
    for (let second = 0; second < 400; second++) await clock.advance(1000);
    expect(store.peek("block", name)?.status).toMatchObject({ used: 4, free: 60 });
    stop.abort();
    await done;
    allocator.close();
  });
});
