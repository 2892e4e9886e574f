// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { BLOCK_AFFINITIES, type BlockAffinity } from "../crds/block-affinity.ts";
import { NODES, type Node } from "../crds/core.ts";
import { IP_POOLS, type IPPool } from "../crds/ip-pool.ts";
import { IP_RESERVATIONS, projectReservation } from "../crds/ip-reservation.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import { IPAM_CONFIGS, type IPAMConfig } from "../crds/ipam-config.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import { BORROWS_ANNOTATION } from "../felix/calc/borrowed.ts";
import { fakeAffinity, fakeBlock, fakeNode, fakePool } from "../felix/fake-resources.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { formatIP } from "../net/ip.ts";
import { BorrowedSource } from "./borrowed-source.ts";
import { Informer } from "./informer.ts";
import { MemoryClient } from "./memory-client.ts";

const MINUTE = 60_000;
/** Four blocks, for two nodes: roomy while two of them are claimed. */
const POOL = fakePool("four", "10.0.0.0/24");
const OWN = "10.0.0.0/26";
const NAME = "10-0-0-0-26";

/** A cluster of two nodes with a block each. */
function setUp(...blocks: readonly IPAMBlock[]) {
  const clock = new FakeClock();
  const client = new MemoryClient({ clock });
  const errors: unknown[] = [];
  const shared = { client, clock, random: () => 0.5, onError: (error: unknown) => errors.push(error) };
  const informerOf = <T extends KubeObject>(resource: Resource<T>): Informer<T, T> =>
    new Informer({ ...shared, resource, project: (object: T) => object });
  const nodes = informerOf<Node>(NODES);
  const pools = informerOf<IPPool>(IP_POOLS);
  const affinities = informerOf<BlockAffinity>(BLOCK_AFFINITIES);
  const ipamConfigs = informerOf<IPAMConfig>(IPAM_CONFIGS);
  const reservations = new Informer({ ...shared, resource: IP_RESERVATIONS, project: projectReservation });
  for (const name of ["node-a", "node-b"]) client.seed(NODES, fakeNode(name, []));
  client.seed(IP_POOLS, POOL);
  client.seed(BLOCK_AFFINITIES, fakeAffinity("node-a", OWN));
  client.seed(BLOCK_AFFINITIES, fakeAffinity("node-b", "10.0.0.64/26"));
  for (const block of blocks) client.seed(IPAM_BLOCKS, block);

  const source = new BorrowedSource({ ...shared, nodes, pools, affinities, ipamConfigs, reservations });
  const news: string[] = [];
  source.onChange(({ key, new: block }) => {
    const addresses = block?.addresses.map(({ ip, node }) => `${formatIP(ip)} ${node}`);
    news.push(`${key}: ${addresses?.join(", ") ?? "none"}`);
  });
  let isSynced = false;
  void source.synced.then(() => {
    isSynced = true;
  });
  const all = [nodes, pools, affinities, ipamConfigs, reservations, source];
  for (const part of all) part.start();
  return {
    ...{ clock, client, errors, source, affinities },
    synced: () => isSynced,
    /** Requests about blocks since the last call. */
    requests: () =>
      client.calls.splice(0).flatMap(({ verb, resource }) => (resource.plural === "ipamblocks" ? [verb] : [])),
    news: () => news.splice(0),
    put: async (block: IPAMBlock) => {
      const { metadata } = await client.get(IPAM_BLOCKS, block.metadata.name);
      await client.update(IPAM_BLOCKS, { ...block, metadata });
      client.calls.length = 0;
    },
    stop: async () => {
      await Promise.all(all.map((part) => part.stop()));
    },
  };
}

const lent = fakeBlock(OWN, "host:node-a", { 0: "node-a", 5: "node-b" });
const kept = fakeBlock(OWN, "host:node-a", { 0: "node-a" });
const orphan = fakeBlock(OWN, undefined, { 0: "node-a" });

describe("BorrowedSource", () => {
  test("watches nothing while nothing is borrowed and pools are roomy: one listing soon, then one in 5 minutes", async () => {
    const world = setUp(kept);
    await world.clock.advance(6000);
    expect(world.requests()).toEqual(["list"]);
    expect(world.synced()).toBe(true);
    await world.clock.advance(4 * MINUTE);
    expect(world.requests()).toEqual([]);
    await world.clock.advance(2 * MINUTE);
    expect(world.requests()).toEqual(["list"]);
    await world.clock.advance(60 * MINUTE);
    expect(world.requests().filter((verb) => verb !== "list")).toEqual([]);
    expect(world.news()).toEqual([]);
    await world.stop();
  });

  test("lists by pages of 100, and starts to watch when a listing found a borrowed address", async () => {
    const others = Array.from({ length: 150 }, (_, i) => fakeBlock(`10.1.${i >> 6}.${(i & 63) * 4}/30`, "host:x", {}));
    const world = setUp(kept, ...others);
    await world.clock.advance(6000);
    expect(world.requests()).toEqual(["list", "list"]);
    await world.put(lent);
    expect(world.news()).toEqual([]);
    await world.clock.advance(6 * MINUTE);
    expect(world.requests()).toEqual(["list", "list", "list", "list", "watch"]);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.5 node-b`]);
    expect([...world.source.list()].map(({ name }) => name)).toEqual([NAME]);

    await world.put(fakeBlock(OWN, "host:node-a", { 6: "node-b" }));
    await world.clock.advance(10);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.6 node-b`]);
    expect(world.requests()).toEqual([]);
    await world.stop();
  });

  test("watches from the start while a pool is almost full, and not with strict affinity", async () => {
    for (const strictAffinity of [false, true]) {
      const world = setUp(kept);
      world.client.seed(BLOCK_AFFINITIES, fakeAffinity("node-b", "10.0.0.128/26"));
      const spec = { strictAffinity, autoAllocateBlocks: true, maxBlocksPerHost: 0 } as const;
      const more = { kubeVirtVMAddressPersistence: "Enabled", ipCooldownSeconds: 0 } as const;
      const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMConfig", metadata: { name: "default" } };
      world.client.seed(IPAM_CONFIGS, { ...head, spec: { ...spec, ...more } });
      await world.clock.advance(6000);
      expect(world.requests()).toEqual(strictAffinity ? ["list"] : ["list", "watch"]);
      expect(world.synced()).toBe(true);
      await world.stop();
    }
  });

  test("watches while addresses are reserved for a pod that may move, not for a reservation without an owner", async () => {
    const world = setUp(kept);
    const reservation = (name: string, labels: Readonly<Record<string, string>>) => ({
      ...{ apiVersion: "crd.projectcalico.org/v1", kind: "IPReservation" },
      ...{ metadata: { name, labels }, spec: { reservedCIDRs: ["10.0.0.5"] } },
    });
    await world.clock.advance(6000);
    await world.client.create(IP_RESERVATIONS, reservation("nobody", {}));
    await world.clock.advance(MINUTE);
    expect(world.requests()).toEqual(["list"]);
    await world.client.create(IP_RESERVATIONS, reservation("web", { "gingham.dev/owner-name": "web" }));
    await world.clock.advance(25_000);
    expect(world.requests()).toEqual(["list", "watch"]);
    await world.put(lent);
    await world.clock.advance(10);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.5 node-b`]);
    await world.stop();
  });

  test("a pool that fills up later: the watch begins within half a minute, and ends after ten calm ones", async () => {
    const world = setUp(kept);
    await world.clock.advance(6000);
    expect(world.requests()).toEqual(["list"]);
    const third = fakeAffinity("node-b", "10.0.0.128/26");
    await world.client.create(BLOCK_AFFINITIES, third);
    await world.clock.advance(10_000);
    expect(world.requests()).toEqual([]);
    await world.clock.advance(15_000);
    expect(world.requests()).toEqual(["list", "watch"]);

    // To and fro: no new watch for it.
    await world.client.delete(BLOCK_AFFINITIES, third.metadata.name);
    await world.clock.advance(4 * MINUTE);
    await world.client.create(BLOCK_AFFINITIES, third);
    await world.clock.advance(MINUTE);
    await world.client.delete(BLOCK_AFFINITIES, third.metadata.name);
    await world.clock.advance(6 * MINUTE);
    expect(world.requests().filter((verb) => verb === "list")).toEqual([]);
    await world.clock.advance(9 * MINUTE);
    world.requests();
    await world.put(lent);
    await world.clock.advance(1000);
    expect(world.news()).toEqual([]);
    await world.clock.advance(6 * MINUTE);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.5 node-b`]);
    await world.stop();
  });

  test("stays at the watch as long as something is borrowed, then goes back to listings", async () => {
    const world = setUp(lent);
    await world.clock.advance(6000);
    expect(world.requests()).toEqual(["list", "list", "watch"]);
    await world.clock.advance(30 * MINUTE);
    expect(world.requests().filter((verb) => verb === "list")).toEqual([]);
    await world.put(kept);
    await world.clock.advance(11 * MINUTE);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.5 node-b`, `${NAME}: none`]);
    world.requests();
    await world.clock.advance(30 * MINUTE);
    expect(new Set(world.requests())).toEqual(new Set(["list"]));
    await world.stop();
  });

  test("reads the block of a deleted claim at once: its pods have lost their route", async () => {
    const world = setUp(kept);
    await world.clock.advance(6000);
    await world.put(orphan);
    await world.client.delete(BLOCK_AFFINITIES, fakeAffinity("node-a", OWN).metadata.name);
    world.client.calls.length = 0;
    await world.clock.advance(5000);
    expect(world.requests()).toEqual(["get"]);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.0 node-a`]);
    await world.clock.advance(30_000);
    expect(world.requests()).toEqual(["list", "watch"]);
    expect(world.news()).toEqual([]);
    await world.stop();
  });

  test("a block that has gone with its claim costs one read", async () => {
    const world = setUp();
    await world.clock.advance(6000);
    await world.client.delete(BLOCK_AFFINITIES, fakeAffinity("node-a", OWN).metadata.name);
    world.requests();
    await world.clock.advance(3 * MINUTE);
    expect(world.requests()).toEqual(["get"]);
    expect([world.news(), world.errors]).toEqual([[], []]);
    await world.stop();
  });

  const hint = (text: string | null) => ({ metadata: { annotations: { [BORROWS_ANNOTATION]: text } } });

  test("reads a block within a second of a node's hint, again with each turn until the watch has begun, then no more", async () => {
    const world = setUp(kept);
    await world.clock.advance(6000);
    await world.put(lent);
    await world.client.patch(NODES, "node-b", { type: "merge", body: hint(NAME) });
    await world.clock.advance(1000);
    expect(world.requests()).toEqual(["get"]);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.5 node-b`]);
    await world.put(fakeBlock(OWN, "host:node-a", { 0: "node-a", 5: "node-b", 6: "node-b" }));
    await world.clock.advance(5000);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.5 node-b, 10.0.0.6 node-b`]);
    await world.clock.advance(20_000);
    expect(world.requests().filter((verb) => verb !== "get")).toEqual(["list", "watch"]);
    await world.clock.advance(MINUTE);
    await world.client.patch(NODES, "node-b", { type: "merge", body: hint(`${NAME},10-9-0-0-26`) });
    await world.clock.advance(MINUTE);
    expect(world.requests()).toEqual([]);
    await world.stop();
  });

  test("a hint of what is not borrowed, or not there, costs one read each, and one that is no name nothing", async () => {
    const world = setUp(kept);
    await world.clock.advance(6000);
    world.requests();
    await world.client.patch(NODES, "node-b", { type: "merge", body: hint(`${NAME},10-9-0-0-26,../pods,`) });
    await world.clock.advance(3 * MINUTE);
    expect(world.requests()).toEqual(["get", "get"]);
    await world.client.patch(NODES, "node-b", { type: "merge", body: hint(null) });
    await world.clock.advance(30_000);
    expect(world.requests()).toEqual(["get", "get"]);
    expect([world.news(), world.errors]).toEqual([[], []]);
    await world.stop();
  });

  test("reads at once what this node has borrowed itself", async () => {
    const world = setUp(kept);
    await world.clock.advance(6000);
    await world.put(lent);
    world.source.noteBorrowed(NAME);
    await world.clock.advance(0);
    expect(world.requests()).toEqual(["get"]);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.5 node-b`]);
    await world.stop();
  });

  test("a listing that fails changes nothing and is tried again; a read that fails, too", async () => {
    const world = setUp(lent);
    const error = new Error("away");
    let isAway = true;
    world.client.onCall = ({ resource }) =>
      isAway && resource.plural === "ipamblocks" ? { kind: "fail", error } : undefined;
    await world.clock.advance(MINUTE);
    expect(world.synced()).toBe(false);
    expect(world.requests().length).toBeLessThanOrEqual(5);
    expect(world.errors).toContain(error);
    await world.client.delete(BLOCK_AFFINITIES, fakeAffinity("node-a", OWN).metadata.name);
    await world.clock.advance(MINUTE);
    isAway = false;
    await world.clock.advance(10_000);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.5 node-b`]);
    await world.clock.advance(5 * MINUTE);
    expect(world.synced()).toBe(true);
    await world.stop();
  });

  test("an unreadable block keeps what was known of it", async () => {
    const world = setUp(lent);
    await world.clock.advance(6000);
    expect(world.news()).toEqual([`${NAME}: 10.0.0.5 node-b`]);
    await world.put({ ...lent, spec: { ...lent.spec, allocations: [] } }).catch(() => {});
    await world.clock.advance(10 * MINUTE);
    expect(world.news()).toEqual([]);
    expect(world.errors.length).toBeGreaterThan(0);
    await world.stop();
  });

  test("stop() ends all requests", async () => {
    const world = setUp(lent);
    await world.clock.advance(6000);
    await world.stop();
    world.requests();
    await world.clock.advance(30 * MINUTE);
    expect(world.requests()).toEqual([]);
    expect(world.clock.sleeping).toBe(0);
  });
});
