// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { InvalidObjectError } from "../crds/errors.ts";
import { nodeFacts, viewOf } from "../ipam/gc/fake-cluster.ts";
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
function collectorOf(clock: FakeClock): { readonly collector: Collector; readonly plans: CollectionPlan[] } {
  const view = viewOf({ "node-a": nodeFacts() });
  const source: ClusterSource = {
    synced: Promise.resolve(),
    settings: async () => ({ datastoreReady: true, leakGraceMs: 15 * 60_000, pools: [] }),
    view,
    blocks: oneDamaged,
    handles: none,
    affinities: none,
    look: async () => view,
  };
  const plans: CollectionPlan[] = [];
  const collector = new Collector({
    source,
    store: new MemoryStore(),
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
