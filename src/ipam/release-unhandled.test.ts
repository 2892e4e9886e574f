// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { IPAMBlockSpec } from "../crds/ipam-block.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { blockOf } from "./gc/fake-cluster.ts";
import { MemoryStore } from "./memory-store.ts";
import { releaseUnhandled } from "./release-unhandled.ts";

const NAME = "10-0-0-0-30";

async function stored(spec: Partial<IPAMBlockSpec>, block = blockOf("10.0.0.0/30", "node-a")): Promise<MemoryStore> {
  const store = new MemoryStore();
  const { resourceVersion: _version, uid: _uid, ...metadata } = block.metadata;
  await store.create("block", { ...block, metadata, spec: { ...block.spec, ...spec } });
  return store;
}

const taken = (attribute: IPAMBlockSpec["attributes"][number]): Partial<IPAMBlockSpec> => ({
  allocations: [null, 0, null, null],
  unallocated: [0, 2, 3],
  attributes: [attribute],
  sequenceNumberForAllocation: { "1": 7n },
  sequenceNumber: 8n,
});
const clock = new FakeClock();
const release = async (store: MemoryStore, sequenceNumber = 7n): Promise<boolean> =>
  await releaseUnhandled({ store, clock, random: () => 0 }, { block: NAME, ordinal: 1, sequenceNumber });

describe("releaseUnhandled()", () => {
  it.each([[{}], [{ secondary: { note: "by hand" } }]])("frees what has no handle: %j", async (attribute) => {
    const store = await stored(taken(attribute));
    expect(await release(store)).toBe(true);
    const block = await store.get("block", NAME);
    expect(block?.spec).toMatchObject({ attributes: [], unallocated: [0, 2, 3, 1], sequenceNumber: 9n });
  });

  it("takes a block without an owner along with its last address", async () => {
    const store = await stored(taken({}), blockOf("10.0.0.0/30", undefined));
    expect(await release(store)).toBe(true);
    expect(await store.get("block", NAME)).toBeUndefined();
  });

  it.each([
    ["a handle has it now", taken({ handle_id: "net.a" }), 7n],
    ["it cools", taken({ releasedAt: "2026-08-22T10:00:00Z" }), 7n],
    ["it was given again", taken({}), 6n],
    ["it is free", {}, 7n],
  ])("does nothing when %s", async (_why, spec, sequenceNumber) => {
    const store = await stored(spec);
    const before = await store.get("block", NAME);
    expect(await release(store, sequenceNumber)).toBe(false);
    expect(await store.get("block", NAME)).toEqual(before);
  });

  it("decides again after a lost compare-and-swap", async () => {
    const store = await stored(taken({}));
    const update = store.update.bind(store);
    let lost = 0;
    store.update = async (kind, object) => {
      if (lost++ > 0) return await update(kind, object);
      const block = await store.get("block", NAME);
      if (block !== undefined)
        await update("block", { ...block, spec: { ...block.spec, ...taken({ handle_id: "net.a" }) } });
      return { kind: "conflict" };
    };
    const released = release(store);
    await clock.advance(1000);
    expect(await released).toBe(false);
    expect((await store.get("block", NAME))?.spec.attributes).toEqual([{ handle_id: "net.a" }]);
  });
});
