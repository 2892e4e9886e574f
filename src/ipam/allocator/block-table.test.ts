// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import { blockOf } from "../gc/fake-cluster.ts";
import { MemoryStore } from "../memory-store.ts";
import { BlockTable } from "./block-table.ts";
import { commitTools } from "./fake-tools.ts";

const FULL = Array.from({ length: 4 }, (_, i) => ({ handleID: `net.${i}`, attributes: { node: "node-b" } }));

describe("BlockTable", () => {
  it("forgets blocks of others that it looked at, but for the last ones; own ones and those at work it keeps", async () => {
    const store = new MemoryStore();
    const onBackgroundError = (error: unknown): void => expect(error).toBeUndefined();
    const table = new BlockTable({ ...commitTools(store), onOwned: () => {}, onBackgroundError });
    const cidrs = Array.from({ length: 200 }, (_, i) => `10.0.${i >> 6}.${(i & 63) * 4}/30`);
    for (const cidr of cidrs) await store.create("block", blockOf(cidr, "node-b", FULL));
    const own = parseCIDR("10.9.0.0/30");
    table.adoptOwn(own, blockOf("10.9.0.0/30", "node-a"));
    const [first = ""] = cidrs;
    await store.update("block", {
      ...blockOf(first, "node-b"),
      metadata: { ...store.all("block")[0]?.metadata, name: "10-0-0-0-30" },
    });
    const lender = table.committer(parseCIDR(first));
    expect(await table.canLend(lender)).toBe(true);
    lender.reserve(1);
    for (const cidr of cidrs.slice(1)) expect(await table.canLend(table.committer(parseCIDR(cidr)))).toBe(false);
    const kept = [...table.committers()];
    expect(kept.length).toBeLessThanOrEqual(66);
    expect(kept).toContain(lender);
    expect(table.committer(own).isOwn).toBe(true);
    lender.unreserve(1);
    table.committer(parseCIDR("10.10.0.0/30"));
    expect([...table.committers()]).not.toContain(lender);
  });
});
