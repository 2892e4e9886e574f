// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { effectiveIPPool, type IPPoolSpec, parseIPPool } from "../crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../crds/ipam-block.ts";
import { IPAM_HANDLES } from "../crds/ipam-handle.ts";
import { UnreachableError } from "../kube/errors.ts";
import { MemoryClient } from "../kube/memory-client.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { parseCIDR } from "../net/cidr.ts";
import { type Family, formatIP } from "../net/ip.ts";
import { hostAffinity, isHostAffinityOf, pendingAffinity, withState } from "./affinity.ts";
import { type Allocator, createAllocator } from "./allocator.ts";
import { assign, newBlock, nextRevision, ordinalsOfHandle, release, withoutAffinity } from "./block.ts";
import { checkBlock } from "./check-block.ts";
import { newHandle } from "./handle.ts";
import { KubeStore } from "./kube-store.ts";
import { MemoryStore, type MemoryStoreOptions, type StoreRequest } from "./memory-store.ts";
import type { IPAMSettings, IPAMSources } from "./ports.ts";
import type { AssignRequest } from "./types.ts";

const NODE = "node-a";

/** Retries come back at once; what waits for half a second or more waits for `advance`. */
class QuickClock extends FakeClock {
  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms < 500) await turn();
    else await super.sleep(ms, signal);
  }
}

interface Setup {
  readonly pools?: readonly (Partial<IPPoolSpec> & { cidr: string })[];
  readonly settings?: Partial<IPAMSettings>;
  readonly store?: MemoryStoreOptions;
  readonly isResident?: boolean;
  readonly node?: string;
  readonly shared?: MemoryStore;
  readonly kube?: KubeStore;
}

function setUp(setup: Setup = {}): {
  store: MemoryStore;
  allocator: Allocator;
  clock: FakeClock;
  sources: IPAMSources;
  errors: unknown[];
} {
  const store = setup.shared ?? new MemoryStore(setup.store);
  const clock = new QuickClock();
  const node = setup.node ?? NODE;
  const errors: unknown[] = [];
  const pools = (setup.pools ?? [{ cidr: "10.0.0.0/16" }]).map((spec, i) => {
    const raw = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name: `pool-${i}` }, spec };
    return effectiveIPPool(parseIPPool(raw));
  });
  const settings = { datastoreReady: true, autoAllocateBlocks: true, ...setup.settings };
  const sources: IPAMSources = {
    settings: () => settings,
    pools: () => pools,
    ownAffinities: () => store.all("affinity").filter((affinity) => isHostAffinityOf(affinity, node)),
    knownBlocks: () => store.all("affinity").map((affinity) => parseCIDR(affinity.spec.cidr)),
  };
  const allocator = createAllocator({
    store: setup.kube ?? store,
    sources,
    clock,
    random: () => 0.5,
    nodeName: node,
    isResident: setup.isResident ?? false,
    onBackgroundError: (error) => errors.push(error),
  });
  return { store, allocator, clock, sources, errors };
}

function request(handleID: string, families: readonly Family[] = [4], node = NODE): AssignRequest {
  return { handleID, attributes: { node, pod: handleID, namespace: "default", timestamp: "t" }, families };
}

function summary(requests: readonly StoreRequest[]): string[] {
  return requests.map((r) => `${r.verb} ${r.kind}`);
}

function used(store: MemoryStore): number {
  return store.all("block").reduce((n, b) => n + b.spec.allocations.length - b.spec.unallocated.length, 0);
}

/** Every block is sound, and every address has a handle that counts at least as many. */
function expectSound(store: MemoryStore): void {
  for (const { spec } of store.all("block")) {
    expect(checkBlock(spec, Date.now())).toEqual([]);
    for (const { handle_id } of spec.attributes) {
      const handle = store.peek("handle", (handle_id ?? "").toLowerCase());
      expect(handle?.spec.block[spec.cidr] ?? 0).toBeGreaterThanOrEqual(ordinalsOfHandle(spec, handle_id ?? "").length);
    }
  }
}

describe("assign()", () => {
  it("claims the first block in three writes and no read, then writes handle and block", async () => {
    const { store, allocator } = setUp();
    const [allocation] = await allocator.assign(request("net.c1"));
    expect(summary(store.requests)).toEqual([
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
    expect(results.find((r) => r.status === "rejected")?.reason).toMatchObject({ code: "Overlap" });
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

describe("assign() with things going wrong", () => {
  it("recomputes the whole batch after a conflict, and leaves handles that count right", async () => {
    let conflicts = 3;
    const onRequest = (r: StoreRequest) =>
      r.kind === "block" && r.verb === "update" && conflicts-- > 0 ? ("conflict" as const) : undefined;
    const { store, allocator } = setUp({ store: { onRequest } });
    await Promise.all(Array.from({ length: 10 }, (_, i) => allocator.assign(request(`net.c${i}`))));
    expect(used(store)).toBe(10);
    expectSound(store);
    for (const handle of store.all("handle")) expect(Object.values(handle.spec.block)).toEqual([1]);
  });

  it.each(["lost", "late", "down"] as const)("gives one address when the answer of a write is %s", async (fault) => {
    for (const target of ["create affinity", "create block", "update affinity", "create handle", "update block"]) {
      let isArmed = true;
      const onRequest = (r: StoreRequest) => {
        if (!isArmed || `${r.verb} ${r.kind}` !== target) return undefined;
        isArmed = false;
        return fault;
      };
      const { store, allocator } = setUp({ store: { onRequest } });
      await allocator.assign(request("net.c1"));
      await new Promise((resolve) => setImmediate(resolve));
      expect(isArmed).toBe(false);
      expect(used(store), target).toBe(1);
      expect(Object.values(store.peek("handle", "net.c1")?.spec.block ?? {}), target).toEqual([1]);
      expectSound(store);
      await allocator.releaseByHandle("net.c1");
      expect([used(store), store.all("handle").length], target).toEqual([0, 0]);
    }
  });

  it("fails one waiter whose handle is refused, and no other", async () => {
    const onRequest = (r: StoreRequest) => (r.name === "net.bad" && r.isWrite ? ("refuse" as const) : undefined);
    const { store, allocator } = setUp({ store: { onRequest } });
    const results = await Promise.allSettled(["net.a", "net.bad", "net.b"].map((h) => allocator.assign(request(h))));
    expect(results.map((r) => r.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(used(store)).toBe(2);
    // Its reserved place is free again.
    await Promise.all(Array.from({ length: 62 }, (_, i) => allocator.assign(request(`net.c${i}`))));
    expect(store.all("block")).toHaveLength(1);
  });

  it("tries waiters one by one when the block's write is refused for one's sake", async () => {
    const store = new MemoryStore();
    const update = store.update.bind(store);
    store.update = async (kind, object) => {
      const isPoisoned =
        kind === "block" &&
        JSON.stringify(object.spec, (_, v) => (String(v) === v ? v : typeof v === "bigint" ? 0 : v)).includes(
          "net.bad",
        );
      return isPoisoned ? { kind: "refused", error: new Error("too large") } : await update(kind, object);
    };
    const { allocator } = setUp({ shared: store });
    await allocator.warmUp([4]);
    const results = await Promise.allSettled(["net.a", "net.bad", "net.b"].map((h) => allocator.assign(request(h))));
    expect(results.map((r) => r.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(store.all("handle").map((h) => h.spec.handleID)).toEqual(["net.a", "net.b"]);
    expectSound(store);
  });

  it("keeps the handle, and says so, when nobody knows whether the block took the address", async () => {
    let isDown = false;
    const onRequest = (r: StoreRequest) => {
      if (isDown) return "down" as const;
      if (r.kind !== "block" || r.verb !== "update") return undefined;
      isDown = true;
      return "lost" as const;
    };
    const { store, allocator } = setUp({ store: { onRequest } });
    const error: unknown = await allocator.assign(request("net.c1")).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: "Datastore", mayHoldAddresses: true });
    expect(used(store)).toBe(1);
    expectSound(store);
    isDown = false;
    store.requests.length = 0;
    // Nothing but the first block update is lost.
    await allocator.releaseByHandle("net.c1").catch(() => (isDown = false));
    isDown = false;
    await allocator.releaseByHandle("net.c1").catch(() => (isDown = false));
    expect(used(store)).toBe(0);
  });

  it("fails cleanly while the server is down from the start", async () => {
    const { store, allocator } = setUp({ store: { onRequest: () => "down" } });
    await expect(allocator.assign(request("net.c1"))).rejects.toMatchObject({
      code: "Datastore",
      mayHoldAddresses: false,
    });
    expect(store.all("block")).toEqual([]);
  });

  it("gives everything back when the signal aborts, at whichever request", async () => {
    for (let at = 0; at < 6; at++) {
      const abort = new AbortController();
      let n = 0;
      const onRequest = (): undefined => {
        if (n++ === at) abort.abort(new Error("hung up"));
      };
      const { store, allocator } = setUp({ store: { onRequest } });
      const outcome = await allocator.assign(request("net.c1"), abort.signal).then(
        () => "assigned",
        (error: Error) => error.message,
      );
      expect(outcome).toBe(at < 5 ? "hung up" : "assigned");
      if (at === 5) continue;
      expect(used(store), `request ${at}`).toBe(0);
      expect(store.all("handle"), `request ${at}`).toEqual([]);
    }
  });

  it("drops one waiter that hung up from a batch and serves the others", async () => {
    const { store, allocator } = setUp();
    await allocator.warmUp([4]);
    const abort = new AbortController();
    const waiting = Array.from({ length: 5 }, (_, i) =>
      allocator.assign(request(`net.c${i}`), i === 2 ? abort.signal : undefined),
    );
    abort.abort(new Error("hung up"));
    const results = await Promise.allSettled(waiting);
    expect(results.map((r) => r.status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled", "fulfilled"]);
    expect(used(store)).toBe(4);
    expect(store.all("handle")).toHaveLength(4);
  });

  it("moves a waiter to another block when its own is taken away, new key first", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/24", blockSize: 28 }] });
    await allocator.warmUp([4]);
    const [block] = store.all("block");
    if (block === undefined) throw new Error("no block");
    // Somebody unclaims the block behind our back, and somebody else claims it.
    await store.update("block", {
      ...block,
      spec: { ...withoutAffinity(nextRevision(block.spec)), affinity: "host:node-b" },
    });
    store.requests.length = 0;
    const [allocation] = await allocator.assign(request("net.c1"));
    const taken = store.all("block").find((b) => b.spec.affinity === "host:node-a")?.spec.cidr ?? "";
    expect(taken).not.toBe(block.spec.cidr);
    expect(store.peek("handle", "net.c1")?.spec.block).toEqual({ [taken]: 1 });
    expect(allocation && formatIP(allocation.ip)).toBeDefined();
    const writes = summary(store.requests).filter((r) => !r.startsWith("get"));
    expect(writes.lastIndexOf("update handle")).toBeLessThan(writes.lastIndexOf("update block"));
    expectSound(store);
  });

  it("claims again a block that was stolen while it was empty", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/28", blockSize: 28 }] });
    await allocator.warmUp([4]);
    for (const block of store.all("block")) await store.delete("block", block);
    for (const affinity of store.all("affinity")) await store.delete("affinity", affinity);
    await allocator.assign(request("net.c1"));
    expect(used(store)).toBe(1);
    expectSound(store);
  });

  it("finds addresses that a collector freed in a block that looked full", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/30", blockSize: 30 }] });
    await Promise.all([1, 2, 3, 4].map((i) => allocator.assign(request(`net.c${i}`))));
    const [block] = store.all("block");
    if (block === undefined) throw new Error("no block");
    await store.update("block", { ...block, spec: nextRevision(release(block.spec, [1])) });
    const [allocation] = await allocator.assign(request("net.c5"));
    expect(allocation && formatIP(allocation.ip)).toBe("10.0.0.1");
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
      expect(summary(store.requests)).toEqual(["get block", "update affinity", "update block", "update affinity"]);
      expect(store.all("block")[0]?.spec.sequenceNumber).toBe(6n);
      expect(store.all("affinity")[0]?.spec.state).toBe("confirmed");
    },
  );

  it("makes the block that an affinity promises", async () => {
    const { store, allocator } = setUp({ pools });
    await store.create("affinity", withState(pendingAffinity(NODE, cidr), "confirmed"));
    store.requests.length = 0;
    await allocator.warmUp([4]);
    expect(summary(store.requests)).toEqual(["get block", "update affinity", "create block", "update affinity"]);
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
    const { store, allocator, sources } = setUp({ pools: [{ cidr: "10.0.0.0/27", blockSize: 28 }] });
    expect(await sources.knownBlocks()).toEqual([]);
    const both = [
      block(),
      {
        ...block(),
        metadata: { name: "10-0-0-16-28" },
        spec: newBlock(parseCIDR("10.0.0.16/28"), undefined, { ms: 0, ns: 5n }),
      },
    ];
    for (const b of both) await store.create("block", b);
    await expect(allocator.assign(request("net.c1"))).rejects.toMatchObject({ code: "NoAddress" });
    expect(store.all("affinity")).toEqual([]);
    const second = both[1];
    const stored = second && store.peek("block", second.metadata.name);
    if (stored) await store.delete("block", stored);
    await allocator.assign(request("net.c1"));
    expect(used(store)).toBe(1);
  });

  it("lets one of two nodes have the last block", async () => {
    const store = new MemoryStore();
    const last = { pools: [{ cidr: "10.0.0.0/28", blockSize: 28 }], shared: store };
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
