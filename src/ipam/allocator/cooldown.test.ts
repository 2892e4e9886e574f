// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { blockName } from "../../crds/names.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { formatIP, parseIP } from "../../net/ip.ts";
import { assign, nextRevision, ordinalsOfHandle, release } from "../block.ts";
import { expectSound, NODE, request, setUp, summary, used } from "../fake-node.ts";
import type { MemoryStore } from "../memory-store.ts";
import type { Allocation } from "../types.ts";
import type { Allocator } from "./allocator.ts";

const ONE_BLOCK = [{ cidr: "10.0.0.0/30", blockSize: 30 }];
const TWO_BLOCKS = [{ cidr: "10.0.0.0/29", blockSize: 30 }];
const COOLDOWN_MS = 30_000;

/** Takes an address for each handle, one after the other. */
async function take(allocator: Allocator, ...handles: readonly string[]): Promise<readonly string[]> {
  const ips: string[] = [];
  for (const handle of handles) ips.push(...(await allocator.assign(request(handle))).map(({ ip }) => formatIP(ip)));
  return ips;
}

async function give(allocator: Allocator, ...handles: readonly string[]): Promise<void> {
  for (const handle of handles) await allocator.releaseByHandle(handle);
}

/** What a peer's writer does: it reads, frees, and writes. */
async function giveBehindItsBack(store: MemoryStore, cidr: string, handleID: string): Promise<void> {
  const block = store.peek("block", blockName(parseCIDR(cidr)));
  if (block === undefined) throw new Error("no block");
  const spec = nextRevision(release(block.spec, ordinalsOfHandle(block.spec, handleID)));
  expect(await store.update("block", { ...block, spec })).toMatchObject({ kind: "ok" });
}

describe("the cooldown in memory", () => {
  it("gives the address that is idle for longest, and none that was released less than 30 s ago", async () => {
    const { allocator, clock, store } = setUp({ pools: ONE_BLOCK, isResident: true });
    expect(await take(allocator, "a", "b", "c")).toEqual(["10.0.0.0", "10.0.0.1", "10.0.0.2"]);
    await give(allocator, "b", "a");
    expect(await take(allocator, "d")).toEqual(["10.0.0.3"]);
    // A peer gives back an address that was released before all of them: it rests from the moment we see it.
    await clock.advance(COOLDOWN_MS - 1);
    await give(allocator, "d");
    await clock.advance(1);
    expect(await take(allocator, "e", "f")).toEqual(["10.0.0.1", "10.0.0.0"]);
    expect(store.all("block")[0]?.spec.unallocated).toEqual([3]);
    expectSound(store);
  });

  it("keeps the places of those that it passes over, as the stored queue shows", async () => {
    const { allocator, store } = setUp({ pools: [{ cidr: "10.0.0.0/29", blockSize: 29 }], isResident: true });
    await take(allocator, "a", "b", "c", "d", "e", "f");
    await give(allocator, "d", "b");
    expect(store.all("block")[0]?.spec.unallocated).toEqual([6, 7, 3, 1]);
    await give(allocator, "a");
    expect(await take(allocator, "g", "h")).toEqual(["10.0.0.6", "10.0.0.7"]);
    expect(store.all("block")[0]?.spec.unallocated).toEqual([3, 1, 0]);
  });

  it("refuses nobody: with nothing else free, the one that was released first goes first", async () => {
    const { allocator, clock, store } = setUp({ pools: ONE_BLOCK, isResident: true });
    await take(allocator, "a", "b", "c", "d");
    for (const handle of ["c", "a", "d"]) {
      await give(allocator, handle);
      await clock.advance(1_000);
    }
    expect(await take(allocator, "e", "f", "g")).toEqual(["10.0.0.2", "10.0.0.0", "10.0.0.3"]);
    await expect(allocator.assign(request("h"))).rejects.toMatchObject({ code: "NoAddress" });
    expectSound(store);
  });

  it("takes rested addresses of any own block first, then the longest released of all blocks", async () => {
    const { allocator, clock, store } = setUp({ pools: TWO_BLOCKS, isResident: true });
    const ips = new Map<string, string>();
    for (const handle of ["a", "b", "c", "d", "e", "f", "g", "h"])
      ips.set(handle, (await take(allocator, handle))[0] ?? "");
    expect(store.all("block")).toHaveLength(2);
    for (const handle of ["g", "a", "b", "h"]) {
      await give(allocator, handle);
      await clock.advance(1_000);
    }
    const again = await take(allocator, "i", "j", "k", "l");
    expect(again).toEqual(["g", "a", "b", "h"].map((handle) => ips.get(handle)));
    await give(allocator, "i");
    await clock.advance(COOLDOWN_MS);
    await give(allocator, "j");
    expect(await take(allocator, "m")).toEqual([ips.get("g")]);
  });

  it("never makes a node own more blocks: they follow the number of pods, not how fast these come and go", async () => {
    for (const live of [1, 3, 6]) {
      const owned = new Set<number>();
      for (const cooldownMs of [0, COOLDOWN_MS, 3_600_000]) {
        const pools = [{ cidr: "10.0.0.0/24", blockSize: 30 }];
        const { allocator, store } = setUp({ pools, isResident: true, cooldownMs });
        const handles = Array.from({ length: live }, (_, i) => `net.${i}`);
        await take(allocator, ...handles);
        // The time stands still, so everything that is released goes on cooling.
        for (let i = live; i < live + 100; i++) {
          await give(allocator, `net.${i - live}`);
          await take(allocator, `net.${i}`);
        }
        expect(used(store)).toBe(live);
        owned.add(store.all("block").length);
      }
      expect(owned.size).toBe(1);
    }
  });

  it("is shortened rather than borrowing from another node", async () => {
    const shared = setUp({ pools: TWO_BLOCKS, node: "node-b" });
    await take(shared.allocator, "other");
    const { allocator, store } = setUp({ pools: TWO_BLOCKS, isResident: true, shared: shared.store });
    const mine = await take(allocator, "a", "b", "c", "d");
    await give(allocator, "a");
    expect(await take(allocator, "e")).toEqual([mine[0]]);
    expect(store.all("block").filter(({ spec }) => spec.affinity === `host:${NODE}`)).toHaveLength(1);
    // The next one is borrowed, and rests in the lender's block, too, when it comes back.
    const [borrowed = ""] = await take(allocator, "f");
    expect(mine).not.toContain(borrowed);
    await give(allocator, "f");
    const [next = ""] = await take(allocator, "g");
    expect(mine).not.toContain(next);
    expect(next).not.toBe(borrowed);
  });

  it("does not matter to an address that is asked for by name", async () => {
    const { allocator } = setUp({ pools: ONE_BLOCK, isResident: true });
    const ip = parseIP("10.0.0.2");
    await allocator.assign({ ...request("a"), addresses: [ip] });
    await give(allocator, "a");
    expect(await allocator.assign({ ...request("b"), addresses: [ip] })).toMatchObject([{ ip }]);
  });

  it("counts from when it was seen that somebody else has freed the address", async () => {
    const { allocator, store, clock } = setUp({ pools: ONE_BLOCK, isResident: true });
    await take(allocator, "a", "b");
    await giveBehindItsBack(store, "10.0.0.0/30", "a");
    // This write conflicts, and so it is seen.
    expect(await take(allocator, "c")).toEqual(["10.0.0.2"]);
    await give(allocator, "c");
    await clock.advance(COOLDOWN_MS);
    expect(await take(allocator, "d", "e", "f")).toEqual(["10.0.0.3", "10.0.0.0", "10.0.0.2"]);
  });

  it("looks for another block when a peer was faster with the last rested address", async () => {
    let thief: (() => Promise<void>) | undefined;
    const { allocator, store } = setUp({
      pools: TWO_BLOCKS,
      isResident: true,
      store: {
        onRequest: async ({ verb, kind }) => {
          const steal = verb === "create" && kind === "handle" ? thief : undefined;
          thief = steal === undefined ? thief : undefined;
          await steal?.();
          return undefined;
        },
      },
    });
    const first = await take(allocator, "a", "b", "c", "d", "e");
    await give(allocator, "a");
    // "a" cools in the first block, and the second block of the two has three addresses that have rested.
    const second = store.all("block").find(({ spec }) => spec.unallocated.length === 3);
    if (second === undefined) throw new Error("no second block");
    thief = async () => {
      const spec = { ...second.spec, unallocated: [], allocations: second.spec.allocations.map((i) => i ?? 0) };
      expect(await store.update("block", { ...second, spec: nextRevision(spec) })).toMatchObject({ kind: "ok" });
    };
    expect(await take(allocator, "f")).toEqual([first[0]]);
  });

  it("takes no address that cools in the place of one that a peer was faster with", async () => {
    let thief: (() => Promise<unknown>) | undefined;
    const { allocator, store, clock } = setUp({
      pools: TWO_BLOCKS,
      isResident: true,
      store: {
        onRequest: async ({ verb, kind }) => {
          const steal = verb === "create" && kind === "handle" ? thief : undefined;
          if (steal !== undefined) thief = undefined;
          await steal?.();
          return undefined;
        },
      },
    });
    const ips = await take(allocator, "a", "b", "c", "d");
    const [e = ""] = await take(allocator, "e");
    await give(allocator, "d");
    await clock.advance(COOLDOWN_MS);
    await give(allocator, "b");
    const first = store.all("block").find(({ spec }) => spec.unallocated.length === 2);
    if (first === undefined) throw new Error("no block with two free addresses");
    // One has rested and one cools; the peer takes the one that has rested.
    thief = () => {
      const { block: spec } = assign(first.spec, { handleID: "thief", attributes: { node: "node-b" }, count: 1 });
      return store.update("block", { ...first, spec: nextRevision(spec) });
    };
    const [f = ""] = await take(allocator, "f");
    expect(thief).toBeUndefined();
    expect(ips).not.toContain(f);
    expect(f).not.toBe(e);
  });

  it("is switched off by 0, and a process that ends with its request has none", async () => {
    for (const how of [{ isResident: true, cooldownMs: 0 }, { isResident: false }]) {
      const { allocator } = setUp({ pools: TWO_BLOCKS, ...how });
      const ips = await take(allocator, "a", "b", "c", "d", "e");
      await give(allocator, "c");
      expect(await take(allocator, "f")).toEqual([ips[2]]);
    }
  });

  it("ends when the clock was set back", async () => {
    const { allocator, clock } = setUp({ pools: TWO_BLOCKS, isResident: true });
    const ips = await take(allocator, "a", "b", "c", "d", "e");
    await give(allocator, "c");
    const nowMs = clock.nowMs.bind(clock);
    clock.nowMs = () => nowMs() - 3_600_000;
    expect(await take(allocator, "f")).toEqual([ips[2]]);
  });
});

describe("the cooldown in the block", () => {
  const settings = { ipCooldownMs: 60_000, recordsReleases: true };
  const only = (held: readonly Allocation[]): Allocation => {
    const [first] = held;
    if (first === undefined) throw new Error("nothing assigned");
    return first;
  };

  it("keeps the address from everybody for that time, and the next write frees it", async () => {
    const { allocator, store, clock } = setUp({ pools: ONE_BLOCK, settings });
    const held = only(await allocator.assign(request("a")));
    await take(allocator, "b", "c", "d");
    await allocator.release([held]);
    expect(store.peek("handle", "a")).toBeUndefined();
    const cooling = store.all("block")[0];
    expect(cooling?.spec.unallocated).toEqual([]);
    expect(cooling?.spec.attributes).toContainEqual({ releasedAt: new Date(clock.nowMs()).toISOString() });
    expect(cooling?.spec.sequenceNumberForAllocation["0"]).toBe((cooling?.spec.sequenceNumber ?? 0n) - 1n);
    // Twice is once.
    await allocator.release([held]);
    await allocator.releaseByHandle("a");
    expect(store.all("block")[0]).toBe(cooling);
    await expect(allocator.assign(request("e"))).rejects.toThrow(/all full; 1 of their addresses .* cool down/);
    const byName = { ...request("f"), addresses: [parseIP("10.0.0.0")] };
    await expect(allocator.assign(byName)).rejects.toThrow(/10\.0\.0\.0 .* was released at .* and cools down/);
    await clock.advance(60_001);
    store.requests.length = 0;
    expect(await take(allocator, "g")).toEqual(["10.0.0.0"]);
    // Nobody has to look at the block again for that.
    expect(summary(store.requests)).toEqual(["create handle", "update block"]);
    expectSound(store);
  });

  it("leaves sequence numbers as they are when released by handle", async () => {
    const { allocator, store } = setUp({ pools: ONE_BLOCK, settings });
    const held = only(await allocator.assign(request("a")));
    await allocator.releaseByHandle("a");
    expect(store.all("block")[0]?.spec.sequenceNumberForAllocation).toEqual({ "0": held.sequenceNumber });
  });

  it("that Calico has left is seen as over in time, whatever is set here", async () => {
    const { allocator, store, clock } = setUp({ pools: ONE_BLOCK, isResident: true });
    await take(allocator, "a", "b", "c", "d");
    const block = store.all("block")[0];
    if (block === undefined) throw new Error("no block");
    const releasedAt = new Date(clock.nowMs()).toISOString();
    const attributes = block.spec.attributes.map((a) => (a.handle_id === "b" ? { releasedAt } : a));
    await store.update("block", { ...block, spec: nextRevision({ ...block.spec, attributes }) });
    await expect(allocator.assign(request("e"))).rejects.toMatchObject({ code: "NoAddress" });
    // Over at once, and by now even for the memory of this process.
    await clock.advance(COOLDOWN_MS);
    expect(await take(allocator, "e")).toEqual(["10.0.0.1"]);
    expectSound(store);
  });

  it("ends in own blocks that nobody writes, too", async () => {
    const { allocator, store, clock, errors } = setUp({ pools: ONE_BLOCK, settings, isResident: true });
    await take(allocator, "a", "b");
    await give(allocator, "a");
    const stop = new AbortController();
    const done = allocator.refreshPeriodically(stop.signal);
    await clock.advance(300_000);
    await expect.poll(() => store.all("block")[0]?.spec.unallocated).toEqual([2, 3, 0]);
    expect(store.all("block")[0]?.spec.attributes).toHaveLength(1);
    stop.abort();
    await clock.advance(600_000);
    await done;
    expect(errors).toEqual([]);
  });

  it("that an old peer has cut down to nothing is reported once, and freed by nobody", async () => {
    const { allocator, store, clock, errors } = setUp({ pools: ONE_BLOCK, isResident: true });
    await take(allocator, "a", "b");
    const block = store.all("block")[0];
    if (block === undefined) throw new Error("no block");
    const attributes = block.spec.attributes.map((a) => (a.handle_id === "b" ? {} : a));
    await store.update("block", { ...block, spec: nextRevision({ ...block.spec, attributes }) });
    const stop = new AbortController();
    const done = allocator.refreshPeriodically(stop.signal);
    await clock.advance(300_000);
    await clock.advance(300_000);
    stop.abort();
    await clock.advance(600_000);
    await done;
    expect(errors).toMatchObject([{ code: "BrokenObject" }]);
    expect(String(errors[0])).toContain("10-0-0-0-30 (10.0.0.0/30) has 1 address");
    expect(await take(allocator, "c", "d")).toEqual(["10.0.0.2", "10.0.0.3"]);
    expect(store.all("block")[0]?.spec.allocations[1]).not.toBeNull();
  });
});
