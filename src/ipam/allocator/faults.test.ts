// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { stringifyJSON } from "../../lib/json.ts";
import { formatIP } from "../../net/ip.ts";
import { nextRevision, release, withoutAffinity } from "../block.ts";
import { IPAMError } from "../errors.ts";
import { expectSound, request, setUp, summary, used } from "../fake-node.ts";
import { MemoryStore, type StoreRequest } from "../memory-store.ts";

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

  it("goes on without reads after a datastore was set back to a backup, whose numbers are lower", async () => {
    const { store, allocator } = setUp();
    await allocator.assign(request("net.c1"));
    const [backup] = store.all("block");
    await allocator.assign(request("net.c2"));
    const [now] = store.all("block");
    if (backup === undefined || now === undefined) throw new Error("There is no block");
    await store.update("block", { ...now, spec: backup.spec });
    await allocator.assign(request("net.c3"));
    store.requests.length = 0;
    await allocator.assign(request("net.c4"));
    expect(summary(store.requests)).toEqual(["create handle", "update block"]);
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
      const isPoisoned = kind === "block" && stringifyJSON(object.spec).includes("net.bad");
      return isPoisoned
        ? { kind: "refused", error: new Error("too large"), isBusy: false }
        : await update(kind, object);
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

  it("does not make an overloaded server's lot worse by trying waiters one by one", async () => {
    const store = new MemoryStore();
    const update = store.update.bind(store);
    let refused = 0;
    store.update = async (kind, object) => {
      if (kind !== "block") return await update(kind, object);
      refused++;
      return { kind: "refused", error: new Error("429"), isBusy: true };
    };
    const { allocator } = setUp({ shared: store });
    await allocator.warmUp([4]);
    const results = await Promise.allSettled(["net.a", "net.b"].map((h) => allocator.assign(request(h))));
    expect(results).toMatchObject([{ reason: { code: "Datastore" } }, { reason: { code: "Datastore" } }]);
    expect(refused).toBe(1);
    expect([used(store), store.all("handle").length]).toEqual([0, 0]);
  });

  it("lets requests with other pools have room in a block that is just being claimed", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/28", blockSize: 28 }] });
    await Promise.all([
      allocator.assign(request("net.c1")),
      allocator.assign({ ...request("net.c2"), pools: { 4: ["pool-0"] } }),
      allocator.assign({ ...request("net.c3"), pools: { 4: ["10.0.0.0/28"] } }),
    ]);
    expect(used(store)).toBe(3);
  });

  it("turns away from a damaged block", async () => {
    const store = new MemoryStore();
    let broken = "";
    const get = store.get.bind(store);
    store.get = async (kind, name) => {
      if (kind === "block" && name === broken) throw new IPAMError("BrokenObject", "damaged");
      return await get(kind, name);
    };
    const { allocator, errors } = setUp({ shared: store, pools: [{ cidr: "10.0.0.0/24", blockSize: 28 }] });
    await allocator.warmUp([4]);
    const [block] = store.all("block");
    if (block === undefined) throw new Error("no block");
    await store.update("block", { ...block, spec: nextRevision(block.spec) });
    broken = block.metadata.name;
    await allocator.assign(request("net.c1"));
    expect(errors).toMatchObject([{ code: "BrokenObject" }]);
    expect(store.all("block")).toHaveLength(2);
    expectSound(store);
  });

  it("gives everything back when the signal aborts, at whichever request", async () => {
    for (let at = 0; at < 7; at++) {
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
      expect(outcome).toBe(at < 6 ? "hung up" : "assigned");
      if (at === 6) continue;
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
