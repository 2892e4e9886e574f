// SPDX-License-Identifier: Apache-2.0

import { describe, expect, test, vi } from "vitest";
import type { Node } from "../../crds/core.ts";
import type { IPPool, IPPoolSpec } from "../../crds/ip-pool.ts";
import type { AllocationAttribute } from "../../crds/ipam-block.ts";
import { expectSound, setUp as setUpIPAM } from "../../ipam/fake-node.ts";
import { heldAddresses } from "../../ipam/gc/addresses.ts";
import { releaseUnhandled } from "../../ipam/release-unhandled.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import { formatIP, parseIP } from "../../net/ip.ts";
import { FakeLog, FakeSource, fakeNode, fakePool } from "../fake-resources.ts";
import { NodeWriter } from "./node-writer.ts";
import { TunnelAddresses } from "./tunnel-address.ts";

const KEY = "projectcalico.org/IPv4VXLANTunnelAddr";
const HANDLE = "vxlan-tunnel-addr-node-a";
/** Of one block each, so that it is known which address is the first. */
const POOLS: readonly (Partial<IPPoolSpec> & { cidr: string })[] = [
  { cidr: "10.0.0.0/29", blockSize: 29, vxlanMode: "Always" },
  { cidr: "10.1.0.0/29", blockSize: 29 },
  {
    cidr: "10.2.0.0/29",
    blockSize: 29,
    vxlanMode: "CrossSubnet",
    allowedUses: ["Tunnel"],
    nodeSelector: "zone == 'b'",
  },
];

/** A cluster of one node, whose object and pools tests change. */
function setUp({ annotation, pools = POOLS }: { annotation?: string; pools?: typeof POOLS } = {}) {
  const ipam = setUpIPAM({ pools });
  const clock = new FakeClock();
  const log = new FakeLog();
  const world = {
    node: fakeNode("node-a", [], annotation === undefined ? {} : { [KEY]: annotation }),
    version: 1,
    usesPodCIDRs: false,
  };
  const nodes = new FakeSource<Node>(world.node);
  const poolSource = new FakeSource<IPPool>(...pools.map((spec, i) => fakePool(`pool-${i}`, spec.cidr, spec)));
  const faults: Error[] = [];
  const writes: (string | undefined)[] = [];
  const setNode = (node: Node): void => {
    world.node = { ...node, metadata: { ...node.metadata, resourceVersion: String(++world.version) } };
    nodes.set(world.node);
  };
  const start = (): TunnelAddresses => {
    const tunnels = new TunnelAddresses({
      nodeName: "node-a",
      usesPodCIDRs: () => world.usesPodCIDRs,
      sources: { nodes, pools: poolSource },
      ipam: {
        assign: (request) => ipam.allocator.assign(request),
        releaseByHandle: (handleID) => ipam.allocator.releaseByHandle(handleID),
        releaseNameless: (address) =>
          releaseUnhandled({ store: ipam.store, clock: ipam.clock, random: () => 0 }, address),
        store: ipam.store,
      },
      node: new NodeWriter({
        get: async () => world.node,
        setTaints: async () => {},
        updateStatus: async (node) => {
          const fault = faults.shift();
          if (fault !== undefined) throw fault;
          writes.push(node.metadata.annotations?.[KEY]);
          setNode(node);
        },
      }),
      clock,
      random: () => 0,
      log,
    });
    tunnels.start();
    nodes.sync();
    poolSource.sync();
    return tunnels;
  };
  /** Lets everything that is due happen; the allocator's turns need real ones. */
  const settle = async (ms = 100): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      await clock.advance(ms / 20);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const held = (): string[] =>
    ipam.store
      .all("block")
      .flatMap(({ spec }) => heldAddresses(spec))
      .map(({ ip, handleID, attributes }) => `${formatIP(ip)} ${handleID} ${JSON.stringify(attributes)}`);
  const ours = (ip: string): string =>
    `${ip} ${HANDLE} ${JSON.stringify({ node: "node-a", type: "vxlanTunnelAddress" })}`;
  const annotated = (): string | undefined => world.node.metadata.annotations?.[KEY];
  return {
    ...ipam,
    clock,
    log,
    world,
    nodes,
    poolSource,
    faults,
    writes,
    setNode,
    start,
    settle,
    held,
    ours,
    annotated,
  };
}

/** The same with an address that was taken and written down. */
async function setUpRunning() {
  const world = setUp();
  const tunnels = world.start();
  await world.settle();
  return { ...world, tunnels };
}

describe("TunnelAddresses", () => {
  test("takes an address under Calico's handle and attributes, and writes it down", async () => {
    const { tunnels, held, ours, annotated, writes, store, clock, settle } = await setUpRunning();
    expect(annotated()).toBe("10.0.0.0");
    expect(held()).toEqual([ours("10.0.0.0")]);
    expect(store.peek("handle", HANDLE)?.spec).toMatchObject({ handleID: HANDLE, block: { "10.0.0.0/29": 1 } });
    await clock.advance(700_000);
    await settle();
    expect(writes).toEqual(["10.0.0.0"]);
    expectSound(store);
    await tunnels.stop();
  });

  test("takes one for IP-in-IP under its own handle and attributes, and gives it back when the pool goes over to VXLAN", async () => {
    const [pool = { cidr: "" }] = POOLS;
    const world = setUp({ pools: [{ ...pool, vxlanMode: "Never", ipipMode: "CrossSubnet" }] });
    const tunnels = world.start();
    await world.settle();
    const IPIP_KEY = "projectcalico.org/IPv4IPIPTunnelAddr";
    expect(world.world.node.metadata.annotations).toEqual({ [IPIP_KEY]: "10.0.0.0" });
    const attributes = JSON.stringify({ node: "node-a", type: "ipipTunnelAddress" });
    expect(world.held()).toEqual([`10.0.0.0 ipip-tunnel-addr-node-a ${attributes}`]);
    world.poolSource.set(fakePool("pool-0", pool.cidr, pool));
    await world.settle();
    expect(world.world.node.metadata.annotations).toEqual({ [KEY]: "10.0.0.1" });
    expect(world.held()).toEqual([world.ours("10.0.0.1")]);
    expectSound(world.store);
    await tunnels.stop();
  });

  test("where pods have podCIDRs it is the first address of the node's, and nothing is asked of IPAM", async () => {
    const world = await setUpRunning();
    world.world.usesPodCIDRs = true;
    world.setNode({ ...world.world.node, spec: { podCIDRs: ["fd00::/64", "10.244.7.0/24"] } });
    await world.settle();
    expect(world.annotated()).toBe("10.244.7.1");
    expect(world.held()).toEqual([]);
    for (const pool of POOLS.keys()) world.poolSource.delete(`pool-${pool}`);
    await world.settle();
    expect(world.annotated()).toBeUndefined();
    await world.tunnels.stop();
  });

  test("keeps what is ours over a restart", async () => {
    const { tunnels, start, settle, held, ours, writes } = await setUpRunning();
    await tunnels.stop();
    const again = start();
    await settle();
    expect(held()).toEqual([ours("10.0.0.0")]);
    expect(writes).toEqual(["10.0.0.0"]);
    await again.stop();
  });

  test("takes another one when the pool is no longer eligible for this node", async () => {
    const { tunnels, poolSource, world, setNode, settle, held, ours, annotated, store } = await setUpRunning();
    setNode({ ...world.node, metadata: { ...world.node.metadata, labels: { zone: "b" } } });
    await settle();
    expect(annotated()).toBe("10.0.0.0");
    poolSource.set(fakePool("pool-0", "10.0.0.0/29", { blockSize: 29, vxlanMode: "Always", disabled: true }));
    await settle();
    expect(annotated()).toBe("10.2.0.0");
    expect(held()).toEqual([ours("10.2.0.0")]);
    expectSound(store);
    await tunnels.stop();
  });

  test.each([
    ["not allocated: a new one", "10.0.0.9", undefined, "10.0.0.0"],
    ["another's: theirs stays", "10.0.0.0", { handleID: "pod", attributes: { node: "node-b", pod: "p" } }, "10.0.0.1"],
    ["outside of all pools", "192.0.2.1", undefined, "10.0.0.0"],
    ["no address at all", "tunnel", undefined, "10.0.0.0"],
  ])("an annotated address that is %s", async (_, annotation, holder, expected) => {
    const world = setUp({ annotation });
    if (holder !== undefined) await world.allocator.assign({ ...holder, families: [4] });
    const tunnels = world.start();
    await world.settle();
    expect(world.annotated()).toBe(expected);
    expect(world.held()).toContain(world.ours(expected));
    expect(world.held()).toHaveLength(holder === undefined ? 1 : 2);
    await tunnels.stop();
  });

  test("puts its name to an address that is allocated for nobody", async () => {
    const world = setUp({ annotation: "10.0.0.0" });
    await world.allocator.assign({ handleID: "old", attributes: {}, families: [4], addresses: [parseIP("10.0.0.0")] });
    const [block] = world.store.all("block");
    if (block === undefined) throw new Error("no block");
    await world.store.update("block", { ...block, spec: { ...block.spec, attributes: [{}] } });
    const tunnels = world.start();
    await world.settle();
    expect(world.held()).toEqual([world.ours("10.0.0.0")]);
    expect(world.writes).toEqual([]);
    await tunnels.stop();
  });

  test("an annotated address that cools down is left as it is until that is over; then there is a new one", async () => {
    const world = setUp({ annotation: "10.0.0.0" });
    await world.allocator.assign({ handleID: "old", attributes: {}, families: [4], addresses: [parseIP("10.0.0.0")] });
    const setAttributes = async (...attributes: readonly AllocationAttribute[]): Promise<void> => {
      const [block] = world.store.all("block");
      if (block === undefined) throw new Error("no block");
      await world.store.update("block", { ...block, spec: { ...block.spec, attributes } });
    };
    await setAttributes({ releasedAt: new Date(0).toISOString() });
    const tunnels = world.start();
    await world.settle(60_000);
    expect(world.annotated()).toBe("10.0.0.0");
    expect(world.held()).not.toContain(world.ours("10.0.0.1"));
    expect(world.log.said("warn")).toEqual(["no tunnel address; will retry"]);
    await setAttributes({ handle_id: "pod" });
    await world.settle(60_000);
    expect(world.annotated()).toBe("10.0.0.1");
    await tunnels.stop();
  });

  test("while its block cannot be read, an annotated address is neither released nor replaced", async () => {
    const world = await setUpRunning();
    await world.tunnels.stop();
    const read = vi.spyOn(world.store, "get").mockRejectedValue(new Error("the API server is away"));
    const again = world.start();
    await world.settle(60_000);
    expect(read).toHaveBeenCalled();
    expect(world.writes).toEqual(["10.0.0.0"]);
    expect(world.held()).toEqual([world.ours("10.0.0.0")]);
    expect(world.log.said("warn")).toContain("no tunnel address; will retry");
    read.mockRestore();
    await world.settle(60_000);
    expect(world.writes).toEqual(["10.0.0.0"]);
    await again.stop();
  });

  test("a conflict is written again; when that fails, too, the address is given back and all is tried later", async () => {
    const world = setUp();
    world.faults.push(new Error("conflict"));
    const tunnels = world.start();
    await world.settle();
    expect(world.writes).toEqual(["10.0.0.0"]);
    await tunnels.stop();

    const failing = setUp();
    failing.faults.push(...Array.from({ length: 5 }, () => new Error("down")));
    const again = failing.start();
    await failing.settle(40);
    expect(failing.held()).toEqual([]);
    expect(failing.log.said("warn")).toEqual(["no tunnel address; will retry"]);
    await failing.settle(1000);
    expect(failing.annotated()).toBeDefined();
    expect(failing.held()).toEqual([failing.ours(failing.annotated() ?? "")]);
    await again.stop();
  });

  test("an old cache never makes it give back what it has just taken", async () => {
    const world = setUp();
    const old = world.world.node;
    const tunnels = world.start();
    await world.settle();
    world.nodes.set(old);
    await world.settle();
    expect(world.held()).toEqual([world.ours("10.0.0.0")]);
    expect(world.writes).toEqual(["10.0.0.0"]);
    await tunnels.stop();
  });

  test("keeps the address while the only pool is disabled, being deleted or of other nodes: its pods go on", async () => {
    const { tunnels, poolSource, settle, held, ours, annotated, log } = await setUpRunning();
    const spec = { blockSize: 29, vxlanMode: "Always" } as const;
    for (const change of [
      { disabled: true },
      { nodeSelector: "zone == 'z'" },
      { allowedUses: ["Workload"] as const },
    ]) {
      poolSource.set(fakePool("pool-0", "10.0.0.0/29", { ...spec, ...change }));
      await settle(700_000);
      expect([annotated(), held()]).toEqual(["10.0.0.0", [ours("10.0.0.0")]]);
    }
    expect(log.said("warn")).toEqual([]);
    await tunnels.stop();
  });

  test("keeps the address while its pool is replaced by others that have it, and no longer when none comes", async () => {
    const spec = { blockSize: 29, vxlanMode: "Always" } as const;
    const world = setUp({ pools: [{ cidr: "10.0.0.0/28", ...spec }] });
    const { poolSource, settle, held, ours, annotated, writes } = world;
    const tunnels = world.start();
    await settle();
    const ip = annotated() ?? "";
    const [without, with_] = ip === "10.0.0.0" ? ["10.0.0.8/29", "10.0.0.0/29"] : ["10.0.0.0/29", "10.0.0.8/29"];
    poolSource.delete("pool-0");
    await settle();
    poolSource.set(fakePool("split-0", without, spec));
    await settle();
    poolSource.set(fakePool("split-1", with_, spec));
    await settle(60_000);
    expect([annotated(), writes, held()]).toEqual([ip, [ip], [ours(ip)]]);
    poolSource.delete("split-0");
    poolSource.delete("split-1");
    await settle(5000);
    expect([annotated(), held()]).toEqual([ip, [ours(ip)]]);
    await settle(20_000);
    expect([annotated(), held()]).toEqual([undefined, []]);
    await tunnels.stop();
  });

  test("follows pools: gives the address back when no pool is in VXLAN any more", async () => {
    const { tunnels, poolSource, settle, held, annotated, store } = await setUpRunning();
    poolSource.set(fakePool("pool-0", "10.0.0.0/29", { blockSize: 29 }));
    await settle();
    // Other nodes have pods in a VXLAN pool still.
    expect(annotated()).toBe("10.0.0.0");
    poolSource.set(fakePool("pool-2", "10.2.0.0/29", { blockSize: 29 }));
    await settle();
    expect(annotated()).toBeUndefined();
    expect(held()).toEqual([]);
    expect(store.peek("handle", HANDLE)).toBeUndefined();
    await tunnels.stop();
  });
});
