// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { IPAMError } from "../errors.ts";
import { request, type Setup, setUp } from "../fake-node.ts";
import { MemoryStore } from "../memory-store.ts";
import type { AssignRequest } from "../types.ts";
import type { Allocator } from "./allocator.ts";

const SMALL = { cidr: "10.0.0.0/29", blockSize: 30 } as const;

/** `had`, or the code with which it rejected. */
async function outcomeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "had";
  } catch (error) {
    if (error instanceof IPAMError) return error.code;
    throw error;
  }
}

async function take(allocator: Allocator, count: number, from = 0): Promise<void> {
  for (let i = from; i < from + count; i++) await allocator.assign(request(`net.c${i}`));
}

interface Case {
  readonly name: string;
  readonly setup: Setup;
  /** Addresses that this node, and another before it, have taken. */
  readonly own?: number;
  readonly others?: number;
  readonly ask?: Partial<AssignRequest>;
  readonly outcome: string;
}

const CASES: readonly Case[] = [
  { name: "a fresh pool", setup: { pools: [SMALL] }, outcome: "had" },
  { name: "an own block with room", setup: { pools: [SMALL] }, own: 3, others: 1, outcome: "had" },
  { name: "a full block and another to claim", setup: { pools: [SMALL] }, own: 4, outcome: "had" },
  { name: "a full pool", setup: { pools: [SMALL] }, own: 8, outcome: "NoAddress" },
  {
    name: "a pool that others have, with room to borrow",
    setup: { pools: [SMALL] },
    others: 5,
    own: 0,
    outcome: "had",
  },
  {
    name: "the same without borrowing",
    setup: { pools: [SMALL], settings: { strictAffinity: true } },
    others: 5,
    outcome: "NoAddress",
  },
  {
    name: "a limit that is reached",
    setup: { pools: [SMALL], settings: { maxBlocksPerHost: 1 } },
    own: 4,
    outcome: "BlockLimit",
  },
  {
    name: "no claims allowed",
    setup: { pools: [SMALL], settings: { autoAllocateBlocks: false } },
    outcome: "NoAddress",
  },
  { name: "all reserved", setup: { pools: [SMALL], reserved: ["10.0.0.0/28"] }, outcome: "NoAddress" },
  { name: "no pool at all", setup: { pools: [] }, outcome: "PoolNotFound" },
  { name: "a pool that is off", setup: { pools: [{ ...SMALL, disabled: true }] }, outcome: "PoolNotFound" },
  { name: "one of two families", setup: { pools: [SMALL] }, ask: { families: [4, 6] }, outcome: "PoolNotFound" },
  { name: "a name that is unknown", setup: { pools: [SMALL] }, ask: { pools: { 4: ["x"] } }, outcome: "PoolNotFound" },
  { name: "a locked datastore", setup: { settings: { datastoreReady: false } }, outcome: "NotReady" },
];

describe("rehearse()", () => {
  it.each(CASES)("says what assign() then does, and writes nothing: $name", async (row) => {
    const shared = new MemoryStore();
    if (row.others !== undefined)
      await take(setUp({ pools: [SMALL], shared, node: "node-b" }).allocator, row.others, 50);
    const { allocator } = setUp({ ...row.setup, shared });
    await take(allocator, row.own ?? 0);
    const before = shared.requests.length;
    const ask = { ...request("net.new"), ...row.ask };
    expect(await outcomeOf(allocator.rehearse(ask))).toBe(row.outcome);
    expect(shared.requests.slice(before).filter(({ isWrite }) => isWrite)).toEqual([]);
    expect(await outcomeOf(allocator.assign(ask))).toBe(row.outcome);
  });

  it("counts blocks of its own that this process has not read, and a claim that is empty and old", async () => {
    const shared = new MemoryStore();
    const strict = { pools: [SMALL], shared, settings: { strictAffinity: true } };
    await take(setUp(strict).allocator, 5);
    const restarted = setUp(strict).allocator;
    expect(await outcomeOf(restarted.rehearse(request("net.new")))).toBe("had");

    const other = setUp({ ...strict, node: "node-b" });
    expect(await outcomeOf(other.allocator.rehearse(request("net.new")))).toBe("NoAddress");
    await restarted.releaseByHandle("net.c4");
    await other.clock.advance(60_000);
    expect(await outcomeOf(other.allocator.rehearse(request("net.new")))).toBe("had");
    expect(await outcomeOf(other.allocator.assign(request("net.new")))).toBe("had");
  });

  it("counts a pool whatever namespaces it is for, since some pod could have its address", async () => {
    const { allocator } = setUp({ pools: [{ ...SMALL, namespaceSelector: 'team == "x"' }] });
    expect(await outcomeOf(allocator.rehearse(request("net.new")))).toBe("had");
  });

  it("lists all blocks once a minute while nothing is to be had, and sees an own address come free at once", async () => {
    const { allocator, store, clock } = setUp({ pools: [SMALL] });
    await take(allocator, 8);
    const lists = (): number => store.requests.filter(({ verb, kind }) => verb === "list" && kind === "block").length;
    const before = lists();
    for (let i = 0; i < 3; i++) await outcomeOf(allocator.rehearse(request("net.new")));
    expect(lists()).toBe(before + 1);
    await clock.advance(60_000);
    expect(await outcomeOf(allocator.rehearse(request("net.new")))).toBe("NoAddress");
    expect(lists()).toBe(before + 2);
    await allocator.releaseByHandle("net.c3");
    expect(await outcomeOf(allocator.rehearse(request("net.new")))).toBe("had");
  });

  it("goes by what is known while the API server does not answer", async () => {
    let isDown = false;
    const { allocator } = setUp({ pools: [SMALL], store: { onRequest: () => (isDown ? "down" : undefined) } });
    await take(allocator, 8);
    isDown = true;
    expect(await outcomeOf(allocator.rehearse(request("net.new")))).toBe("had");
  });
});

describe("contradiction()", () => {
  it("is none for what is held, and tells what is there instead", async () => {
    const { allocator, store } = setUp({ pools: [SMALL] });
    const [held] = await allocator.assign(request("net.c1"));
    if (held === undefined) throw new Error("nothing was assigned");
    expect(await allocator.contradiction(held)).toBeUndefined();
    expect(await allocator.contradiction({ ...held, handleID: "net.c2" })).toMatch(/held by net\.c1/);
    const stale = { ...held, sequenceNumber: held.sequenceNumber - 1n };
    expect(await allocator.contradiction(stale)).toMatch(`sequence number ${held.sequenceNumber}`);
    await allocator.release([held]);
    expect(await allocator.contradiction(held)).toMatch(/is free in IPAMBlock 10\.0\.0\.\d\/30/);
    for (const block of store.all("block")) await store.delete("block", block);
    expect(await allocator.contradiction(held)).toMatch(/does not exist/);
  });
});
