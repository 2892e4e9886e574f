// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type EffectiveIPPool, effectiveIPPool, parseIPPool } from "../../crds/ip-pool.ts";
import type { IPAMBlock, IPAMBlockSpec } from "../../crds/ipam-block.ts";
import { affinityName, blockName } from "../../crds/names.ts";
import type { Clock } from "../../lib/clock.ts";
import { type CIDR, formatCIDR, ipAt, parseCIDR } from "../../net/cidr.ts";
import { type Family, formatIP } from "../../net/ip.ts";
import { hostAffinity, isHostAffinityOf, nodeOfAffinity, pendingAffinity, withState } from "../affinity.ts";
import { assign, isEmptyBlock, newBlock, nextRevision, ordinalsOfHandle, release, withoutAffinity } from "../block.ts";
import { cool, coolingCount, thaw } from "../cooldown.ts";
import { IPAMError } from "../errors.ts";
import { expectSound } from "../fake-node.ts";
import { addToBlocks, newHandle, withBlocks } from "../handle.ts";
import { MemoryStore } from "../memory-store.ts";
import type { IPAMSettings, IPAMSources, IPAMStore, Reservations, StoredKind } from "../ports.ts";
import { ReservationIndex } from "../reservations.ts";
import type { Allocation, AssignRequest } from "../types.ts";
import { type Allocator, createAllocator } from "./allocator.ts";

/** Decides who goes next, so that a seed is one interleaving of all requests of all hosts. */
class Scheduler {
  readonly random: () => number;
  readonly #ready: (() => void)[] = [];

  constructor(seed: number) {
    let state = seed >>> 0;
    // mulberry32
    this.random = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  pause(): Promise<void> {
    return new Promise((resolve) => this.#ready.push(resolve));
  }

  later(fn: () => void): void {
    this.#ready.push(fn);
  }

  /** Runs until the work is done and nothing is left. Rejects when everybody waits for nobody. */
  async run(work: Promise<unknown>, afterEach: () => void): Promise<void> {
    let isDone = false;
    const finished = work.finally(() => {
      isDone = true;
    });
    finished.catch(() => {});
    for (let idle = 0; !isDone || this.#ready.length > 0; ) {
      const [next] = this.#ready.splice(Math.floor(this.random() * this.#ready.length), 1);
      if (next === undefined && ++idle > 20) throw new Error("Everybody waits: a request hangs");
      if (next !== undefined) idle = 0;
      next?.();
      await turn();
      afterEach();
    }
    await finished;
  }
}

interface World {
  readonly scheduler: Scheduler;
  readonly store: MemoryStore;
  readonly pools: readonly EffectiveIPPool[];
  readonly clock: Clock;
  readonly settings: IPAMSettings;
  readonly reservations: Reservations;
  /** Address to the handle that believes that it holds it. */
  readonly holders: Map<string, string>;
  /** What happened at all, so that a simulation that has become too easy is noticed. */
  readonly seen: { assigned: number; borrowed: number; unclaimed: number; limited: number } & {
    /** Assignments beside an address that cooled, and of one that did. */
    spared: number;
    hurried: number;
  };
  /** Of agents' memory. */
  readonly cooldownMs: number;
  /** The time, without a look at the clock. */
  readonly peekMs: () => number;
  /** Handles that asked for their address by name. */
  readonly named: Set<string>;
  /** Every block as it was, by name and resourceVersion. */
  readonly versions: Map<string, IPAMBlockSpec>;
  /** Addresses that were ever in use: of no other can an agent think that it cools. */
  readonly used: Set<string>;
  faultRate: number;
  containers: number;
}

function makeWorld(seed: number): World {
  const scheduler = new Scheduler(seed);
  const pools = [
    { name: "four", spec: { cidr: "10.0.0.0/27", blockSize: 29, nodeSelector: "!has(odd)" } },
    { name: "odd", spec: { cidr: "10.0.1.0/28", blockSize: 30, nodeSelector: "has(odd) || has(both)" } },
    { name: "six", spec: { cidr: "fd00::/123", blockSize: 126 } },
  ].map(({ name, spec }) =>
    effectiveIPPool(parseIPPool({ apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name }, spec })),
  );
  const oneOf = (values: readonly number[]): number => values[Math.floor(scheduler.random() * values.length)] ?? 0;
  const ipCooldownMs = oneOf([0, 0, 20_000, 200_000]);
  let ticks = 0n;
  const clock: Clock = {
    // A minute is a hundred looks at the clock, so that claims grow old enough to be taken over.
    nowMs: () => Number(++ticks) * 600,
    nowNs: () => ++ticks,
    sleep: async (ms) => {
      for (let i = 0; i < (ms < 500 ? 1 : 20); i++) await scheduler.pause();
    },
  };
  return {
    scheduler,
    pools,
    clock,
    settings: {
      datastoreReady: true,
      autoAllocateBlocks: true,
      strictAffinity: scheduler.random() < 0.3,
      maxBlocksPerHost: scheduler.random() < 0.5 ? 2 : 0,
      ipCooldownMs,
      recordsReleases: ipCooldownMs > 0 && scheduler.random() < 0.7,
    },
    reservations: new ReservationIndex(["10.0.0.3/32", "10.0.0.16/29", "10.0.1.1/32"].map(parseCIDR)),
    holders: new Map(),
    seen: { assigned: 0, borrowed: 0, unclaimed: 0, limited: 0, spared: 0, hurried: 0 },
    cooldownMs: oneOf([0, 30_000, 300_000, 300_000]),
    peekMs: () => Number(ticks) * 600,
    named: new Set(),
    versions: new Map(),
    used: new Set(),
    faultRate: 0.04,
    containers: 0,
    store: new MemoryStore({
      onRequest: async () => {
        await scheduler.pause();
        return undefined;
      },
    }),
  };
}

/** What one process knows for certain to have been released: by its own writes, and when. */
interface Life {
  isDead: boolean;
  readonly releasedMs: Map<string, number>;
}

function keyOf(block: IPAMBlock, ordinal: number): string {
  return `${block.spec.cidr} ${ordinal}`;
}

/** Looks at a write of an agent that was taken: whether it gave an address that cools while there were others. */
function judgeWrite(world: World, life: Life, written: IPAMBlock): void {
  const { metadata, spec } = written;
  const base = world.versions.get(`${metadata.name}@${metadata.resourceVersion}`);
  if (base === undefined) throw new Error(`nobody has seen ${metadata.name}@${metadata.resourceVersion}`);
  const holder = (block: IPAMBlockSpec, ordinal: number): string | undefined =>
    block.attributes[block.allocations[ordinal] ?? -1]?.handle_id;
  const isCooling = (ordinal: number): boolean =>
    world.peekMs() - (life.releasedMs.get(keyOf(written, ordinal)) ?? Number.NEGATIVE_INFINITY) < world.cooldownMs;
  const cidr = parseCIDR(spec.cidr);
  const isUntouched = (ordinal: number): boolean =>
    !world.used.has(keyOf(written, ordinal)) && !world.reservations.has(ipAt(cidr, ordinal));
  for (const ordinal of spec.allocations.keys()) {
    const [before, after] = [holder(base, ordinal), holder(spec, ordinal)];
    if (after === undefined || after === before || world.named.has(after)) continue;
    const isHot = world.cooldownMs > 0 && (before !== undefined || isCooling(ordinal));
    if (isHot && spec.unallocated.some(isUntouched)) throw new Error(`${keyOf(written, ordinal)} is given too early`);
    if (isHot) world.seen.hurried++;
    else if (base.unallocated.some(isCooling)) world.seen.spared++;
  }
  for (const ordinal of spec.unallocated)
    if (holder(base, ordinal) !== undefined) life.releasedMs.set(keyOf(written, ordinal), world.peekMs());
}

/** After each step. */
function remember({ store, versions, used }: World): void {
  for (const block of store.all("block")) {
    const { metadata, spec } = block;
    const key = `${metadata.name}@${metadata.resourceVersion}`;
    if (versions.has(key)) continue;
    versions.set(key, spec);
    for (const [ordinal, index] of spec.allocations.entries()) if (index !== null) used.add(keyOf(block, ordinal));
  }
}

/**
 * What a process sees of the store: some answers are lost, some writes land late or never, and when the process is
 * killed nothing answers any more.
 */
function faulty(world: World, life: Life): IPAMStore {
  const { scheduler, store } = world;
  const never = new Promise<never>(() => {});
  const answer = async (property: string, call: () => Promise<unknown>): Promise<unknown> => {
    if (scheduler.random() >= world.faultRate) return await call();
    await scheduler.pause();
    const fault = Math.floor(scheduler.random() * 4);
    if (property === "get" || property === "pages") throw new IPAMError("Datastore", "the test took the server away");
    if (fault === 0 && property === "update") return { kind: "conflict" };
    if (fault === 1) await call();
    if (fault === 2) scheduler.later(() => void call());
    return { kind: "unknown", error: new Error("the test lost the answer") };
  };
  return new Proxy(store, {
    get: (target, property) => {
      const method: unknown = Reflect.get(target, property);
      if (typeof method !== "function") return method;
      if (property === "pages")
        return async function* (kind: StoredKind): AsyncGenerator<unknown> {
          yield await answer(property, async () => (await Array.fromAsync(store.pages(kind))).flat());
          if (life.isDead) await never;
        };
      return async (...args: unknown[]): Promise<unknown> => {
        if (life.isDead) return await never;
        if (JSON.stringify(args, (_, v: unknown) => (typeof v === "bigint" ? 0 : v)).includes("pendingDeletion"))
          world.seen.unclaimed++;
        const result = await answer(String(property), async () => {
          const found: unknown = await Reflect.apply(method, target, args);
          const [kind, object] = args as [string, IPAMBlock];
          if (property === "update" && kind === "block" && isOk(found)) judgeWrite(world, life, object);
          return found;
        });
        return life.isDead ? await never : result;
      };
    },
  });
}

function isOk(outcome: unknown): boolean {
  return typeof outcome === "object" && outcome !== null && "kind" in outcome && outcome.kind === "ok";
}

/** Mostly one address of one family or both, at times several, or a certain one. */
function randomNeed({ scheduler: { random } }: World): Pick<AssignRequest, "families" | "count" | "addresses"> {
  if (random() < 0.1) {
    const ip = ipAt(parseCIDR(random() < 0.5 ? "10.0.0.0/28" : "10.0.1.0/28"), Math.floor(random() * 16));
    return { families: [4], addresses: [ip] };
  }
  const families: readonly Family[] = random() < 0.5 ? [4] : [4, 6];
  return random() < 0.2 ? { families, count: 2 + Math.floor(random() * 3) } : { families };
}

/** One node: an agent that is killed now and then, and several sandboxes that come and go at once. */
async function runHost(world: World, node: string, rounds: number): Promise<void> {
  const { scheduler, store, holders } = world;
  const sources: IPAMSources = {
    settings: () => world.settings,
    pools: () => world.pools,
    ownAffinities: () => store.all("affinity").filter((affinity) => isHostAffinityOf(affinity, node)),
    knowsAllBlocks: false,
    knownBlocks: () => {
      const live = store.all("affinity").filter(({ spec }) => spec.deleted !== "true");
      return live.map((affinity) => parseCIDR(affinity.spec.cidr));
    },
    reservations: () => world.reservations,
    nodeLabels: () => (node === "node-a" ? {} : node === "node-b" ? { both: "1" } : { odd: "1" }),
    namespaceLabels: () => ({}),
  };
  const held = new Map<string, readonly Allocation[]>();
  /** Handles of ADDs that did not end well: what the attachment records say after a crash. */
  const doubtful = new Set<string>();

  const add = async (allocator: Allocator): Promise<void> => {
    const handleID = `net.c${world.containers++}`;
    const { families, ...more } = randomNeed(world);
    const abort = new AbortController();
    if (scheduler.random() < 0.1) void scheduler.pause().then(() => abort.abort(new Error("hung up")));
    doubtful.add(handleID);
    if (more.addresses !== undefined) world.named.add(handleID);
    try {
      const attributes = { node, pod: handleID };
      const got = await allocator.assign({ handleID, attributes, families, ...more }, abort.signal);
      expect(got).toHaveLength(more.addresses?.length ?? families.length * (more.count ?? 1));
      doubtful.delete(handleID);
      held.set(handleID, got);
      world.seen.assigned++;
      for (const { ip, block } of got) {
        const owner = nodeOfAffinity(store.peek("block", blockName(block))?.spec.affinity);
        if (owner !== node) world.seen.borrowed++;
        expect(holders.get(formatIP(ip)), `${formatIP(ip)} given twice`).toBeUndefined();
        holders.set(formatIP(ip), handleID);
        if (more.addresses === undefined) expect(world.reservations.has(ip), `${formatIP(ip)} is reserved`).toBe(false);
      }
    } catch (error) {
      if (!(error instanceof Error) || error.name === "AssertionError") throw error;
      if ("code" in error && error.code === "BlockLimit") world.seen.limited++;
      if (!("mayHoldAddresses" in error && error.mayHoldAddresses === true)) doubtful.delete(handleID);
    }
  };
  const del = async (allocator: Allocator): Promise<void> => {
    const [first] = held;
    if (first === undefined) return;
    const [handleID, allocations] = first;
    held.delete(handleID);
    doubtful.add(handleID);
    for (const { ip } of allocations) holders.delete(formatIP(ip));
    const byHandle = scheduler.random() < 0.3;
    await (byHandle ? allocator.releaseByHandle(handleID) : allocator.release(allocations)).then(
      () => doubtful.delete(handleID),
      () => {},
    );
  };

  for (let life = 0; life < 2; life++) {
    const state: Life = { isDead: false, releasedMs: new Map() };
    const killed = Promise.withResolvers<void>();
    const allocator = createAllocator({
      store: faulty(world, state),
      sources,
      clock: world.clock,
      random: scheduler.random,
      nodeName: node,
      isResident: true,
      cooldownMs: world.cooldownMs,
    });
    const recover = async (): Promise<void> => {
      for (const handleID of [...doubtful]) {
        await allocator.releaseByHandle(handleID).then(
          () => doubtful.delete(handleID),
          () => {},
        );
      }
    };
    const worker = async (): Promise<void> => {
      for (let i = 0; i < rounds; i++) {
        if (life === 0 && scheduler.random() < 0.02) {
          state.isDead = true;
          killed.resolve();
          return;
        }
        await (scheduler.random() < 0.6 ? add(allocator) : del(allocator));
      }
    };
    await recover();
    await Promise.race([Promise.all([worker(), worker(), worker()]), killed.promise]);
    allocator.close();
    if (life === 0) continue;
    world.faultRate = 0;
    while (held.size > 0) await del(allocator);
    while (doubtful.size > 0) await recover();
  }
}

/** Somebody else's plugin, one call at a time, by the same rules: it borrows from everybody's blocks and unclaims them. */
async function runCalico(world: World, rounds: number): Promise<void> {
  const { store, scheduler, holders } = world;
  for (let i = 0; i < rounds; i++) {
    const blocks = (await Array.fromAsync(store.pages("block"))).flat();
    const block = blocks[Math.floor(scheduler.random() * blocks.length)];
    if (block === undefined) continue;
    const cidr = parseCIDR(block.spec.cidr);
    if (scheduler.random() < 0.3) {
      await unclaim(world, cidr);
      if (scheduler.random() < 0.5) await claim(world, cidr);
    } else {
      const handleID = `calico.${i}`;
      const ip = await borrow(world, block.metadata.name, handleID);
      if (ip === undefined) continue;
      expect(holders.get(ip), `${ip} given twice`).toBeUndefined();
      holders.set(ip, handleID);
      if (scheduler.random() < 0.8) {
        holders.delete(ip);
        await giveBack(world, block.metadata.name, handleID);
      }
    }
  }
}

async function countHandle(store: MemoryStore, handleID: string, cidr: string, count: number): Promise<void> {
  for (;;) {
    const handle = await store.get("handle", handleID);
    const blocks = addToBlocks(handle?.spec.block ?? {}, [cidr], count);
    const outcome =
      handle === undefined
        ? await store.create("handle", newHandle(handleID, blocks))
        : Object.keys(blocks).length === 0
          ? await store.delete("handle", handle)
          : await store.update("handle", withBlocks(handle, blocks));
    if (outcome.kind === "ok") return;
  }
}

async function borrow({ store, clock, settings }: World, name: string, handleID: string): Promise<string | undefined> {
  for (;;) {
    const block = await store.get("block", name);
    if (block === undefined) return undefined;
    const thawed = thaw(block.spec, clock.nowMs(), settings.ipCooldownMs);
    const taken = assign(thawed, { handleID, attributes: { node: "calico" }, count: 1 });
    const [ordinal] = taken.ordinals;
    if (ordinal === undefined) return undefined;
    await countHandle(store, handleID, block.spec.cidr, 1);
    const outcome = await store.update("block", { ...block, spec: nextRevision(taken.block) });
    if (outcome.kind === "ok") return formatIP(ipAt(parseCIDR(block.spec.cidr), ordinal));
    await countHandle(store, handleID, block.spec.cidr, -1);
  }
}

async function giveBack({ store, clock, settings }: World, name: string, handleID: string): Promise<void> {
  for (;;) {
    const block = await store.get("block", name);
    if (block === undefined) throw new Error("a block with an address in it is gone");
    const nowMs = clock.nowMs();
    const ordinals = ordinalsOfHandle(block.spec, handleID);
    // It keeps its own releases in the block wherever that is set: it knows nothing of our look at the schema.
    const released =
      settings.ipCooldownMs > 0
        ? cool(block.spec, ordinals, { nowMs, byAddress: new Set() })
        : release(block.spec, ordinals);
    const freed = nextRevision(thaw(released, nowMs, settings.ipCooldownMs));
    const isDead = freed.affinity === undefined && isEmptyBlock(freed);
    const written = { ...block, spec: freed };
    const outcome = isDead ? await store.delete("block", block) : await store.update("block", written);
    if (outcome.kind !== "ok") continue;
    await countHandle(store, handleID, block.spec.cidr, -1);
    return;
  }
}

/** Takes an empty block from its owner, or gives up the affinity of one that is in use, as deleting a pool does. */
async function unclaim({ store }: World, cidr: CIDR): Promise<void> {
  const block = await store.get("block", blockName(cidr));
  const owner = nodeOfAffinity(block?.spec.affinity);
  if (block === undefined || owner === undefined) return;
  const affinity = await store.get("affinity", affinityName(owner, cidr));
  if (affinity === undefined) return;
  const marked = await store.update("affinity", withState(affinity, "pendingDeletion"));
  if (marked.kind !== "ok") return;
  const without = { ...block, spec: nextRevision(withoutAffinity(block.spec)) };
  const outcome = isEmptyBlock(block.spec) ? await store.delete("block", block) : await store.update("block", without);
  if (outcome.kind === "ok") await store.delete("affinity", marked.object);
}

/** Claims a block for itself: pending, block, confirmed; whoever has it keeps it. */
async function claim({ store, clock }: World, cidr: CIDR): Promise<void> {
  const pending = await store.create("affinity", pendingAffinity("calico", cidr));
  if (pending.kind !== "ok") return;
  const now = { ms: clock.nowMs(), ns: clock.nowNs() };
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock", metadata: { name: blockName(cidr) } };
  const made = await store.create("block", { ...head, spec: newBlock(cidr, hostAffinity("calico"), now) });
  if (made.kind === "ok") await store.update("affinity", withState(pending.object, "confirmed"));
  else await store.delete("affinity", pending.object);
}

describe("createAllocator()", () => {
  it("gives no address twice and loses none, with many hosts, faults, crashes, thieves and another plugin", async () => {
    const kept = { blocks: 0, assigned: 0, borrowed: 0, unclaimed: 0, limited: 0, spared: 0, hurried: 0, cooling: 0 };
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        const world = makeWorld(seed);
        const work = [runCalico(world, 15), ...["a", "b", "c"].map((name) => runHost(world, `node-${name}`, 12))];
        await world.scheduler.run(Promise.all(work), () => {
          remember(world);
          expectSound(world.store);
        });
        const blocks = world.store.all("block");
        const taken = blocks.flatMap(({ spec }) => spec.attributes.flatMap((a) => a.handle_id ?? []));
        // What is left is what the other plugin kept.
        expect([...new Set(taken)].sort()).toEqual([...new Set(world.holders.values())].sort());
        expect(new Set(blocks.map((b) => formatCIDR(parseCIDR(b.spec.cidr)))).size).toBe(blocks.length);
        kept.blocks += blocks.length;
        kept.cooling += blocks.reduce((n, { spec }) => n + coolingCount(spec), 0);
        for (const key of ["assigned", "borrowed", "unclaimed", "limited", "spared", "hurried"] as const)
          kept[key] += world.seen[key];
      }),
      { numRuns: Number(process.env["IPAM_SIM_RUNS"] ?? 16) },
    );
    // Else it has become too easy, and proves less than it says.
    for (const [what, count] of Object.entries(kept)) expect(count, what).toBeGreaterThan(0);
  }, 600_000);
});
