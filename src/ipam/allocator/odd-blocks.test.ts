// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { effectiveIPPool, parseIPPool } from "../../crds/ip-pool.ts";
import { blockName } from "../../crds/names.ts";
import { formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { formatIP, parseIP } from "../../net/ip.ts";
import { hostAffinity, pendingAffinity, withState } from "../affinity.ts";
import { assign, newBlock, nextRevision } from "../block.ts";
import { NODE, request, setUp, summary } from "../fake-node.ts";
import { newHandle } from "../handle.ts";
import { MemoryStore, type StoreFault, type StoreRequest } from "../memory-store.ts";
import type { Allocator } from "./allocator.ts";

const HEAD = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock" } as const;

/** What `calicoctl delete ippool` leaves of a block whose pods run: no owner and no claim. */
async function leaveBlock(store: MemoryStore, cidr: string, taken: number): Promise<void> {
  const block = parseCIDR(cidr);
  await store.create("handle", newHandle("old.pod", { [cidr]: taken }));
  const owner = { handleID: "old.pod", attributes: { node: "node-b" }, count: taken };
  const spec = nextRevision(assign(newBlock(block, undefined, { ms: 0, ns: 5n }), owner).block);
  await store.create("block", { ...HEAD, metadata: { name: blockName(block) }, spec });
}

async function take(allocator: Allocator, handleID: string): Promise<string> {
  const [allocation] = await allocator.assign(request(handleID));
  return allocation === undefined ? "" : formatCIDR(allocation.block);
}

describe("a block in use that nobody claims, of another size than its pool has now", () => {
  const remade = [{ cidr: "10.0.0.0/25", blockSize: 28 }];

  it("keeps its addresses: blocks are claimed beside it", async () => {
    const store = new MemoryStore();
    await leaveBlock(store, "10.0.0.0/26", 64);
    const { allocator } = setUp({ shared: store, pools: remade });
    for (let i = 0; i < 64; i++) expect(await take(allocator, `net.c${i}`)).toMatch(/^10\.0\.0\.(64|80|96|112)\/28$/);
    await expect(take(allocator, "net.more")).rejects.toMatchObject({ code: "Overlap" });
  });

  it("also if it is smaller than the new blocks", async () => {
    const store = new MemoryStore();
    await leaveBlock(store, "10.0.0.32/28", 16);
    const { allocator } = setUp({ shared: store, pools: [{ cidr: "10.0.0.0/25", blockSize: 26 }] });
    expect(await take(allocator, "net.c1")).toBe("10.0.0.64/26");
  });

  it("is where its addresses come from when they are asked for by name", async () => {
    const store = new MemoryStore();
    await leaveBlock(store, "10.0.0.0/26", 1);
    const { allocator } = setUp({ shared: store, pools: remade });
    const named = async (ip: string): Promise<string> => {
      const [allocation] = await allocator.assign({ ...request(`net.${ip}`), addresses: [parseIP(ip)] });
      return allocation === undefined ? "" : `${formatIP(allocation.ip)} of ${formatCIDR(allocation.block)}`;
    };
    await expect(named("10.0.0.0")).rejects.toMatchObject({ code: "AddressTaken" });
    expect(await named("10.0.0.1")).toBe("10.0.0.1 of 10.0.0.0/26");
  });

  it("lets no claim of before make the block that it promises", async () => {
    const store = new MemoryStore();
    await leaveBlock(store, "10.0.0.0/28", 16);
    await store.create("affinity", withState(pendingAffinity(NODE, parseCIDR("10.0.0.0/26")), "confirmed"));
    const { allocator } = setUp({ shared: store, pools: [{ cidr: "10.0.0.0/25", blockSize: 26 }] });
    expect(await take(allocator, "net.c1")).toBe("10.0.0.64/26");
    expect(store.all("affinity").map(({ spec }) => spec.cidr)).toEqual(["10.0.0.64/26"]);
  });

  it("is not used after all when its own node's write lands after the claim was taken back", async () => {
    const late: (() => void)[] = [];
    const onRequest = async ({ verb, kind, name }: StoreRequest): Promise<StoreFault | undefined> => {
      if (verb !== "create" || kind !== "block" || name !== "10-0-0-0-26" || late.length > 0) return undefined;
      // Another node, which knows the pool's new size already, is faster.
      const cidr = parseCIDR("10.0.0.0/28");
      const spec = newBlock(cidr, hostAffinity("node-b"), { ms: 0, ns: 5n });
      await store.create("affinity", withState(pendingAffinity("node-b", cidr), "confirmed"));
      await store.create("block", { ...HEAD, metadata: { name: blockName(cidr) }, spec });
      return "late";
    };
    const store: MemoryStore = new MemoryStore({ onRequest, later: (write) => late.push(write) });
    const pools = [{ cidr: "10.0.0.0/26", blockSize: 26 }];
    const { allocator, clock } = setUp({ shared: store, pools, settings: { strictAffinity: true } });
    await expect(allocator.assign(request("net.c1"))).rejects.toThrow();
    for (const write of late) write();
    expect(store.all("block").map(({ spec }) => spec.cidr)).toEqual(["10.0.0.0/26", "10.0.0.0/28"]);
    await clock.advance(60_000);
    await expect(allocator.assign(request("net.c2"))).rejects.toMatchObject({ code: "Overlap" });
    expect(store.all("block").map(({ spec }) => spec.cidr)).toEqual(["10.0.0.0/28"]);
    expect(store.all("affinity").map(({ spec }) => spec.node)).toEqual(["node-b"]);
  });

  it("is noticed when the pool is made again while the agent runs", async () => {
    const store = new MemoryStore();
    const { allocator, sources } = setUp({ shared: store, pools: [{ cidr: "10.9.0.0/24" }] });
    expect(await take(allocator, "net.c1")).toMatch(/^10\.9/);
    await leaveBlock(store, "10.0.0.0/26", 64);
    const raw = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name: "remade" } };
    const pools = [effectiveIPPool(parseIPPool({ ...raw, spec: { cidr: "10.0.0.0/26", blockSize: 28 } }))];
    Object.assign(sources, { pools: () => pools });
    await expect(take(allocator, "net.c2")).rejects.toMatchObject({ code: "Overlap" });
  });

  it("makes way a minute after it has gone, and then costs nothing any more", async () => {
    const store = new MemoryStore();
    await leaveBlock(store, "10.0.0.0/26", 64);
    const { allocator, clock } = setUp({ shared: store, pools: [{ cidr: "10.0.0.0/26", blockSize: 32 }] });
    await expect(take(allocator, "net.c1")).rejects.toMatchObject({ code: "Overlap" });
    for (const block of store.all("block")) await store.delete("block", block);
    await clock.advance(60_000);
    await take(allocator, "net.c2");
    store.requests.length = 0;
    await clock.advance(600_000);
    await take(allocator, "net.c3");
    expect(summary(store.requests)).not.toContain("list block");
  });
});
