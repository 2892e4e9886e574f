// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { IPAM_BLOCKS } from "../../crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../crds/ipam-handle.ts";
import { UnreachableError } from "../../kube/errors.ts";
import { MemoryClient } from "../../kube/memory-client.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { assign, newBlock, nextRevision } from "../block.ts";
import { expectSound, NODE, request, setUp, summary, used } from "../fake-node.ts";
import { newHandle, withBlocks } from "../handle.ts";
import { KubeStore } from "../kube-store.ts";
import { deleteOrphanHandle } from "../release.ts";

describe("release()", () => {
  it("costs a lone DEL three writes and no read", async () => {
    const { store, allocator } = setUp();
    const held = await allocator.assign(request("net.c1"));
    store.requests.length = 0;
    await allocator.release(held);
    expect(summary(store.requests)).toEqual(["update block", "update handle", "delete handle"]);
    expect(used(store)).toBe(0);
  });

  it("serves 100 DELs at once with few block writes and no read", async () => {
    const { store, allocator } = setUp();
    const held = await Promise.all(Array.from({ length: 100 }, (_, i) => allocator.assign(request(`net.c${i}`))));
    store.requests.length = 0;
    await Promise.all(held.map((allocations) => allocator.release(allocations)));
    expect(store.requests.filter((r) => !r.isWrite)).toEqual([]);
    expect(summary(store.requests).filter((r) => r === "update block")).toHaveLength(2);
    expect([used(store), store.all("handle").length]).toEqual([0, 0]);
  });

  it("leaves an address alone that is free, recycled, or another's", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/31", blockSize: 31 }] });
    const old = await allocator.assign(request("net.c1"));
    await allocator.release(old);
    await allocator.release(old);
    await allocator.assign(request("net.c2"));
    await allocator.assign(request("net.c1"));
    // The same address and handle by now, but a later sequence number.
    await allocator.release(old);
    expect(used(store)).toBe(2);
    await allocator.release(old.map((a) => ({ ...a, handleID: "net.c2" })));
    expect(used(store)).toBe(2);
    expectSound(store);
  });

  it("works in a pool that is gone and in a block that is not ours, which is deleted with its last address", async () => {
    const { store, allocator } = setUp({ pools: [] });
    const cidr = parseCIDR("10.9.0.0/28");
    const assigned = assign(newBlock(cidr, undefined, { ms: 0, ns: 5n }), {
      handleID: "net.c1",
      attributes: { node: NODE },
      count: 2,
    });
    const metadata = { name: "10-9-0-0-28" };
    await store.create("block", {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "IPAMBlock",
      metadata,
      spec: nextRevision(assigned.block),
    });
    await store.create("handle", newHandle("net.c1", { "10.9.0.0/28": 2 }));
    const at = (n: number) => ({ ip: cidr.network, handleID: "net.c1", block: cidr, sequenceNumber: BigInt(n) });
    await allocator.release([at(5)]);
    expect(store.peek("handle", "net.c1")?.spec.block).toEqual({ "10.9.0.0/28": 1 });
    await allocator.releaseByHandle("net.c1");
    expect([store.all("block"), store.all("handle")]).toEqual([[], []]);
  });
});

describe("releaseByHandle()", () => {
  it("takes an unknown handle for a success", async () => {
    const { store, allocator } = setUp();
    await allocator.releaseByHandle("net.nobody");
    expect(summary(store.requests)).toEqual(["get handle"]);
  });

  it("frees both families and the handle", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/16" }, { cidr: "fd00::/64" }] });
    await allocator.assign(request("net.c1", [4, 6]));
    await allocator.assign(request("net.c1", [4]));
    await allocator.releaseByHandle("net.c1");
    expect([used(store), store.all("handle").length]).toEqual([0, 0]);
  });

  it("frees only what this node holds, and keeps the handle for the rest", async () => {
    const { store, allocator } = setUp();
    await allocator.assign(request("net.c1"));
    await allocator.assign(request("net.c1", [4], "node-b"));
    await allocator.releaseByHandle("net.c1");
    expect(used(store)).toBe(1);
    expect(Object.values(store.peek("handle", "net.c1")?.spec.block ?? {})).toEqual([1]);
    expectSound(store);
  });

  it("works in a process that has just started, by the handle alone", async () => {
    const first = setUp();
    await first.allocator.assign(request("net.c1"));
    const second = setUp({ shared: first.store });
    first.store.requests.length = 0;
    await second.allocator.releaseByHandle("net.c1");
    const expected = ["get handle", "get block", "update block", "update handle", "delete handle"];
    expect(summary(first.store.requests)).toEqual(expected);
    expect(used(first.store)).toBe(0);
  });

  it("frees what a handle counts beside nonsense, which a broken writer put into it", async () => {
    const { store, allocator } = setUp();
    await allocator.assign(request("net.c1"));
    const second = setUp({ shared: store });
    const handle = store.peek("handle", "net.c1");
    if (handle === undefined) throw new Error("there is a handle");
    await store.update("handle", withBlocks(handle, { ...handle.spec.block, nonsense: 1 }));
    await second.allocator.releaseByHandle("net.c1");
    expect(used(store)).toBe(0);
    const { metadata } = store.peek("handle", "net.c1") ?? handle;
    const orphan = { name: "net.c1", handleID: "net.c1", resourceVersion: metadata.resourceVersion ?? "" };
    expect(await deleteOrphanHandle({ store, clock: second.clock, random: () => 0 }, orphan)).toBe(true);
    expect(store.all("handle")).toEqual([]);
  });

  it("frees addresses whose handle is missing, and removes a handle that holds nothing", async () => {
    const { store, allocator } = setUp();
    await allocator.assign(request("net.c1"));
    const handle = store.peek("handle", "net.c1");
    if (handle) await store.delete("handle", handle);
    await allocator.releaseByHandle("net.c1");
    expect(used(store)).toBe(0);
    await store.create("handle", newHandle("net.c2", { "10.0.0.0/26": 1, "10.0.64.0/26": 1 }));
    await allocator.releaseByHandle("net.c2");
    expect(store.all("handle")).toEqual([]);
  });
});

describe("over the Kubernetes API", () => {
  it("makes the same requests, and survives the loss of each answer", async () => {
    const client = new MemoryClient();
    const { allocator } = setUp({ kube: new KubeStore(client) });
    await allocator.warmUp([4]);
    const calls = (): string[] => client.calls.map((call) => `${call.verb} ${call.resource.plural}`);
    client.calls.length = 0;
    const held = await allocator.assign(request("net.c1"));
    expect(calls()).toEqual(["create ipamhandles", "update ipamblocks"]);
    client.calls.length = 0;
    await allocator.release(held);
    expect(calls()).toEqual(["update ipamblocks", "update ipamhandles", "delete ipamhandles"]);

    const error = new UnreachableError({ verb: "update", resource: "x" }, "timed out");
    for (let lost = 0; lost < 5; lost++) {
      let n = 0;
      client.onCall = (call) => (call.verb !== "get" && n++ === lost ? { kind: "loseAnswer", error } : undefined);
      await allocator.release(await allocator.assign(request(`net.d${lost}`)));
    }
    client.onCall = undefined;
    const [block] = (await client.list(IPAM_BLOCKS)).items;
    expect(block?.spec.unallocated).toHaveLength(64);
    expect((await client.list(IPAM_HANDLES)).items).toEqual([]);
  });
});

describe("block status", () => {
  it("is written lazily, at most once in 5 s, and then the next ADD still needs no read", async () => {
    const { store, allocator, clock } = setUp({ isResident: true });
    await allocator.assign(request("net.c1"));
    expect(summary(store.requests)).not.toContain("status block");
    await clock.advance(1_000);
    expect(store.all("block")[0]?.status).toEqual({ node: NODE, used: 1, free: 63, borrowed: 0 });
    store.requests.length = 0;
    await allocator.assign(request("net.c2"));
    await clock.advance(3_000);
    expect(summary(store.requests)).toEqual(["create handle", "update block"]);
    await clock.advance(2_000);
    expect(summary(store.requests)).toEqual(["create handle", "update block", "status block"]);
    expect(store.all("block")[0]?.status?.used).toBe(2);
    allocator.close();
  });

  it("is given up where the CRD has none", async () => {
    const { store, allocator, clock } = setUp({ isResident: true, store: { hasStatus: false } });
    await allocator.assign(request("net.c1"));
    await clock.advance(10_000);
    await allocator.assign(request("net.c2"));
    await clock.advance(10_000);
    expect(summary(store.requests).filter((r) => r === "status block")).toHaveLength(1);
    expect(used(store)).toBe(2);
  });
});
