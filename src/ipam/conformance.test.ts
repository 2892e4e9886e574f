// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseIPAMBlock } from "../crds/ipam-block.ts";
import { blockName } from "../crds/names.ts";
import { parseJSON, stringifyJSON } from "../lib/json.ts";
import { formatCIDR, parseCIDR } from "../net/cidr.ts";
import { pendingAffinity, withState } from "./affinity.ts";
import { newBlock, nextRevision, withoutAffinity } from "./block.ts";
import { expectSound, NODE, request, setUp, used } from "./fake-node.ts";
import { newHandle } from "./handle.ts";

/**
 * Calico's data model, as calico-interop's Appendix B wants it tested. The items that are not here: 1 in
 * crds/parse.test.ts, 2 in crds/names.test.ts, 3 in crds/labels.test.ts, 4, 8, 9, 11 and 12 in allocator/rules.test.ts.
 * From 13 on: the cooldown of section 1.7, which the appendix leaves out.
 */
const cidr = parseCIDR("10.0.0.0/28");
const pools = [{ cidr: "10.0.0.0/28", blockSize: 28 }];
const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock", metadata: { name: blockName(cidr) } };

describe("conformance", () => {
  it("5: a release by handle re-indexes attributes densely and appends to the tail; only an affine block stays", async () => {
    const { store, allocator } = setUp({ pools });
    const first = await allocator.assign({ ...request("a"), count: 2 });
    await allocator.assign({ ...request("a"), attributes: { node: NODE, pod: "a", timestamp: "later" } });
    await allocator.assign({ ...request("b"), count: 2 });
    expect(store.all("block")[0]?.spec.attributes).toHaveLength(3);
    await allocator.releaseByHandle("a");
    const block = store.all("block")[0];
    expect(block?.spec.attributes).toMatchObject([{ handle_id: "b" }]);
    expect(block?.spec.allocations.slice(0, 5)).toEqual([null, null, null, 0, 0]);
    expect(block?.spec.unallocated).toEqual([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2]);
    expect(Object.keys(block?.spec.sequenceNumberForAllocation ?? {})).toEqual(["3", "4"]);
    expect(first).toHaveLength(2);
    await allocator.releaseByHandle("b");
    expect(store.all("block")).toHaveLength(1);
    await allocator.assign(request("c"));
    const owned = store.all("block")[0];
    if (owned === undefined) throw new Error("no block");
    await store.update("block", { ...owned, spec: nextRevision(withoutAffinity(owned.spec)) });
    await allocator.releaseByHandle("c");
    expect([store.all("block"), store.all("handle")]).toEqual([[], []]);
  });

  it("6: conflicts of the block's write leave a handle that counts what the block holds", async () => {
    let conflicts = 3;
    const { store, allocator } = setUp({
      pools,
      store: {
        onRequest: ({ verb, kind }) =>
          verb === "update" && kind === "block" && conflicts-- > 0 ? "conflict" : undefined,
      },
    });
    await allocator.assign({ ...request("a"), count: 3 });
    expect(conflicts).toBeLessThan(0);
    expect(store.peek("handle", "a")?.spec.block).toEqual({ [formatCIDR(cidr)]: 3 });
    expect(used(store)).toBe(3);
  });

  it("7: tombstones of block, handle and affinity are cleared, and the assignment succeeds", async () => {
    const { store, allocator } = setUp({ pools });
    const affinity = withState(pendingAffinity(NODE, cidr), "pendingDeletion");
    await store.create("affinity", { ...affinity, spec: { ...affinity.spec, deleted: "true" } });
    await store.create("block", {
      ...head,
      spec: { ...newBlock(cidr, `host:${NODE}`, { ms: 0, ns: 5n }), deleted: true },
    });
    const handle = newHandle("a", { [formatCIDR(cidr)]: 7 });
    await store.create("handle", { ...handle, spec: { ...handle.spec, deleted: true } });
    await allocator.assign(request("a"));
    expect(store.all("block").map(({ spec }) => [spec.deleted, spec.attributes.length])).toEqual([[false, 1]]);
    expect(store.all("affinity").map(({ spec }) => [spec.deleted, spec.state])).toEqual([["false", "confirmed"]]);
    expect(store.peek("handle", "a")?.spec).toMatchObject({ deleted: false, block: { [formatCIDR(cidr)]: 1 } });
    expectSound(store);
  });

  it("10: a release with a stale sequence number changes nothing", async () => {
    const { store, allocator } = setUp({ pools });
    const [held] = await allocator.assign(request("a"));
    if (held === undefined) throw new Error("nothing assigned");
    const before = store.peek("block", blockName(cidr));
    await allocator.release([{ ...held, sequenceNumber: held.sequenceNumber - 1n }]);
    expect(store.peek("block", blockName(cidr))).toBe(before);
    expect(store.peek("handle", "a")?.spec.block).toEqual({ [formatCIDR(cidr)]: 1 });
    // Nor does one by somebody who does not hold it.
    await allocator.release([{ ...held, handleID: "b" }]);
    expect(store.peek("block", blockName(cidr))).toBe(before);
  });

  it("13: a cooldown record is as Calico writes it, and every value of it is read back the same", async () => {
    const settings = { ipCooldownMs: 30_000, recordsReleases: true };
    const { store, allocator, clock } = setUp({ pools, settings });
    const [a] = await allocator.assign(request("a"));
    await allocator.assign(request("b"));
    if (a === undefined) throw new Error("nothing assigned");
    await allocator.release([a]);
    await allocator.releaseByHandle("b");
    const [stored] = store.all("block");
    const releasedAt = new Date(clock.nowMs()).toISOString();
    // Both were released in the same moment: one record, nothing in it but the time, and no handle any more.
    expect(stored?.spec.attributes).toEqual([{ releasedAt }]);
    expect(stored?.spec.allocations.slice(0, 3)).toEqual([0, 0, null]);
    // By address: what the counter was before that write. By handle: what it was.
    expect(stored?.spec.sequenceNumberForAllocation).toEqual({
      "0": (stored?.spec.sequenceNumber ?? 0n) - 2n,
      "1": a.sequenceNumber + 1n,
    });
    expect(store.all("handle")).toEqual([]);
    expect(parseIPAMBlock(parseJSON(stringifyJSON(stored))).spec).toEqual(stored?.spec);
  });

  it("14: a release of a cooling address changes nothing; an expired one goes with the next write of the block", async () => {
    const settings = { ipCooldownMs: 30_000, recordsReleases: true };
    const { store, allocator, clock } = setUp({ pools, settings });
    const [a] = await allocator.assign(request("a"));
    const [b] = await allocator.assign(request("b"));
    if (a === undefined || b === undefined) throw new Error("nothing assigned");
    await allocator.release([a]);
    const before = store.all("block")[0];
    for (const sequenceNumber of [a.sequenceNumber, before?.spec.sequenceNumberForAllocation["0"] ?? 0n])
      await allocator.release([{ ...a, sequenceNumber }]);
    expect(store.all("block")[0]).toBe(before);
    await clock.advance(30_000);
    // Not strictly older than the cooldown.
    await allocator.assign(request("c"));
    expect(store.all("block")[0]?.spec.unallocated).not.toContain(0);
    await clock.advance(1);
    await allocator.release([b]);
    const after = store.all("block")[0];
    expect(after?.spec.unallocated.at(-1)).toBe(0);
    expect(Object.keys(after?.spec.sequenceNumberForAllocation ?? {})).toEqual(["1", "2"]);
    expectSound(store);
  });

  it("15: nothing is recorded where the cooldown is 0 or the CRD would drop the field", async () => {
    for (const settings of [{ ipCooldownMs: 0 }, { ipCooldownMs: 30_000, recordsReleases: false }]) {
      const { store, allocator } = setUp({ pools, settings });
      await allocator.assign(request("a"));
      await allocator.releaseByHandle("a");
      expect(store.all("block")[0]?.spec).toMatchObject({ attributes: [], sequenceNumberForAllocation: {} });
    }
  });
});
