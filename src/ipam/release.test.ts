// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { IPAMBlock } from "../crds/ipam-block.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { formatIP } from "../net/ip.ts";
import { assign, nextRevision, release } from "./block.ts";
import { cool } from "./cooldown.ts";
import { IPAMError } from "./errors.ts";
import { expectSound } from "./fake-node.ts";
import { heldAddresses } from "./gc/addresses.ts";
import { affinityOf, asBlock, blockOf, handleOf, podAttributes } from "./gc/fake-cluster.ts";
import type { HeldAddress } from "./gc/types.ts";
import { MemoryStore, type StoreFault, type StoreRequest } from "./memory-store.ts";
import { deleteOrphanHandle, type ReleaseTools, releaseAddresses, thawBlock } from "./release.ts";
import { finishTombstone, releaseAffinity, removeBlock, repairAffinity } from "./release-affinity.ts";

const BLOCK = "10.0.0.0/30";
const NAME = "10-0-0-0-30";
const one = { handleID: "net.One", attributes: podAttributes("node-a", "one") };
const two = { handleID: "net.two", attributes: podAttributes("node-a", "two") };

class QuickClock extends FakeClock {
  override async sleep(): Promise<void> {}
}

interface Setup {
  readonly tools: ReleaseTools;
  readonly store: MemoryStore;
  /** Called before each request of the code under test. */
  fault: (request: StoreRequest) => Promise<StoreFault | undefined> | StoreFault | undefined;
  readonly held: () => readonly HeldAddress[];
  readonly block: () => IPAMBlock | undefined;
}

async function setUp(owner: string | undefined, holders = [one, one, two]): Promise<Setup> {
  const setup: Setup = {
    store: new MemoryStore({ onRequest: (request) => setup.fault(request) }),
    tools: {
      get store() {
        return setup.store;
      },
      clock: new QuickClock(),
      random: () => 0.5,
    },
    fault: () => undefined,
    held: () => setup.store.all("block").flatMap(({ spec }) => heldAddresses(spec)),
    block: () => setup.store.peek("block", NAME),
  };
  const { store } = setup;
  await store.create("block", blockOf(BLOCK, owner, holders));
  const counts = Map.groupBy(holders, ({ handleID }) => handleID);
  for (const [handleID, own] of counts) await store.create("handle", handleOf(handleID, { [BLOCK]: own.length }));
  if (owner !== undefined) await store.create("affinity", affinityOf(owner, BLOCK));
  store.requests.length = 0;
  return setup;
}

const ips = (addresses: readonly HeldAddress[]): string[] => addresses.map(({ ip }) => formatIP(ip));

describe("releaseAddresses()", () => {
  it("frees in one block write, then counts each handle down by what was freed and deletes it at zero", async () => {
    const { tools, store, held, block } = await setUp("node-a");
    const before = block()?.spec.sequenceNumber ?? 0n;
    const { freed, errors } = await releaseAddresses(tools, held().slice(0, 2));
    expect([ips(freed), errors]).toEqual([["10.0.0.0", "10.0.0.1"], []]);
    expect(ips(held())).toEqual(["10.0.0.2"]);
    expect(block()?.spec.sequenceNumber).toBe(before + 1n);
    expect(store.all("handle").map(({ spec }) => spec)).toEqual([
      { handleID: "net.two", block: { [BLOCK]: 1 }, deleted: false },
    ]);
    const writes = store.requests.filter((r) => r.isWrite).map((r) => `${r.verb} ${r.kind}`);
    expect(writes).toEqual(["update block", "update handle", "delete handle"]);
  });

  it("counts an address once that is named twice, so that no other of its handle is lost", async () => {
    const { tools, store, held } = await setUp("node-a");
    const [first] = held();
    if (first === undefined) throw new Error("nothing is held");
    const { freed } = await releaseAddresses(tools, [first, { ...first }]);
    expect(ips(freed)).toEqual(["10.0.0.0"]);
    expect(store.peek("handle", "net.one")?.spec.block).toEqual({ [BLOCK]: 1 });
    expectSound(store);
  });

  it("leaves an address alone that was given again meanwhile, though to the same handle", async () => {
    const { tools, store, held, block } = await setUp("node-a");
    const stale = held();
    const spec = block()?.spec ?? blockOf(BLOCK, "node-a").spec;
    const freed = nextRevision(release(spec, [0]));
    const again = nextRevision(assign({ ...freed, unallocated: [0, 3] }, { ...one, count: 1 }).block);
    await store.update("block", { ...blockOf(BLOCK, "node-a"), ...block(), spec: again });
    expect(ips((await releaseAddresses(tools, stale.slice(0, 1))).freed)).toEqual([]);
    expect(block()?.spec).toEqual(again);
    expect(store.peek("handle", "net.one")?.spec.block).toEqual({ [BLOCK]: 2 });
  });

  it("checks again after a conflict", async () => {
    const setup = await setUp("node-a");
    const stale = setup.held();
    let isFirst = true;
    setup.fault = async (request) => {
      if (!isFirst || request.verb !== "update") return undefined;
      isFirst = false;
      // The owner's DEL comes first.
      await releaseAddresses(setup.tools, stale.slice(0, 1));
      return undefined;
    };
    expect(ips((await releaseAddresses(setup.tools, stale.slice(0, 2))).freed)).toEqual(["10.0.0.1"]);
    expect(ips(setup.held())).toEqual(["10.0.0.2"]);
    expect(setup.store.all("handle").map(({ spec }) => spec.handleID)).toEqual(["net.two"]);
  });

  it("deletes a block that is empty and nobody's, and keeps an empty one that has an owner", async () => {
    const free = await setUp(undefined);
    await releaseAddresses(free.tools, free.held());
    expect([free.store.all("block"), free.store.all("handle")]).toEqual([[], []]);
    const owned = await setUp("node-a");
    await releaseAddresses(owned.tools, owned.held());
    expect(owned.store.all("block").length).toBe(1);
  });

  it("never counts a handle below the truth when the block's write had no answer", async () => {
    const setup = await setUp("node-a");
    let isFirst = true;
    setup.fault = (request) => {
      if (!isFirst || request.verb !== "update") return undefined;
      isFirst = false;
      return "lost";
    };
    const { freed } = await releaseAddresses(setup.tools, setup.held().slice(0, 1));
    expect(ips(freed)).toEqual(["10.0.0.0"]);
    expect(ips(setup.held())).toEqual(["10.0.0.1", "10.0.0.2"]);
    expect(setup.store.peek("handle", "net.one")?.spec.block).toEqual({ [BLOCK]: 2 });
    expectSound(setup.store);
  });

  it("does not count down twice when the handle's write had no answer", async () => {
    const setup = await setUp("node-a");
    let isFirst = true;
    setup.fault = (request) => {
      if (!isFirst || request.kind !== "handle" || !request.isWrite) return undefined;
      isFirst = false;
      return "lost";
    };
    await releaseAddresses(setup.tools, setup.held().slice(0, 1));
    expect(setup.store.peek("handle", "net.one")?.spec.block).toEqual({ [BLOCK]: 1 });
  });

  it("tells of a block that fails, and goes on with the others", async () => {
    const setup = await setUp("node-a");
    await setup.store.create("block", blockOf("10.0.0.4/30", "node-a", [two]));
    setup.fault = ({ verb, name }) => (verb === "update" && name === NAME ? "refuse" : undefined);
    const { freed, errors } = await releaseAddresses(setup.tools, setup.held());
    expect(ips(freed)).toEqual(["10.0.0.4"]);
    expect(errors).toEqual([expect.any(IPAMError)]);
  });
});

describe("deleteOrphanHandle()", () => {
  it("deletes the version that was seen, when its blocks really have none of its addresses", async () => {
    const { tools, store } = await setUp("node-a", [one]);
    const stored = await store.create("handle", handleOf("net.orphan", { [BLOCK]: 1 }));
    const resourceVersion = stored.kind === "ok" ? (stored.object.metadata.resourceVersion ?? "") : "";
    const orphan = { name: "net.orphan", handleID: "net.orphan", resourceVersion };
    expect(await deleteOrphanHandle(tools, { ...orphan, resourceVersion: "0" })).toBe(false);
    expect(await deleteOrphanHandle(tools, orphan)).toBe(true);
    expect(await deleteOrphanHandle(tools, orphan)).toBe(true);
    const lost = await store.create("handle", handleOf("net.lost", { "10.0.0.4/30": 1 }));
    await store.create("block", asBlock({ ...blockOf("10.0.0.4/30", "node-a", [two]).spec, attributes: [] }));
    const { resourceVersion: version = "" } = lost.kind === "ok" ? lost.object.metadata : {};
    const ofDamaged = { name: "net.lost", handleID: "net.lost", resourceVersion: version };
    expect(await deleteOrphanHandle(tools, ofDamaged)).toBe(false);
    const used = store.peek("handle", "net.one")?.metadata.resourceVersion ?? "";
    expect(await deleteOrphanHandle(tools, { name: "net.one", handleID: "net.One", resourceVersion: used })).toBe(
      false,
    );
  });
});

describe("releaseAffinity()", () => {
  function planned(setup: Setup): Parameters<typeof releaseAffinity>[1] {
    const [affinity] = setup.store.all("affinity");
    return {
      name: affinity?.metadata.name ?? "",
      node: "node-a",
      cidr: BLOCK,
      why: "surplus",
      resourceVersion: affinity?.metadata.resourceVersion ?? "",
      sequenceNumber: setup.block()?.spec.sequenceNumber ?? 0n,
    };
  }

  it("takes claim and block away in two phases", async () => {
    const setup = await setUp("node-a", []);
    expect(await releaseAffinity(setup.store, planned(setup))).toBe(true);
    expect([setup.store.all("block"), setup.store.all("affinity")]).toEqual([[], []]);
    const writes = setup.store.requests.filter((r) => r.isWrite).map((r) => `${r.verb} ${r.kind}`);
    expect(writes).toEqual([
      ...["update affinity", "update block", "delete block"],
      ...["update affinity", "delete affinity"],
    ]);
  });

  it.each([
    ["the block is in use", async (s: Setup) => planned(s), [one]],
    ["the block was written since", async (s: Setup) => ({ ...planned(s), sequenceNumber: 1n }), []],
    ["the claim was written since", async (s: Setup) => ({ ...planned(s), resourceVersion: "0" }), []],
  ])("does nothing when %s", async (_, plan, holders) => {
    const setup = await setUp("node-a", holders);
    expect(await releaseAffinity(setup.store, await plan(setup))).toBe(false);
    expect(setup.store.requests.filter((r) => r.isWrite)).toEqual([]);
  });

  it("confirms the claim again when its owner assigned at the last moment", async () => {
    const setup = await setUp("node-a", []);
    const plan = planned(setup);
    setup.fault = async ({ verb, kind }) => {
      if (verb !== "update" || kind !== "block") return undefined;
      setup.fault = () => undefined;
      const block = setup.block() ?? blockOf(BLOCK, "node-a");
      const spec = nextRevision(assign(block.spec, { ...one, count: 1 }).block);
      await setup.store.update("block", { ...block, spec });
      return undefined;
    };
    expect(await releaseAffinity(setup.store, plan)).toBe(false);
    expect(ips(setup.held())).toEqual(["10.0.0.0"]);
    expect(setup.store.all("affinity").map(({ spec }) => spec.state)).toEqual(["confirmed"]);
  });

  it("deletes only the claim when the block is another's", async () => {
    const setup = await setUp("node-b", [one]);
    const stored = await setup.store.create("affinity", affinityOf("node-a", BLOCK));
    const { metadata } = stored.kind === "ok" ? stored.object : affinityOf("node-a", BLOCK);
    const { name, resourceVersion = "" } = metadata;
    const plan = { name, node: "node-a", cidr: BLOCK, why: "foreignBlock" as const, resourceVersion };
    expect(await releaseAffinity(setup.store, plan)).toBe(true);
    expect(setup.store.all("affinity").map(({ spec }) => spec.node)).toEqual(["node-b"]);
    expect(setup.store.all("block").length).toBe(1);
  });

  it("repairAffinity() confirms a claim that was left pendingDeletion, and writes the block in between", async () => {
    const setup = await setUp("node-a", [one]);
    const [affinity] = setup.store.all("affinity");
    if (affinity === undefined) throw new Error("no affinity");
    await setup.store.update("affinity", { ...affinity, spec: { ...affinity.spec, state: "pendingDeletion" } });
    const before = setup.block()?.spec.sequenceNumber ?? 0n;
    expect(await repairAffinity(setup.store, planned(setup))).toBe(true);
    expect(setup.store.all("affinity").map(({ spec }) => spec.state)).toEqual(["confirmed"]);
    expect(setup.block()?.spec.sequenceNumber).toBe(before + 1n);
  });
});

describe("thawBlock()", () => {
  const LONG_AGO = { nowMs: 0, byAddress: new Set<number>() };
  async function coolDown({ store, block }: Setup, ordinals: readonly number[], cooling = LONG_AGO): Promise<void> {
    const stored = block();
    if (stored === undefined) throw new Error("no block");
    await store.update("block", { ...stored, spec: nextRevision(cool(stored.spec, ordinals, cooling)) });
  }

  it("frees what no cooldown keeps any more, and the block with it when nobody owns it", async () => {
    const owned = await setUp("node-a", [one, two]);
    await coolDown(owned, [0]);
    const before = owned.block()?.spec.sequenceNumber ?? 0n;
    expect(await thawBlock(owned.tools, NAME)).toBe(true);
    expect(owned.block()?.spec).toMatchObject({ unallocated: [2, 3, 0], sequenceNumber: before + 1n });
    expect(await thawBlock(owned.tools, NAME)).toBe(false);
    const unowned = await setUp(undefined, [one]);
    await coolDown(unowned, [0]);
    expect(await thawBlock(unowned.tools, NAME)).toBe(true);
    expect(unowned.store.all("block")).toEqual([]);
    expect(await thawBlock(unowned.tools, NAME)).toBe(false);
  });

  it("leaves what may still cool, damaged blocks, and what another writer was faster with", async () => {
    const setup = await setUp("node-a", [one, two]);
    const { clock } = setup.tools;
    await coolDown(setup, [0], { ...LONG_AGO, nowMs: clock.nowMs() - 1_200_000 });
    expect(await thawBlock(setup.tools, NAME)).toBe(false);
    await coolDown(setup, [1]);
    setup.fault = ({ verb }) => (verb === "update" ? "conflict" : undefined);
    expect(await thawBlock(setup.tools, NAME)).toBe(false);
    setup.fault = ({ verb }) => (verb === "update" ? "refuse" : undefined);
    await expect(thawBlock(setup.tools, NAME)).rejects.toMatchObject({ code: "Datastore" });
    setup.fault = () => undefined;
    const stored = setup.block();
    if (stored === undefined) throw new Error("no block");
    await setup.store.update("block", { ...stored, spec: { ...stored.spec, unallocated: [2, 2] } });
    expect(await thawBlock(setup.tools, NAME)).toBe(false);
  });

  it("happens with a collector's release, too, and a second release of what cools does nothing", async () => {
    const setup = await setUp("node-a", [one, two]);
    const held = setup.held();
    await coolDown(setup, [0]);
    const { freed, errors } = await releaseAddresses(setup.tools, held);
    expect([ips(freed), errors]).toEqual([["10.0.0.1"], []]);
    expect(setup.block()?.spec.unallocated).toEqual([2, 3, 0, 1]);
  });
});

describe("removeBlock() and finishTombstone()", () => {
  it("remove what is empty and as it was seen", async () => {
    const { store, block } = await setUp(undefined, []);
    const sequenceNumber = block()?.spec.sequenceNumber ?? 0n;
    expect(await removeBlock(store, { name: NAME, why: "unowned", sequenceNumber: 1n })).toBe(false);
    expect(await removeBlock(store, { name: NAME, why: "unowned", sequenceNumber })).toBe(true);
    expect(store.all("block")).toEqual([]);
  });

  it("finish another's deletion", async () => {
    const { store } = await setUp(undefined, []);
    const handle = handleOf("net.left", {});
    await store.create("handle", { ...handle, spec: { ...handle.spec, deleted: true } });
    expect(await finishTombstone(store, { kind: "handle", name: "net.left" })).toBe(true);
    expect(store.all("handle")).toEqual([]);
  });
});
