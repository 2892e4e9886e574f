// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import type { AssignOp } from "../batch.ts";
import { blockOf } from "../gc/fake-cluster.ts";
import { MemoryStore, type StoreFault } from "../memory-store.ts";
import { commitTools } from "./fake-tools.ts";
import { BlockCommitter } from "./group-commit.ts";

const CIDR = "10.0.0.0/29";
const op: AssignOp = { kind: "assign", handleID: "net.a", attributes: { node: "node-a" }, count: 1 };

describe("BlockCommitter", () => {
  it("gives a request no address twice when an old answer and a lost write meet", async () => {
    const faults: StoreFault[] = [];
    const store = new MemoryStore({ onRequest: ({ verb }) => (verb === "update" ? faults.shift() : undefined) });
    await store.create("block", blockOf(CIDR, "node-b"));
    const committer = new BlockCommitter(commitTools(store), parseCIDR(CIDR), () => {});
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
