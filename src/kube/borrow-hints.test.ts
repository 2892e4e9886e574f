// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { NODES, type Node } from "../crds/core.ts";
import { BORROWS_ANNOTATION, type BorrowedBlock } from "../felix/calc/borrowed.ts";
import { fakeNode } from "../felix/fake-resources.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { parseIP } from "../net/ip.ts";
import { publishBorrows } from "./borrow-hints.ts";
import { MemoryClient } from "./memory-client.ts";

/** The agent of node-a, and what it knows of borrowed blocks. */
async function setUp({ hint = "", hasNode = true } = {}) {
  const clock = new FakeClock();
  const client = new MemoryClient({ clock });
  const errors: unknown[] = [];
  const stop = new AbortController();
  const blocks = new Map<string, BorrowedBlock>();
  const handlers = new Set<() => void>();
  const world = { isExpected: false };
  const node: Node = fakeNode("node-a", []);
  const annotations = hint === "" ? {} : { [BORROWS_ANNOTATION]: hint };
  const stored = { ...node, metadata: { ...node.metadata, annotations } };
  if (hasNode) client.seed(NODES, stored);
  const synced = Promise.withResolvers<void>();
  const running = publishBorrows(
    {
      ...{ client, clock, nodeName: "node-a", onError: (error) => errors.push(error) },
      // An informer that has not heard of anything since.
      nodes: { get: () => (hasNode ? stored : undefined) },
      borrowed: {
        synced: synced.promise,
        get isExpected() {
          return world.isExpected;
        },
        list: () => blocks.values(),
        onChange: (handler) => {
          const call = (): void => handler({ key: "", new: undefined });
          handlers.add(call);
          return () => handlers.delete(call);
        },
      },
    },
    stop.signal,
  );
  const written = async (): Promise<string | undefined> =>
    (await client.get(NODES, "node-a")).metadata.annotations?.[BORROWS_ANNOTATION];
  return {
    ...{ clock, client, errors, world, written },
    synced: () => synced.resolve(),
    /** Says who has an address of a block. */
    put: (name: string, ...nodes: readonly string[]) => {
      const addresses = nodes.map((by) => ({ ip: parseIP("10.0.0.1"), node: by }));
      if (nodes.length === 0) blocks.delete(name);
      else blocks.set(name, { name, addresses });
      for (const handler of handlers) handler();
    },
    patches: () => client.calls.splice(0).filter(({ verb }) => verb === "patch").length,
    stop: async () => {
      stop.abort();
      await running;
    },
  };
}

describe("publishBorrows()", () => {
  it("names the blocks of others that this node uses, and takes the annotation off with the last", async () => {
    const agent = await setUp();
    agent.synced();
    await agent.clock.advance(0);
    agent.put("10-0-1-0-26", "node-b", "node-a");
    agent.put("10-0-2-0-26", "node-b");
    await agent.clock.advance(0);
    expect(await agent.written()).toBe("10-0-1-0-26");
    agent.put("10-0-0-0-26", "node-a");
    await agent.clock.advance(5000);
    expect(await agent.written()).toBe("10-0-0-0-26,10-0-1-0-26");
    agent.put("10-0-0-0-26");
    agent.put("10-0-1-0-26", "node-b");
    await agent.clock.advance(5000);
    expect(await agent.written()).toBeUndefined();
    expect([agent.patches(), agent.errors]).toEqual([3, []]);
    await agent.stop();
    expect(agent.clock.sleeping).toBe(0);
  });

  it("writes at most once in five seconds, whatever comes and goes", async () => {
    const agent = await setUp();
    agent.synced();
    for (let i = 0; i < 39; i++) {
      agent.put(`10-0-${i % 7}-0-26`, ...(i % 2 === 0 ? ["node-a"] : []));
      await agent.clock.advance(500);
    }
    expect(agent.patches()).toBeLessThanOrEqual(4);
    await agent.stop();
  });

  it("says nothing before all blocks are read once, and then takes off what an earlier life has left", async () => {
    const agent = await setUp({ hint: "10-0-1-0-26" });
    await agent.clock.advance(60_000);
    expect(agent.patches()).toBe(0);
    agent.synced();
    await agent.clock.advance(0);
    expect(await agent.written()).toBeUndefined();
    await agent.stop();
  });

  it("writes nothing while all agents watch blocks, and within a minute of their end", async () => {
    const agent = await setUp();
    agent.world.isExpected = true;
    agent.synced();
    agent.put("10-0-1-0-26", "node-a");
    await agent.clock.advance(300_000);
    expect(agent.patches()).toBe(0);
    agent.world.isExpected = false;
    await agent.clock.advance(60_000);
    expect(await agent.written()).toBe("10-0-1-0-26");
    await agent.stop();
  });

  it("tries again after a failure, and lets a machine without a Node object be", async () => {
    const agent = await setUp();
    let isAway = true;
    agent.client.onCall = ({ verb }) =>
      isAway && verb === "patch" ? { kind: "fail", error: new Error("away") } : undefined;
    agent.synced();
    agent.put("10-0-1-0-26", "node-a");
    await agent.clock.advance(0);
    expect(agent.errors).toHaveLength(1);
    isAway = false;
    await agent.clock.advance(5000);
    expect(await agent.written()).toBe("10-0-1-0-26");
    await agent.stop();

    const bare = await setUp({ hasNode: false });
    bare.synced();
    bare.put("10-0-1-0-26", "node-a");
    await bare.clock.advance(60_000);
    expect([bare.patches(), bare.errors]).toEqual([0, []]);
    await bare.stop();
  });
});
