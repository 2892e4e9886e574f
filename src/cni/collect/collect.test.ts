// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import type { IPAMHandle } from "../../crds/ipam-handle.ts";
import { asBlock, blockOf, calicosOwn, podAttributes } from "../../ipam/gc/fake-cluster.ts";
import { newHandle } from "../../ipam/handle.ts";
import type { Allocation } from "../../ipam/types.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import type { CNI } from "../commands/cni.ts";
import { FakeMachine, type FakeProcess } from "../fake-cni.ts";
import type { PodRef } from "../types.ts";
import { NodeCollector } from "./collect.ts";
import type { NodeBlocks } from "./node-blocks.ts";

const BLOCK = "10.244.0.64/26";
const LEAKED = { handleID: "k8s-pod-network.lost", attributes: podAttributes("node-a", "lost") };

const CONTAINER = { handleID: "net.0123", attributes: { node: "node-a" } };

/** A node with an agent, and what the world around says. */
class Fixture {
  readonly machine: FakeMachine = new FakeMachine();
  readonly agent: FakeProcess = this.machine.start();
  readonly released: string[] = [];
  readonly published: string[] = [];
  readonly deleted: string[] = [];
  readonly reads: string[] = [];
  readonly unreadable = new Set<string>();
  readonly pods = new Set<string>();
  readonly routed = new Set<string>();
  isReady = true;
  isDryRun = false;
  blocks: readonly IPAMBlock[] = [];
  handles: readonly IPAMHandle[] = [];
  /** Runs while the blocks are read. */
  meanwhile: () => Promise<unknown> = async () => {};
  readonly signal: AbortSignal = new AbortController().signal;

  collector(): NodeCollector {
    const { agent } = this;
    const cni: CNI = {
      ...agent.cni,
      addresses: {
        assign: async () => [],
        contradiction: async () => undefined,
        rehearse: async () => {},
        releaseByHandle: async () => {},
        release: async (allocations: readonly Allocation[]) => {
          this.released.push(...allocations.map(({ ip, handleID }) => `${formatIP(ip)} ${handleID}`));
        },
      },
      pods: {
        get: async ({ namespace, name }: PodRef) =>
          this.pods.has(`${namespace}/${name}`) ? { uid: "u", labels: {}, annotations: {} } : undefined,
      },
    };
    const read = async function* (this: Fixture): AsyncGenerator<IPAMBlock> {
      yield* this.blocks;
      await this.meanwhile();
    };
    const handles = async function* (this: Fixture): AsyncGenerator<IPAMHandle> {
      this.reads.push("handles");
      yield* this.handles;
    };
    const blocks: NodeBlocks = {
      isReady: async () => this.isReady,
      read: (which) => {
        this.reads.push(which);
        return read.call(this);
      },
      handles: () => handles.call(this),
      unreadable: () => this.unreadable,
      publishInUse: async (ips: readonly IP[]) => void this.published.push(ips.map(formatIP).join()),
    };
    return new NodeCollector({
      cni,
      blocks,
      routed: async () => this.routed,
      isDryRun: this.isDryRun,
      deleteHandle: async ({ handleID, resourceVersion }) => {
        this.deleted.push(`${handleID} ${resourceVersion}`);
        return true;
      },
    });
  }

  /** Two looks, half a minute apart. */
  async lookTwice(collector: NodeCollector = this.collector()): Promise<void> {
    await collector.look("own", this.signal);
    await this.machine.clock.advance(30_000);
    await collector.look("own", this.signal);
  }
}

let world: Fixture;
beforeEach(() => {
  world = new Fixture();
  world.machine.kernel.addNetns("/run/netns/c1");
});
afterEach(() => world.machine[Symbol.dispose]());

describe("NodeCollector.look()", () => {
  it("frees at the second look what this node holds without a record, a pod or a route", async () => {
    world.blocks = [blockOf(BLOCK, "node-a", [LEAKED])];
    const collector = world.collector();
    await collector.look("own", world.signal);
    expect(world.released).toEqual([]);
    await collector.look("own", world.signal);
    expect(world.released, "too soon after the first").toEqual([]);
    await world.machine.clock.advance(30_000);
    await collector.look("own", world.signal);
    expect(world.released).toEqual(["10.244.0.64 k8s-pod-network.lost"]);
  });

  it("leaves what has a record, though its pod is gone", async () => {
    expect((await world.agent.call("ADD")).exitCode).toBe(0);
    const [held] = world.machine.addresses.held;
    const attributes = podAttributes("node-a", "web-0");
    world.blocks = [blockOf(BLOCK, "node-a", [{ handleID: held?.handleID ?? "", attributes }])];
    await world.lookTwice();
    expect(world.released).toEqual([]);
  });

  it("leaves what an ADD records while the blocks are read", async () => {
    const attributes = podAttributes("node-a", "web-0");
    world.blocks = [blockOf(BLOCK, "node-a", [{ handleID: "k8s-pod-network.c1", attributes }])];
    const collector = world.collector();
    await collector.look("own", world.signal);
    await world.machine.clock.advance(30_000);
    world.meanwhile = () => world.agent.call("ADD");
    await collector.look("own", world.signal);
    expect(world.released).toEqual([]);
  });

  it("leaves an attachment that is being worked on", async () => {
    world.blocks = [blockOf(BLOCK, "node-a", [LEAKED])];
    using _turn = await world.agent.cni.locks.acquire("k8s-pod-network/lost:eth0");
    await world.lookTwice();
    expect(world.released).toEqual([]);
  });

  it("leaves what cannot be read", async () => {
    expect((await world.agent.call("ADD")).exitCode).toBe(0);
    const attributes = podAttributes("node-a", "web-0");
    world.blocks = [blockOf(BLOCK, "node-a", [{ handleID: "k8s-pod-network.c1", attributes }])];
    const collector = world.collector();
    const { records } = world.agent.cni;
    const broken: CNI["records"] = { ...records, read: async () => ({ kind: "broken", reason: "test" }) };
    Object.assign(world.agent.cni, { records: broken });
    await world.lookTwice(collector);
    await world.lookTwice(world.collector());
    expect(world.released).toEqual([]);
  });

  it.each([
    ["its pod is alive, as of Calico's own plugin", () => void world.pods.add("default/lost")],
    ["the kernel has a route to it", () => void world.routed.add("10.244.0.64")],
    ["the datastore is locked", () => Object.assign(world, { isReady: false })],
    ["it is a dry run", () => Object.assign(world, { isDryRun: true })],
  ])("frees nothing when %s", async (_, prepare) => {
    world.blocks = [blockOf(BLOCK, "node-a", [LEAKED])];
    prepare();
    await world.lookTwice();
    expect(world.released).toEqual([]);
  });

  it.each([
    ["another node", podAttributes("node-b", "lost"), "k8s-pod-network.lost"],
    ["nobody", {}, "k8s-pod-network.lost"],
    ["a tunnel", { node: "node-a", type: "vxlanTunnelAddress" }, "vxlan-tunnel-addr-node-a"],
    ["a virtual machine", podAttributes("node-a", "lost"), "k8s-pod-network.vmi.default.vm"],
    ["an unknown program", { node: "node-a" }, "other.thing"],
  ])("leaves the address of %s", async (_, attributes, handleID) => {
    world.blocks = [blockOf(BLOCK, "node-a", [{ handleID, attributes }])];
    await world.lookTwice();
    expect(world.released).toEqual([]);
  });

  it("frees a container's address without a pod, and one borrowed out of another node's block", async () => {
    const container = { handleID: "net.0123", attributes: { node: "node-a", "gingham-interface": "eth0" } };
    world.blocks = [blockOf(BLOCK, "node-b", [container, LEAKED])];
    await world.lookTwice();
    expect(world.released).toEqual(["10.244.0.64 net.0123", "10.244.0.65 k8s-pod-network.lost"]);
  });

  it("leaves a block alone that contradicts itself", async () => {
    const { spec } = blockOf(BLOCK, "node-a", [LEAKED]);
    world.blocks = [asBlock({ ...spec, unallocated: [0, ...spec.unallocated] })];
    await world.lookTwice();
    expect(world.released).toEqual([]);
  });

  it("frees leaks beside addresses that cool down, by a clock that is ahead, or by a record that was lost", async () => {
    const { spec } = blockOf(BLOCK, "node-a", [CONTAINER, CONTAINER, LEAKED]);
    const attributes = [{ releasedAt: "2999-01-01T00:00:00Z" }, {}, ...spec.attributes.slice(1)];
    const allocations = spec.allocations.map((index, ordinal) => (index === null ? null : ordinal));
    world.blocks = [asBlock({ ...spec, attributes, allocations })];
    await world.lookTwice();
    expect(world.released).toEqual(["10.244.0.66 k8s-pod-network.lost"]);
  });
});

describe("NodeCollector.speak()", () => {
  it("publishes addresses in use without a pod, once, and takes them back", async () => {
    await world.agent.call("ADD");
    const collector = world.collector();
    await collector.speak(world.signal);
    await collector.speak(world.signal);
    world.pods.add("default/web-0");
    await collector.speak(world.signal);
    expect(world.published).toEqual(["10.244.0.64", ""]);
  });

  it("publishes all addresses of two sandboxes of one pod", async () => {
    world.machine.kernel.addNetns("/run/netns/c2");
    await world.agent.call("ADD");
    await world.agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2" });
    world.pods.add("default/web-0");
    await world.collector().speak(world.signal);
    expect(world.published).toEqual(["10.244.0.64,10.244.0.65"]);
  });
});

describe("NodeCollector.look(): handles without addresses", () => {
  const MINUTE_MS = 60_000;
  const handleOf = (handleID: string, block: Record<string, number>): IPAMHandle => {
    const handle = newHandle(handleID, block);
    return { ...handle, metadata: { ...handle.metadata, resourceVersion: "7" } };
  };
  const lookForHandles = async (): Promise<void> => {
    const collector = world.collector();
    await collector.look("handles", world.signal);
    await world.machine.clock.advance(10 * MINUTE_MS - 1);
    await collector.look("own", world.signal);
    expect(world.deleted, "an ADD may look like that").toEqual([]);
    await world.machine.clock.advance(1);
    await collector.look("own", world.signal);
    await collector.look("own", world.signal);
  };

  beforeEach(() => {
    const other = { handleID: "net.other", attributes: podAttributes("node-b", "other") };
    world.blocks = [blockOf(BLOCK, "node-a", [CONTAINER]), blockOf("10.244.1.0/26", "node-b", [other])];
    world.routed.add("10.244.0.64");
    world.handles = [handleOf("net.0123", { [BLOCK]: 1 }), handleOf("net.other", { "10.244.1.0/26": 1 })];
  });

  it("are deleted ten minutes later, in the version that was seen, when only own blocks or none are counted", async () => {
    const gone = "10.244.9.0/26";
    world.handles = [
      ...world.handles,
      handleOf("net.late", { [BLOCK]: 1 }),
      handleOf("net.moved", { [BLOCK]: 1, [gone]: 1 }),
      handleOf("net.old", { [gone]: 1 }),
    ];
    await lookForHandles();
    expect(world.deleted).toEqual(["net.late 7", "net.moved 7", "net.old 7"]);
  });

  it("are left to others when a block of others is counted", async () => {
    world.handles = [handleOf("net.a", { "10.244.1.0/26": 1 }), handleOf("net.b", { [BLOCK]: 1, "10.244.1.0/26": 1 })];
    await lookForHandles();
    expect(world.deleted).toEqual([]);
  });

  it("are none while a block names them, also one that contradicts itself, cools down or is about to vanish", async () => {
    const damaged = blockOf(BLOCK, "node-a", [LEAKED]);
    world.blocks = [
      asBlock({ ...damaged.spec, unallocated: [0] }),
      asBlock({ ...blockOf("10.244.0.128/26", "node-a", [CONTAINER]).spec, deleted: true }),
    ];
    world.handles = [handleOf(LEAKED.handleID, { [BLOCK]: 1 }), handleOf("net.0123", { "10.244.0.128/26": 1 })];
    await lookForHandles();
    expect(world.deleted).toEqual([]);
  });

  it("are none of Calico's for Windows, load balancers and virtual machines, whose addresses stay as well", async () => {
    const own = calicosOwn();
    const { host } = world.agent.cni;
    world.blocks = own.blocks.map((block) => asBlock({ ...block.spec, affinity: `host:${host.nodeName}` }));
    world.handles = own.handles;
    await lookForHandles();
    expect([world.deleted, world.released]).toEqual([[], []]);
  });

  it("are none that count a block of ours which has lost its owners", async () => {
    world.blocks = [asBlock({ ...blockOf(BLOCK, "node-a", [LEAKED]).spec, attributes: [] })];
    world.handles = [handleOf(LEAKED.handleID, { [BLOCK]: 1 })];
    await lookForHandles();
    expect(world.deleted).toEqual([]);
  });

  it("are none that a block counts which cannot be read", async () => {
    world.handles = [handleOf("net.a", { "10.244.7.0/26": 1 }), handleOf("net.b", { "10.244.8.0/26": 1, nonsense: 1 })];
    world.unreadable.add("10-244-7-0-26");
    await lookForHandles();
    expect(world.deleted).toEqual(["net.b 7"]);
  });

  it("stay while an attachment has a record, and when they are marked as deleted", async () => {
    await world.agent.call("ADD");
    const [held] = world.machine.addresses.held;
    const marked = handleOf("net.gone", {});
    world.handles = [
      handleOf(held?.handleID ?? "", { [BLOCK]: 1 }),
      { ...marked, spec: { ...marked.spec, deleted: true } },
    ];
    await lookForHandles();
    expect(world.deleted).toEqual([]);
  });

  it("are forgotten while the datastore is locked, and only told in a dry run", async () => {
    world.handles = [handleOf("net.late", { [BLOCK]: 1 })];
    const collector = world.collector();
    await collector.look("handles", world.signal);
    world.isReady = false;
    await collector.look("own", world.signal);
    world.isReady = true;
    await world.machine.clock.advance(20 * MINUTE_MS);
    await collector.look("own", world.signal);
    expect(world.deleted).toEqual([]);
    world.isDryRun = true;
    await lookForHandles();
    expect(world.deleted).toEqual([]);
  });
});

describe("NodeCollector.run()", () => {
  it("reads the whole cluster's blocks twice at its start and twice each 6 hours, its handles once", async () => {
    const stop = new AbortController();
    const { clock } = world.machine;
    const running = world.collector().run(stop.signal);
    const endMs = clock.nowMs() + 8 * 3_600_000;
    while (clock.nowMs() < endMs) {
      await vi.waitUntil(() => clock.sleeping > 0, { interval: 0 });
      await clock.advance(30_000);
    }
    stop.abort();
    await running;
    expect(world.reads.filter((which) => which !== "own")).toEqual([
      "all",
      "all",
      ...["all", "handles", "all"],
      ...["all", "handles", "all"],
    ]);
    const since = world.reads.slice(2, world.reads.indexOf("handles")).filter((which) => which === "own").length;
    expect(since, "looks of 5 minutes before the first of handles").toBeLessThan(12);
  }, 60_000);

  it("has freed what was lost within 60 s of its start", async () => {
    world.blocks = [blockOf(BLOCK, "node-a", [LEAKED])];
    const stop = new AbortController();
    const { clock } = world.machine;
    const running = world.collector().run(stop.signal);
    const startMs = clock.nowMs();
    while (world.released.length === 0 && clock.nowMs() < startMs + 60_000) {
      // Reading the records takes the disk's time, not the clock's.
      await vi.waitUntil(() => clock.sleeping > 0, { interval: 1 });
      await clock.advance(5000);
    }
    expect(world.released).toEqual(["10.244.0.64 k8s-pod-network.lost"]);
    stop.abort();
    await running;
  });
});
