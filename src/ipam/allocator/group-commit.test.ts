// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseCIDR } from "../../net/cidr.ts";
import type { AssignOp } from "../batch.ts";
import { blockOf } from "../gc/fake-cluster.ts";
import { MemoryStore, type StoreFault } from "../memory-store.ts";
import { NO_RESERVATIONS } from "../reservations.ts";
import { BlockCommitter } from "./group-commit.ts";

const CIDR = "10.0.0.0/29";
const op: AssignOp = { kind: "assign", handleID: "net.a", attributes: { node: "node-a" }, count: 1 };

class QuickClock extends FakeClock {
  override async sleep(): Promise<void> {}
}

function committerOf(store: MemoryStore): BlockCommitter {
  const tools = {
    store,
    clock: new QuickClock(),
    random: () => 0.5,
    nodeName: "node-a",
    loadOwn: async () => undefined,
    turn: () => turn(),
    reservations: () => NO_RESERVATIONS,
    cooldown: () => ({ ipCooldownMs: 0, recordsReleases: false }),
    cooldownMs: 0,
    onBroken: () => {},
  };
  return new BlockCommitter(tools, parseCIDR(CIDR), () => {});
}

describe("BlockCommitter", () => {
  it("gives a request no address twice when an old answer and a lost write meet", async () => {
    const faults: StoreFault[] = [];
    const store = new MemoryStore({ onRequest: ({ verb }) => (verb === "update" ? faults.shift() : undefined) });
    await store.create("block", blockOf(CIDR, "node-b"));
    const committer = committerOf(store);
    const [listed] = store.all("block");
    committer.adopt(listed);
    expect(await committer.submit(op)).toMatchObject({ ordinals: [0] });
    // The list of somebody else's search was answered before that write.
    committer.adopt(listed);
    // Not taken, and nobody says so.
    faults.push("down");
    expect(await committer.submit(op)).toMatchObject({ ordinals: [1] });
    expect(store.all("block")[0]?.spec.unallocated).toEqual([2, 3, 4, 5, 6, 7]);
  });
});
