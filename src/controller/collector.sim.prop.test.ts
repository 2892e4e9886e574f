// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { handleName } from "../crds/names.ts";
import { isHeld } from "../ipam/block.ts";
import { expectSound } from "../ipam/fake-node.ts";
import { nodeFacts, podFacts, viewOf } from "../ipam/gc/fake-cluster.ts";
import type { ClusterView, NodeFacts, PodFacts } from "../ipam/gc/types.ts";
import { MemoryStore } from "../ipam/memory-store.ts";
import type { IPAMStore, StoredKind } from "../ipam/ports.ts";
import type { Clock } from "../lib/clock.ts";
import { ordinalOf, parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { Collector } from "./collector.ts";
import { Died, NaivePlugin, Scheduler } from "./fake-cluster.ts";
import type { ClusterSource } from "./ports.ts";

const MINUTE_MS = 60_000;
const GRACE_MS = 15 * MINUTE_MS;
const POOL = { cidr: parseCIDR("10.0.0.0/26"), blockSize: 30 };

interface Sandbox {
  readonly handleID: string;
  readonly node: string;
  readonly pod: string;
  /** Set when its ADD has answered. */
  address?: { readonly ip: string; readonly block: string; readonly sequenceNumber: bigint };
  /** The kubelet has told the API server. */
  isPublished?: boolean;
}

/** A cluster whose machines, API objects and watches each have their own idea of what is there. */
class World {
  readonly scheduler: Scheduler;
  readonly store: MemoryStore;
  readonly sandboxes = new Set<Sandbox>();
  /** As the API server has them. */
  readonly nodes = new Map<string, NodeFacts>();
  readonly pods = new Map<string, string>();
  nowMs = 1_787_395_200_000;
  /** What the collector's informers have: the API as it was some rounds ago. */
  stale: { readonly view: ClusterView }[] = [];
  /** The informers' watch hangs: they go on having this. */
  hung: ClusterView | undefined;
  faultRate = 0.03;
  count = 0;
  #ticks = 0n;

  constructor(seed: number) {
    this.scheduler = new Scheduler(seed);
    this.store = new MemoryStore({
      onRequest: async () => {
        await this.scheduler.pause();
        return undefined;
      },
    });
    for (const node of ["node-a", "node-b", "node-c"]) this.nodes.set(node, nodeFacts());
  }

  readonly clock: Clock = {
    nowMs: () => this.nowMs,
    nowNs: () => BigInt(this.nowMs) * 1_000_000n + ++this.#ticks,
    sleep: async () => await this.scheduler.pause(),
  };

  /** What a process sees of the store: answers that are lost, and, when it dies, nothing more. */
  seenBy(life: { diesAfter: number }): IPAMStore {
    const { scheduler, store } = this;
    return new Proxy(store, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property);
        if (typeof value !== "function") return value;
        if (property === "pages")
          return async function* (kind: StoredKind): AsyncGenerator<unknown> {
            if (--life.diesAfter < 0) throw new Died("the process died");
            yield* store.pages(kind);
          };
        return async (...args: unknown[]): Promise<unknown> => {
          if (--life.diesAfter < 0) throw new Died("the process died");
          const isWrite = property !== "get";
          const isLost = isWrite && scheduler.random() < this.faultRate;
          const isTaken = !isLost || scheduler.random() < 0.5;
          const result: unknown = isTaken ? await Reflect.apply(value, target, args) : await scheduler.pause();
          return isLost ? { kind: "unknown", error: new Error("the answer was lost") } : result;
        };
      },
    });
  }

  plugin(node: string, diesAfter = Number.POSITIVE_INFINITY): NaivePlugin {
    return new NaivePlugin(this.seenBy({ diesAfter }), node, POOL, () => this.clock.nowNs());
  }

  /** What the API server would answer now. */
  view(): ClusterView {
    const pods: Record<string, PodFacts> = {};
    for (const [name, node] of this.pods) {
      const published = [...this.sandboxes].find((s) => s.pod === name && s.node === node && s.isPublished);
      pods[`default/${name}`] = podFacts(node, published?.address === undefined ? [] : [published.address.ip]);
    }
    return viewOf(Object.fromEntries(this.nodes), pods);
  }

  /** Throws when an address of a running sandbox is not its own any more. */
  check(): void {
    expectSound(this.store);
    for (const { address, handleID } of this.sandboxes) {
      if (address === undefined) continue;
      const block = this.store.all("block").find(({ spec }) => spec.cidr === address.block);
      const ordinal = ordinalOf(parseCIDR(address.block), parseIP(address.ip));
      if (block === undefined || !isHeld(block.spec, ordinal, handleID, address.sequenceNumber))
        throw new Error(`${address.ip} of the running sandbox ${handleID} was freed`);
    }
  }
}

function sourceOf(world: World): ClusterSource {
  async function* listed<T>(items: () => readonly T[]): AsyncGenerator<T> {
    await world.scheduler.pause();
    for (const [i, item] of items().entries()) {
      // A list is of one moment, but its pages arrive while the world goes on.
      if (i % 2 === 1) await world.scheduler.pause();
      yield item;
    }
  }
  return {
    synced: Promise.resolve(),
    settings: async () => ({ datastoreReady: true, leakGraceMs: GRACE_MS, pools: [{ name: "pool", cidr: POOL.cidr }] }),
    get view() {
      return world.hung ?? world.scheduler.pick(world.stale)?.view ?? world.view();
    },
    blocks: () => listed(() => world.store.all("block")),
    handles: () => listed(() => world.store.all("handle")),
    affinities: () => listed(() => world.store.all("affinity")),
    look: async () => {
      await world.scheduler.pause();
      return world.view();
    },
  };
}

function collectorOf(world: World): Collector {
  return new Collector({
    source: sourceOf(world),
    store: world.seenBy({ diesAfter: Number.POSITIVE_INFINITY }),
    reporter: { census: () => {}, freed: async () => {}, failed: () => {}, skipped: () => {} },
    clock: world.clock,
    random: world.scheduler.random,
    isDryRun: false,
    requestsPerSecond: 1_000_000,
  });
}

async function untilDead(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof Died)) throw error;
  });
}

const signal = new AbortController().signal;

/** Things that happen at the same time. Each is a promise to its end, or to the death of whoever does it. */
const EVENTS: Readonly<Record<string, (world: World) => Promise<unknown> | undefined>> = {
  add: (world) => addPod(world),
  addAndDie: (world) => addPod(world, Math.floor(world.scheduler.random() * 8)),
  del: (world) => {
    const sandbox = takeSandbox(world);
    if (sandbox === undefined) return undefined;
    world.pods.delete(sandbox.pod);
    return untilDead(world.plugin(sandbox.node).del(sandbox.handleID));
  },
  delAndDie: (world) => {
    const sandbox = takeSandbox(world);
    if (sandbox === undefined) return undefined;
    world.pods.delete(sandbox.pod);
    return untilDead(world.plugin(sandbox.node, Math.floor(world.scheduler.random() * 4)).del(sandbox.handleID));
  },
  /** The sandbox is gone, and nobody heard of it. */
  lostDel: (world) => {
    const sandbox = takeSandbox(world);
    if (sandbox !== undefined && world.scheduler.random() < 0.5) world.pods.delete(sandbox.pod);
    return undefined;
  },
  /** The pod object is gone or a namesake runs elsewhere; the sandbox runs on, and its agent says so. */
  forceDelete: (world) => {
    const sandbox = pickSandbox(world);
    if (sandbox !== undefined) {
      if (world.scheduler.random() < 0.5) world.pods.delete(sandbox.pod);
      else world.pods.set(sandbox.pod, world.scheduler.pick([...world.nodes.keys()]) ?? sandbox.node);
    }
    return undefined;
  },
  watchHangs: (world) => {
    world.hung = world.scheduler.random() < 0.8 ? (world.hung ?? world.view()) : undefined;
    return undefined;
  },
  publish: (world) => {
    for (const sandbox of world.sandboxes) sandbox.isPublished = true;
    return undefined;
  },
  unreachable: (world) => {
    const node = world.scheduler.pick([...world.nodes.keys()]);
    const facts = node === undefined ? undefined : world.nodes.get(node);
    if (node !== undefined && facts !== undefined)
      world.nodes.set(node, { ...facts, isUnreachable: world.scheduler.random() < 0.5 });
    return undefined;
  },
  /** Machine, Node object and pods go; or only the machine is replaced and comes back under its name. */
  deleteNode: (world) => {
    const node = world.scheduler.pick([...world.nodes.keys()]);
    if (node === undefined || world.nodes.size === 1) return undefined;
    for (const sandbox of world.sandboxes) if (sandbox.node === node) world.sandboxes.delete(sandbox);
    for (const [pod, on] of world.pods) if (on === node) world.pods.delete(pod);
    world.nodes.delete(node);
    return undefined;
  },
  addNode: (world) => {
    const node = world.scheduler.pick(["node-a", "node-b", "node-c"]) ?? "node-a";
    if (!world.nodes.has(node)) world.nodes.set(node, nodeFacts());
    return undefined;
  },
  unclaim: (world) => {
    const affinity = world.scheduler.pick(world.store.all("affinity"));
    if (affinity === undefined) return undefined;
    const diesAfter = world.scheduler.random() < 0.5 ? 4 : 20;
    return untilDead(world.plugin(affinity.spec.node, diesAfter).unclaim(affinity.spec.cidr));
  },
  abandon: (world) => {
    const block = world.scheduler.pick(world.store.all("block"));
    return block && untilDead(world.plugin("node-a").abandon(block.spec.cidr));
  },
};

function addPod(world: World, diesAfter?: number): Promise<unknown> | undefined {
  const node = world.scheduler.pick([...world.nodes.keys()]);
  if (node === undefined) return undefined;
  const n = world.count++;
  // Few names, so that pods are made again under the name of one that has just gone.
  const pod = `pod-${n % 7}`;
  if (world.pods.has(pod)) return undefined;
  world.pods.set(pod, node);
  const sandbox: Sandbox = { handleID: `net.C${n}`, node, pod };
  const add = async (): Promise<void> => {
    const address = await world.plugin(node, diesAfter).add(sandbox.handleID, pod);
    // Its machine may have gone meanwhile.
    if (address === undefined || !world.nodes.has(node)) return;
    sandbox.address = address;
    world.sandboxes.add(sandbox);
  };
  return untilDead(add());
}

function pickSandbox(world: World): Sandbox | undefined {
  return world.scheduler.pick([...world.sandboxes].filter(({ address }) => address !== undefined));
}

function takeSandbox(world: World): Sandbox | undefined {
  const sandbox = pickSandbox(world);
  if (sandbox !== undefined) world.sandboxes.delete(sandbox);
  return sandbox;
}

/** Agents say which running sandboxes the API server would take for dead: no pod, or a pod with another sandbox, too. */
function agentsSpeak(world: World): void {
  for (const [node, facts] of world.nodes) {
    if (facts.isUnreachable) continue;
    const own = [...world.sandboxes].filter((sandbox) => sandbox.node === node);
    const inUse = own.filter(
      (one) => world.pods.get(one.pod) !== node || own.some((other) => other !== one && other.pod === one.pod),
    );
    world.nodes.set(node, { ...facts, inUse: inUse.flatMap(({ address }) => (address ? [address.ip] : [])) });
  }
}

/** Some things at once, with or without a look of the collector; then time goes by. */
async function round(world: World, collector: Collector, events: readonly string[], minutes: number): Promise<void> {
  const work = events.flatMap((name) => EVENTS[name]?.(world) ?? []);
  const settings = await sourceOf(world).settings(signal);
  work.push(collector.pass(settings, signal));
  await world.scheduler.run(Promise.all(work), () => world.check());
  agentsSpeak(world);
  world.stale = [...world.stale.slice(-1), { view: world.view() }];
  world.nowMs += minutes * MINUTE_MS;
}

/** Everything works, nothing happens, and time goes by. */
async function quiet(world: World, collector: Collector): Promise<void> {
  world.faultRate = 0;
  for (const [node, facts] of world.nodes) world.nodes.set(node, { ...facts, isUnreachable: false });
  for (const sandbox of world.sandboxes) sandbox.isPublished = true;
  // A pod that is there and has no address yet keeps what may be its own: only its node's agent knows better.
  const running = new Set([...world.sandboxes].map(({ pod, node }) => `${pod} ${node}`));
  for (const [pod, node] of world.pods) if (!running.has(`${pod} ${node}`)) world.pods.delete(pod);
  world.stale = [];
  world.hung = undefined;
  for (let i = 0; i < 12; i++) await round(world, collector, [], 8);
}

describe("Collector", () => {
  it("never frees an address of a running sandbox, and in the end frees all others", async () => {
    const step = fc.record({
      events: fc.array(fc.constantFrom(...Object.keys(EVENTS), "add", "add", "add"), { maxLength: 5 }),
      minutes: fc.integer({ min: 1, max: 9 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.array(step, { minLength: 10, maxLength: 40 }), async (seed, steps) => {
        const world = new World(seed);
        const collector = collectorOf(world);
        for (const { events, minutes } of steps) await round(world, collector, events, minutes);
        await quiet(world, collector);
        expectTidy(world);
      }),
      { numRuns: 150 },
    );
  }, 120_000);
});

function expectTidy(world: World): void {
  const running = [...world.sandboxes].flatMap(({ handleID, address }) => (address ? [handleName(handleID)] : []));
  expect(new Set(world.store.all("handle").map(({ metadata }) => metadata.name))).toEqual(new Set(running));
  for (const { spec } of world.store.all("block")) {
    const used = spec.allocations.length - spec.unallocated.length;
    expect(spec.affinity !== undefined || used > 0, `block ${spec.cidr} is nobody's`).toBe(true);
  }
  for (const { spec } of world.store.all("affinity")) {
    const block = world.store.all("block").find((b) => b.spec.cidr === spec.cidr);
    expect([block?.spec.affinity, spec.state === "pendingDeletion"]).toEqual([`host:${spec.node}`, false]);
    if (world.nodes.has(spec.node)) continue;
    expect(block?.spec.unallocated.length, `claim of ${spec.node}, which is gone`).toBeLessThan(4);
  }
  const held = world.store.all("block").flatMap(({ spec }) => spec.allocations.filter((index) => index !== null));
  expect(held.length).toBe(running.length);
}
