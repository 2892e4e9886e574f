// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { InvalidObjectError } from "../crds/errors.ts";
import { cool } from "../ipam/cooldown.ts";
import { affinityOf, asBlock, blockOf, nodeFacts, viewOf } from "../ipam/gc/fake-cluster.ts";
import type { CollectionPlan } from "../ipam/gc/types.ts";
import { MemoryStore } from "../ipam/memory-store.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { Collector } from "./collector.ts";
import type { ClusterSource } from "./ports.ts";

async function* none<T>(): AsyncGenerator<T> {}

async function* oneDamaged(): AsyncGenerator<InvalidObjectError> {
  yield new InvalidObjectError("IPAMBlock", "10-0-0-0-26", "spec.allocations[0]", "x", "null or an index");
}

/** A collector of an empty cluster; `plans` has one for each look. */
function collectorOf(
  clock: FakeClock,
  store: MemoryStore = new MemoryStore(),
  lists: Partial<ClusterSource> = {},
): { readonly collector: Collector; readonly plans: CollectionPlan[] } {
  const view = viewOf({ "node-a": nodeFacts() });
  const source: ClusterSource = {
    synced: Promise.resolve(),
    settings: async () => ({ datastoreReady: true, leakGraceMs: 15 * 60_000, pools: [] }),
    view,
    blocks: oneDamaged,
    handles: none,
    affinities: none,
    look: async () => view,
    ...lists,
  };
  const plans: CollectionPlan[] = [];
  const collector = new Collector({
    source,
    store,
    reporter: { census: (plan) => void plans.push(plan), freed: async () => {}, failed: () => {}, skipped: () => {} },
    clock,
    random: () => 0,
    isDryRun: false,
    requestsPerSecond: 1000,
  });
  return { collector, plans };
}

describe("Collector.run()", () => {
  it("looks within seconds when a node is gone, and keeps to its period otherwise", async () => {
    const clock = new FakeClock();
    const { collector, plans } = collectorOf(clock);
    const stop = new AbortController();
    const running = collector.run(stop.signal);
    await clock.advance(200_000);
    expect(plans.length).toBe(1);
    collector.nudge();
    await clock.advance(11_000);
    expect(plans.length).toBe(2);
    await clock.advance(200_000);
    expect(plans.length).toBe(2);
    await clock.advance(110_000);
    expect(plans.length).toBe(3);
    stop.abort();
    await clock.advance(0);
    await running;
  });

  it("counts a block that cannot be parsed among the damaged ones", async () => {
    const { collector, plans } = collectorOf(new FakeClock());
    const settings = { datastoreReady: true, leakGraceMs: 0, pools: [] };
    await collector.pass(settings, new AbortController().signal);
    expect(plans[0]?.damaged).toEqual(["10-0-0-0-26"]);
  });
});

describe("Collector.pass()", () => {
  it("frees what has long cooled down, so that a deleted node's block becomes empty and goes", async () => {
    const clock = new FakeClock();
    const store = new MemoryStore();
    const taken = blockOf("10.0.0.0/30", "node-gone", [{ handleID: "net.x", attributes: {} }]);
    const records = cool(taken.spec, [0], { nowMs: clock.nowMs(), byAddress: new Set() });
    await store.create("block", asBlock(records));
    await store.create("affinity", affinityOf("node-gone", "10.0.0.0/30"));
    const listed = <T>(read: () => readonly T[]): (() => AsyncGenerator<T>) =>
      async function* () {
        yield* read();
      };
    const lists = {
      blocks: listed(() => store.all("block")),
      affinities: listed(() => store.all("affinity")),
    };
    const { collector } = collectorOf(clock, store, lists);
    const settings = { datastoreReady: true, leakGraceMs: 60_000, pools: [] };
    const { signal } = new AbortController();
    for (let minute = 0; minute < 20; minute++) {
      await collector.pass(settings, signal);
      await clock.advance(60_000);
    }
    expect(store.all("block").map(({ spec }) => spec.unallocated)).toEqual([[1, 2, 3]]);
    await clock.advance(1);
    expect(await collector.pass(settings, signal)).toBe(1);
    expect(store.all("block").map(({ spec }) => spec.unallocated)).toEqual([[1, 2, 3, 0]]);
    expect(await collector.pass(settings, signal)).toBe(1);
    expect([store.all("block"), store.all("affinity")]).toEqual([[], []]);
  });

  it("ends when the datastore is locked in the middle of it", async () => {
    const clock = new FakeClock();
    const store = new MemoryStore();
    const cidrs = ["10.0.0.0/30", "10.0.0.4/30", "10.0.0.8/30"];
    for (const cidr of cidrs) await store.create("block", blockOf(cidr, undefined));
    let isLocked = false;
    const settings = { datastoreReady: true, leakGraceMs: 60_000, pools: [] };
    const { collector } = collectorOf(clock, store, {
      settings: async () => ({ ...settings, datastoreReady: !isLocked }),
      blocks: async function* () {
        yield* store.all("block");
        isLocked = clock.nowMs() >= lockedFromMs;
      },
    });
    const lockedFromMs = clock.nowMs() + 1;
    const { signal } = new AbortController();
    for (let minute = 0; minute < 5; minute++) {
      await collector.pass(settings, signal);
      await clock.advance(60_000);
    }
    expect(store.all("block")).toHaveLength(cidrs.length);
    isLocked = false;
    const open = collectorOf(clock, store, {
      blocks: async function* () {
        yield* store.all("block");
      },
    }).collector;
    for (let minute = 0; minute < 5; minute++) {
      await open.pass(settings, signal);
      await clock.advance(60_000);
    }
    expect(store.all("block")).toEqual([]);
  });
});
