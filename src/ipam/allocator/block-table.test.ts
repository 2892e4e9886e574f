// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { blockOf } from "../gc/fake-cluster.ts";
import { MemoryStore } from "../memory-store.ts";
import { NO_RESERVATIONS } from "../reservations.ts";
import { BlockTable } from "./block-table.ts";

const FULL = Array.from({ length: 4 }, (_, i) => ({ handleID: `net.${i}`, attributes: { node: "node-b" } }));

function tableOver(store: MemoryStore): BlockTable {
  return new BlockTable({
    store,
    clock: new FakeClock(),
    random: () => 0.5,
    nodeName: "node-a",
    loadOwn: async () => undefined,
    turn: () => turn(),
    reservations: () => NO_RESERVATIONS,
    cooldown: () => ({ ipCooldownMs: 0, recordsReleases: false }),
    cooldownMs: 0,
    onBroken: () => {},
    onOwned: () => {},
    onBackgroundError: (error) => expect(error).toBeUndefined(),
  });
}

describe("BlockTable", () => {
  it("forgets blocks of others that it looked at, but for the last ones; own ones and those at work it keeps", async () => {
    const store = new MemoryStore();
    const table = tableOver(store);
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
