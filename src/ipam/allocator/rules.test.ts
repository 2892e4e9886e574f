// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { IPAMBlockSpec } from "../../crds/ipam-block.ts";
import { affinityName, blockName } from "../../crds/names.ts";
import { formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { formatIP, parseIP } from "../../net/ip.ts";
import { pendingAffinity, withState } from "../affinity.ts";
import { assign, newBlock, nextRevision } from "../block.ts";
import { expectSound, NODE, request, setUp, summary, used } from "../fake-node.ts";
import { newHandle } from "../handle.ts";
import type { MemoryStore, StoreRequest } from "../memory-store.ts";
import type { Allocation } from "../types.ts";
import type { Allocator } from "./allocator.ts";

const OTHER = "node-b";
/** Long before the fake clock's now. */
const OLD = { ms: 0, ns: 5n };

/** Another node's block, in which some addresses are taken. */
async function foreignBlock(
  store: MemoryStore,
  cidr: string,
  taken: number,
  claimedAt = OLD,
  affinity: string | undefined = `host:${OTHER}`,
): Promise<void> {
  const block = parseCIDR(cidr);
  let spec: IPAMBlockSpec = newBlock(block, affinity, claimedAt);
  if (taken > 0) {
    await store.create("handle", newHandle(`other.${blockName(block)}`, { [cidr]: taken }));
    const owner = { handleID: `other.${blockName(block)}`, attributes: { node: OTHER }, count: taken };
    spec = nextRevision(assign(spec, owner).block);
  }
  await store.create("affinity", withState(pendingAffinity(OTHER, block), "confirmed"));
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock" };
  await store.create("block", { ...head, metadata: { name: blockName(block) }, spec });
}

function texts(allocations: readonly Allocation[]): string[] {
  return allocations.map(({ ip }) => formatIP(ip));
}

async function take(allocator: Allocator, handleID: string): Promise<string> {
  return texts(await allocator.assign(request(handleID))).join();
}

describe("pools", () => {
  const pools = [
    { cidr: "10.0.0.0/24", nodeSelector: 'zone == "east"' },
    { cidr: "10.1.0.0/24", nodeSelector: 'zone == "west"', namespaceSelector: 'team == "x"' },
    { cidr: "10.2.0.0/24", namespaceSelector: "!has(team)" },
  ];
  const namespaces = { a: { team: "x" }, b: {} };

  it("come by the labels of node and namespace", async () => {
    const { allocator } = setUp({ pools, nodeLabels: { zone: "west" }, namespaces });
    expect(texts(await allocator.assign({ ...request("net.c1"), namespace: "a" }))[0]).toMatch(/^10\.1\./);
    expect(texts(await allocator.assign({ ...request("net.c2"), namespace: "b" }))[0]).toMatch(/^10\.2\./);
    expect(texts(await allocator.assign(request("net.c3")))[0]).toMatch(/^10\.2\./);
  });

  it("that are named are used whatever their selectors say, and names of one family leave the other alone", async () => {
    const both = [...pools, { cidr: "fd00::/64" }];
    const { allocator } = setUp({ pools: both, nodeLabels: { zone: "west" } });
    const got = await allocator.assign({ ...request("net.c1", [4, 6]), pools: { 4: ["pool-0"], 6: [] } });
    expect(texts(got)).toEqual([expect.stringMatching(/^10\.0\./), expect.stringMatching(/^fd00:/)]);
  });

  it("whose selector cannot be read are reported once and not used", async () => {
    const { allocator, errors } = setUp({
      pools: [{ cidr: "10.0.0.0/24", nodeSelector: "zone =" }, { cidr: "10.9.0.0/24" }],
    });
    expect(await take(allocator, "net.c1")).toMatch(/^10\.9\./);
    await take(allocator, "net.c2");
    expect(errors).toMatchObject([{ code: "InvalidSelector" }]);
    expect(String(errors[0])).toContain("IPPool pool-0 is not used: its nodeSelector cannot be read");
  });

  it("that no longer select the node get its empty blocks back, and keep those in use", async () => {
    const first = setUp({ pools: [{ cidr: "10.0.0.0/30", blockSize: 31 }] });
    await first.allocator.assign({ ...request("net.c1"), count: 3 });
    await first.allocator.releaseByHandle("net.c1");
    await take(first.allocator, "net.c2");
    expect(first.store.all("affinity")).toHaveLength(2);
    const moved = [{ cidr: "10.0.0.0/30", blockSize: 31, nodeSelector: "has(old)" }, { cidr: "10.9.0.0/24" }];
    const { allocator, store } = setUp({ pools: moved, shared: first.store });
    await take(allocator, "net.c3");
    const left = store.all("block").map(({ spec }) => spec.cidr);
    expect(left.filter((cidr) => cidr.startsWith("10.0."))).toHaveLength(1);
    expect(
      store
        .all("affinity")
        .map(({ spec }) => spec.cidr)
        .sort(),
    ).toEqual([...left].sort());
    expectSound(store);
  });

  it("that are disabled give nothing and take everything back", async () => {
    const first = setUp();
    const held = await first.allocator.assign(request("net.c1"));
    const { allocator, store } = setUp({ pools: [{ cidr: "10.0.0.0/16", disabled: true }], shared: first.store });
    await expect(allocator.assign(request("net.c2"))).rejects.toThrow(/pool-0 is not enabled/);
    await allocator.release(held);
    expect([used(store), store.all("handle").length]).toEqual([0, 0]);
  });
});

describe("IPReservations", () => {
  it("are passed over in their places, and wholly reserved blocks are never claimed", async () => {
    const pools = [{ cidr: "10.0.0.0/28", blockSize: 30 }];
    const reserved = ["10.0.0.0/29", "10.0.0.8/32", "10.0.0.13/32", "10.0.0.12/32", "10.0.0.14/31"];
    const { store, allocator } = setUp({ pools, reserved });
    expect([await take(allocator, "a"), await take(allocator, "b"), await take(allocator, "c")].sort()).toEqual([
      "10.0.0.10",
      "10.0.0.11",
      "10.0.0.9",
    ]);
    expect(store.all("block").map(({ spec }) => [spec.cidr, spec.unallocated])).toEqual([["10.0.0.8/30", [0]]]);
    await expect(allocator.assign(request("d"))).rejects.toThrow(/1 blocks are taken or reserved/);
  });

  it("do not make a large pool endless", async () => {
    const { allocator } = setUp({ pools: [{ cidr: "fd00::/48" }], reserved: ["fd00::/48"] });
    await expect(allocator.assign(request("a", [6]))).rejects.toMatchObject({ code: "NoAddress" });
  });

  it("do not hold for addresses that are asked for by name", async () => {
    const { allocator } = setUp({ reserved: ["10.0.0.7/32"] });
    const got = await allocator.assign({ ...request("a"), addresses: [parseIP("10.0.0.7")] });
    expect(texts(got)).toEqual(["10.0.0.7"]);
  });
});

describe("block limits", () => {
  const pools = [{ cidr: "10.0.0.0/24", blockSize: 32 }];

  it("are 20 when nobody sets one, and at its limit a node does not borrow, though it may", async () => {
    const { store, allocator } = setUp({ pools });
    await foreignBlock(store, "10.0.0.255/32", 0, { ms: Date.now() * 2, ns: 5n });
    await Promise.all(Array.from({ length: 20 }, (_, i) => take(allocator, `c${i}`)));
    const refused = await allocator.assign(request("c20")).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "BlockLimit" });
    expect(String(refused)).toContain("node node-a owns 20 of its blocks, all full; 20 of 20 blocks is its limit");
    expect(String(refused)).toContain("the built-in limit while maxBlocksPerHost is 0");
    expect(String(refused)).toContain("1 addresses are free in 1 blocks of other nodes");
    expect(used(store)).toBe(20);
    expect(store.peek("handle", "c20")).toBeUndefined();
  });

  it("hold for parallel requests, and for blocks that were there", async () => {
    const settings = { maxBlocksPerHost: 3 };
    const first = setUp({ pools, settings });
    await take(first.allocator, "a");
    const { store, allocator } = setUp({ pools, settings, shared: first.store });
    const results = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => take(allocator, `c${i}`)));
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(2);
    expect(store.all("affinity")).toHaveLength(3);
    for (const result of results)
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "BlockLimit" });
    await allocator.releaseByHandle("a");
    await take(allocator, "d");
    expectSound(store);
  });

  it("do not keep the agent from working when the next block cannot be claimed in advance", async () => {
    const { store, allocator, errors } = setUp({
      pools: [{ cidr: "10.0.0.0/24", blockSize: 28 }],
      settings: { maxBlocksPerHost: 1 },
      isResident: true,
    });
    await Promise.all(Array.from({ length: 16 }, (_, i) => take(allocator, `c${i}`)));
    expect([used(store), store.all("affinity").length, errors]).toEqual([16, 1, []]);
  });
});

describe("borrowing", () => {
  const pools = [{ cidr: "10.0.0.0/29", blockSize: 30 }];
  const young = { ms: Date.now() * 2, ns: 5n };

  it("takes from others' blocks when none can be claimed, without their affinity, and gives back", async () => {
    const { store, allocator } = setUp({ pools });
    await foreignBlock(store, "10.0.0.0/30", 2);
    await foreignBlock(store, "10.0.0.4/30", 4);
    expect(await take(allocator, "a")).toBe("10.0.0.2");
    const block = store.peek("block", "10-0-0-0-30");
    expect(block?.spec.affinity).toBe("host:node-b");
    expect(block?.spec.attributes[1]).toEqual({ handle_id: "a", secondary: request("a").attributes });
    expect(block?.spec.attributes[1]?.secondary?.["node"]).toBe(NODE);
    expect(store.all("affinity").map(({ spec }) => spec.node)).toEqual([OTHER, OTHER]);
    await allocator.releaseByHandle("a");
    expect([used(store), store.peek("handle", "a")]).toEqual([6, undefined]);
    expectSound(store);
  });

  it("costs no new search for each address while there is something to borrow", async () => {
    const { store, allocator } = setUp({ pools });
    await foreignBlock(store, "10.0.0.0/30", 1);
    await foreignBlock(store, "10.0.0.4/30", 4);
    await take(allocator, "a");
    store.requests.length = 0;
    await take(allocator, "b");
    expect(summary(store.requests)).toEqual(["create handle", "update block"]);
  });

  it("is forbidden by strictAffinity, and the refusal says what could be had", async () => {
    const { store, allocator } = setUp({ pools, settings: { strictAffinity: true } });
    await foreignBlock(store, "10.0.0.0/30", 0, young);
    await foreignBlock(store, "10.0.0.4/30", 3);
    const refused = String(await allocator.assign(request("a")).catch((error: unknown) => error));
    expect(refused).toContain("5 addresses are free in 2 blocks of other nodes, but strictAffinity");
    expect(refused).toContain("No free address in pool-0 (10.0.0.0/29): node node-a owns 0 of its blocks");
  });

  it("never happens where blocks may not be claimed at all", async () => {
    const { store, allocator } = setUp({ pools, settings: { autoAllocateBlocks: false } });
    await foreignBlock(store, "10.0.0.0/30", 1);
    await expect(allocator.assign(request("a"))).rejects.toThrow(
      /autoAllocateBlocks.*3 addresses are free in 1 blocks/,
    );
    expect(used(store)).toBe(1);
  });

  it("leaves the blocks of virtual owners alone, and uses those of nobody", async () => {
    const { store, allocator } = setUp({ pools });
    await foreignBlock(store, "10.0.0.0/30", 1, OLD, "virtual:load-balancer");
    await foreignBlock(store, "10.0.0.4/30", 4);
    await expect(allocator.assign(request("a"))).rejects.toMatchObject({ code: "NoAddress" });
    const none = setUp({ pools });
    const { affinity: _, ...nobodys } = newBlock(parseCIDR("10.0.0.0/30"), undefined, OLD);
    const spec = assign(nobodys, { handleID: "x", attributes: {}, count: 1 }).block;
    const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock", metadata: { name: "10-0-0-0-30" } };
    await none.store.create("block", { ...head, spec });
    await none.store.create("handle", newHandle("x", { "10.0.0.0/30": 1 }));
    await foreignBlock(none.store, "10.0.0.4/30", 4);
    expect(await take(none.allocator, "a")).toBe("10.0.0.1");
  });
});

describe("empty blocks of others", () => {
  const pools = [{ cidr: "10.0.0.0/30", blockSize: 30 }];
  const settings = { strictAffinity: true };

  it("are taken when their claim is a minute old", async () => {
    const { store, allocator, clock } = setUp({ pools, settings });
    await foreignBlock(store, "10.0.0.0/30", 0, { ms: clock.nowMs() - 59_000, ns: 5n });
    await expect(allocator.assign(request("a"))).rejects.toMatchObject({ code: "NoAddress" });
    await clock.advance(1_000);
    expect(await take(allocator, "a")).toBe("10.0.0.0");
    expect(store.all("affinity").map(({ metadata }) => metadata.name)).toEqual([
      affinityName(NODE, parseCIDR("10.0.0.0/30")),
    ]);
    expect(store.all("block")[0]?.spec.affinity).toBe(`host:${NODE}`);
    expectSound(store);
  });

  it("stay with their owner when it assigns just now", async () => {
    let hasAssigned = false;
    const onRequest = async ({ verb, kind }: StoreRequest): Promise<undefined> => {
      const [block] = store.all("block");
      // The thief has marked the claim and is about to delete the block.
      if (hasAssigned || block === undefined || verb !== "update" || kind !== "block") return;
      hasAssigned = true;
      const taken = assign(block.spec, { handleID: "other", attributes: { node: OTHER }, count: 1 }).block;
      await store.create("handle", newHandle("other", { [block.spec.cidr]: 1 }));
      await store.update("block", { ...block, spec: nextRevision(taken) });
    };
    const { store, allocator } = setUp({ pools, settings, store: { onRequest } });
    await foreignBlock(store, "10.0.0.0/30", 0);
    await expect(allocator.assign(request("a"))).rejects.toMatchObject({ code: "NoAddress" });
    expect(hasAssigned).toBe(true);
    expect(store.all("block")[0]?.spec.affinity).toBe(`host:${OTHER}`);
    expect(store.all("affinity").map(({ spec }) => [spec.node, spec.state])).toEqual([[OTHER, "confirmed"]]);
    expectSound(store);
  });

  it("are taken when they have no owner at all", async () => {
    const { store, allocator } = setUp({ pools, settings });
    const spec = newBlock(parseCIDR("10.0.0.0/30"), undefined, OLD);
    const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock", metadata: { name: "10-0-0-0-30" } };
    await store.create("block", { ...head, spec });
    expect(await take(allocator, "a")).toBe("10.0.0.0");
  });
});

describe("several addresses", () => {
  it("come under one record, one sequence number and a handle that counts them", async () => {
    const { store, allocator } = setUp();
    const got = await allocator.assign({ ...request("net.c1"), count: 3 });
    const [block] = store.all("block");
    const sequence = (block?.spec.sequenceNumber ?? 0n) - 1n;
    expect(texts(got)).toHaveLength(3);
    expect(block?.spec.attributes).toHaveLength(1);
    expect(block?.spec.allocations.filter((index) => index === 0)).toHaveLength(3);
    expect(store.peek("handle", "net.c1")?.spec.block).toEqual({ [block?.spec.cidr ?? ""]: 3 });
    expect(Object.values(block?.spec.sequenceNumberForAllocation ?? {})).toEqual([sequence, sequence, sequence]);
    expect(got.map((a) => a.sequenceNumber)).toEqual([sequence, sequence, sequence]);
    await allocator.release(got);
    expect([used(store), store.all("handle").length]).toEqual([0, 0]);
  });

  it("come out of several blocks, and all or none", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/29", blockSize: 31 }], isResident: true });
    const got = await allocator.assign({ ...request("a"), count: 5 });
    expect(new Set(texts(got)).size).toBe(5);
    const counts = Object.values(store.peek("handle", "a")?.spec.block ?? {});
    expect(counts.reduce((n, count) => n + count, 0)).toBe(5);
    expectSound(store);
    await expect(allocator.assign({ ...request("b"), count: 4 })).rejects.toMatchObject({ code: "NoAddress" });
    expect([used(store), store.peek("handle", "b")]).toEqual([5, undefined]);
  });
});

describe("an address that is asked for by name", () => {
  const asked = (handleID: string, ...ips: string[]) => ({
    ...request(
      handleID,
      ips.map((ip) => (ip.includes(":") ? 6 : 4)),
    ),
    addresses: ips.map(parseIP),
  });

  it("is claimed for this node when nobody has its block, whatever the limit", async () => {
    const { store, allocator } = setUp({
      settings: { maxBlocksPerHost: 1 },
      pools: [{ cidr: "10.0.0.0/16" }, { cidr: "fd00::/64" }],
    });
    await take(allocator, "a");
    const got = await allocator.assign(asked("b", "10.0.7.5", "fd00::77"));
    expect(texts(got)).toEqual(["10.0.7.5", "fd00::77"]);
    expect(store.all("affinity").map(({ spec }) => spec.state)).toEqual(["confirmed", "confirmed", "confirmed"]);
    await allocator.releaseByHandle("b");
    expect(used(store)).toBe(1);
    expectSound(store);
  });

  it("is had by each of several requests at once, out of one block that nobody has", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/16" }] });
    const got = await Promise.all([1, 2, 3].map((n) => allocator.assign(asked(`c${n}`, `10.0.7.${n}`))));
    expect(got.map(texts)).toEqual([["10.0.7.1"], ["10.0.7.2"], ["10.0.7.3"]]);
    expectSound(store);
  });

  it("is had by twenty requests at once, out of one block of another node, which is read but once", async () => {
    const { store, allocator } = setUp({ pools: [{ cidr: "10.0.0.0/16" }] });
    await foreignBlock(store, "10.0.7.0/26", 1);
    store.requests.length = 0;
    const ips = Array.from({ length: 20 }, (_, n) => `10.0.7.${n + 10}`);
    const got = await Promise.all(ips.map((ip) => allocator.assign(asked(`c.${ip}`, ip))));
    expect(got.map(texts)).toEqual(ips.map((ip) => [ip]));
    expect(summary(store.requests).filter((r) => r === "get block")).toHaveLength(1);
    expectSound(store);
  });

  it("is refused with the name of its holder when it is taken, and nothing is kept", async () => {
    const { store, allocator } = setUp();
    await allocator.assign(asked("a", "10.0.7.5"));
    const refused = String(await allocator.assign(asked("b", "10.0.7.5")).catch((error: unknown) => error));
    expect(refused).toContain("is held by handle a, pod default/a on node node-a");
    expect(store.peek("handle", "b")).toBeUndefined();
    expectSound(store);
  });

  it("is refused outside of enabled pools", async () => {
    const { allocator } = setUp({
      pools: [
        { cidr: "10.0.0.0/16", disabled: true },
        { cidr: "10.1.0.0/16", allowedUses: ["Tunnel"] },
      ],
    });
    await expect(allocator.assign(asked("a", "10.0.7.5"))).rejects.toThrow(/pool-0 .* is not enabled/);
    await expect(allocator.assign(asked("a", "10.1.7.5"))).rejects.toThrow(/is for Tunnel only/);
    await expect(allocator.assign(asked("a", "10.9.7.5"))).rejects.toThrow(/no IPPool holds it/);
    expect(texts(await allocator.assign({ ...asked("a", "10.1.7.5"), use: "Tunnel" }))).toEqual(["10.1.7.5"]);
  });

  it("is refused by the names of pool, block and owner, and the command that tells more", async () => {
    const pools = [
      { cidr: "10.0.0.0/16" },
      { cidr: "10.1.0.0/16", disabled: true },
      { cidr: "10.2.0.0/16", allowedUses: ["Tunnel" as const] },
    ];
    const { store, allocator } = setUp({ pools, settings: { strictAffinity: true } });
    await foreignBlock(store, "10.0.9.0/26", 1);
    await store.create("affinity", withState(pendingAffinity(OTHER, parseCIDR("10.0.8.32/27")), "confirmed"));
    await allocator.assign(asked("a", "10.0.7.5"));
    const refusals = [
      [
        "10.9.7.5",
        "Cannot assign 10.9.7.5: no IPPool holds it (IPv4 pools: pool-0 10.0.0.0/16, pool-1 10.1.0.0/16, pool-2 10.2.0.0/16); " +
          "ask for an address of one of them, see gingham ipam show",
      ],
      [
        "fd00::5",
        "Cannot assign fd00::5: there is no IPv6 pool; make one, or ask for an address of the other family, " +
          "see gingham ipam show",
      ],
      [
        "10.1.7.5",
        "Cannot assign 10.1.7.5: IPPool pool-1 (10.1.0.0/16) is not enabled; " +
          "ask for an address of another pool, see gingham ipam show and kubectl describe ippool pool-1",
      ],
      [
        "10.2.7.5",
        "Cannot assign 10.2.7.5: IPPool pool-2 (10.2.0.0/16) is for Tunnel only; " +
          "ask for an address of another pool, see gingham ipam show and kubectl describe ippool pool-2",
      ],
      [
        "10.0.7.5",
        "Address 10.0.7.5 of IPPool pool-0, in block 10.0.7.0/26, is held by handle a, pod default/a on node node-a; " +
          "ask for another one, or see gingham ipam show 10.0.7.5",
      ],
      [
        "10.0.9.5",
        "Address 10.0.9.5 of IPPool pool-0 is in block 10.0.9.0/26 of host:node-b, and strictAffinity of IPAMConfig default " +
          "keeps node node-a from borrowing it; ask for another address, or set it to false, see gingham ipam show 10.0.9.5",
      ],
      [
        "10.0.8.5",
        "Cannot claim block 10.0.8.0/26 of IPPool pool-0 for address 10.0.8.5: it overlaps block 10.0.8.32/27; " +
          "ask for another address, or remove the old block, see gingham ipam show 10.0.8.32",
      ],
    ] as const;
    for (const [ip, message] of refusals)
      await expect(allocator.assign(asked("b", ip))).rejects.toMatchObject({ message });
  });

  it("for a tunnel comes out of pools that allow it, and a pod's never out of those for tunnels only", async () => {
    const pools = [
      { cidr: "10.0.0.0/16", allowedUses: ["Workload" as const] },
      { cidr: "10.1.0.0/16", allowedUses: ["Tunnel" as const] },
    ];
    const { allocator } = setUp({ pools });
    expect(await take(allocator, "pod")).toMatch(/^10\.0\./);
    expect(texts(await allocator.assign({ ...request("tunnel"), use: "Tunnel" }))[0]).toMatch(/^10\.1\./);
  });

  it("is borrowed from another node's block, but not with strictAffinity", async () => {
    const strict = setUp({ settings: { strictAffinity: true } });
    await foreignBlock(strict.store, "10.0.7.0/26", 1);
    await expect(strict.allocator.assign(asked("a", "10.0.7.5"))).rejects.toMatchObject({ code: "AddressTaken" });
    const { allocator, store } = setUp({ shared: strict.store });
    expect(texts(await allocator.assign(asked("a", "10.0.7.5")))).toEqual(["10.0.7.5"]);
    expect(store.all("block")[0]?.spec.affinity).toBe(`host:${OTHER}`);
    expectSound(store);
  });

  it("is not claimed out of a block that overlaps another one", async () => {
    const { store, allocator } = setUp();
    await store.create("affinity", withState(pendingAffinity(OTHER, parseCIDR("10.0.7.32/27")), "confirmed"));
    await expect(allocator.assign(asked("a", "10.0.7.5"))).rejects.toMatchObject({ code: "Overlap" });
  });
});

describe("block sizes", () => {
  it.each([
    ["10.0.0.0/16", 20, 4],
    ["10.0.0.0/24", 32, 4],
    ["fd00::/112", 116, 6],
    ["fd00::/120", 128, 6],
  ] as const)("%s in blocks of /%i", async (cidr, blockSize, family) => {
    const { store, allocator } = setUp({ pools: [{ cidr, blockSize }] });
    const got = await allocator.assign({ ...request("a", [family]), count: 3 });
    expect(new Set(texts(got)).size).toBe(3);
    expect(store.all("block").every((block) => parseCIDR(block.spec.cidr).prefixLength === blockSize)).toBe(true);
    await allocator.release(got);
    expect(used(store)).toBe(0);
    expectSound(store);
  });
});

describe("damaged blocks", () => {
  const pools = [{ cidr: "10.0.0.0/27", blockSize: 28 }];
  const cidr = parseCIDR("10.0.0.0/28");
  const sound = newBlock(cidr, `host:${NODE}`, OLD);

  it.each<[string, Partial<IPAMBlockSpec>]>([
    ["a free ordinal twice", { unallocated: [0, 0, ...sound.unallocated.slice(2)] }],
    ["a free ordinal out of range", { unallocated: [99, ...sound.unallocated.slice(1)] }],
    [
      "an index without a record",
      { allocations: [7, ...sound.allocations.slice(1)], unallocated: sound.unallocated.slice(1) },
    ],
    ["a wrong length", { allocations: sound.allocations.slice(1) }],
    ["no queue", { unallocated: [] }],
  ])("%s: left alone, reported by name, and allocation goes on elsewhere", async (_, damage) => {
    const { store, allocator, errors } = setUp({ pools });
    await store.create("affinity", withState(pendingAffinity(NODE, cidr), "confirmed"));
    const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock", metadata: { name: blockName(cidr) } };
    await store.create("block", { ...head, spec: { ...sound, ...damage } });
    const before = store.peek("block", blockName(cidr));
    for (const handleID of ["a", "b"])
      expect(await take(allocator, handleID)).toMatch(/^10\.0\.0\.(1[6-9]|2\d|3[01])$/);
    expect(store.peek("block", blockName(cidr))).toBe(before);
    expect(errors).toMatchObject([{ code: "BrokenObject" }]);
    expect(String(errors[0])).toContain(`IPAMBlock 10-0-0-0-28 (${formatCIDR(cidr)}) is damaged`);
  });

  it("that break under our hands are left alone from then on", async () => {
    const { store, allocator, errors } = setUp({ pools });
    const [first] = await allocator.assign(request("a"));
    const name = blockName(first?.block ?? cidr);
    const block = store.peek("block", name);
    if (block === undefined) throw new Error("no block");
    await store.update("block", { ...block, spec: { ...block.spec, unallocated: [1, 1] } });
    const [second] = await allocator.assign(request("b"));
    expect(second?.block).not.toEqual(first?.block);
    expect(errors).toMatchObject([{ code: "BrokenObject" }]);
    await expect(allocator.releaseByHandle("a")).rejects.toMatchObject({ code: "BrokenObject" });
  });
});

describe("claims without labels", () => {
  it("get them when the agent starts, whatever their state", async () => {
    const { store, allocator } = setUp();
    for (const [cidr, state] of [
      ["10.0.0.0/26", "confirmed"],
      ["10.0.1.0/26", ""],
    ] as const) {
      const { metadata, ...bare } = withState(pendingAffinity(NODE, parseCIDR(cidr)), "confirmed");
      await store.create("affinity", { ...bare, metadata: { name: metadata.name }, spec: { ...bare.spec, state } });
      const head = {
        apiVersion: "crd.projectcalico.org/v1",
        kind: "IPAMBlock",
        metadata: { name: blockName(parseCIDR(cidr)) },
      };
      await store.create("block", { ...head, spec: newBlock(parseCIDR(cidr), `host:${NODE}`, OLD) });
    }
    await allocator.warmUp([4]);
    for (const { metadata, spec } of store.all("affinity")) {
      expect(metadata.labels).toEqual(pendingAffinity(NODE, parseCIDR(spec.cidr)).metadata.labels);
      expect(spec.state).toBe("confirmed");
    }
  });
});

describe("the block of an address that is asked for by name", () => {
  const named = { ...request("net.c1"), addresses: [parseIP("10.0.0.5")] };
  const single = { pools: [{ cidr: "10.0.0.0/24", blockSize: 32 }] };

  it.each([true, false])("moves with its block when that has no other (strictAffinity %s)", async (strictAffinity) => {
    const { store, allocator, clock } = setUp({ ...single, settings: { strictAffinity } });
    // Claimed a moment ago, which keeps it from those who would take any block.
    await foreignBlock(store, "10.0.0.5/32", 0, { ms: clock.nowMs(), ns: clock.nowNs() });
    expect(texts(await allocator.assign(named))).toEqual(["10.0.0.5"]);
    expect(store.all("block").map(({ spec }) => spec.affinity)).toEqual([`host:${NODE}`]);
    expect(store.all("affinity").map(({ metadata }) => metadata.name)).toEqual([
      affinityName(NODE, parseCIDR("10.0.0.5/32")),
    ]);
    expectSound(store);
  });

  it.each([true, false])("stays with its holder, whom the error has (strictAffinity %s)", async (strictAffinity) => {
    const { store, allocator } = setUp({ ...single, settings: { strictAffinity } });
    await foreignBlock(store, "10.0.0.5/32", 1);
    const error = await allocator.assign(named).catch((caught: unknown) => caught);
    expect(error).toMatchObject({
      code: "AddressTaken",
      holder: { ip: parseIP("10.0.0.5"), ordinal: 0, handleID: "other.10-0-0-5-32", attributes: { node: OTHER } },
    });
    expect(store.all("block").map(({ spec }) => spec.affinity)).toEqual([`host:${OTHER}`]);
  });

  it("stays in an empty block of several addresses, which its owner may be about to use", async () => {
    const { store, allocator } = setUp({ settings: { strictAffinity: true } });
    await foreignBlock(store, "10.0.0.0/26", 0);
    await expect(allocator.assign(named)).rejects.toThrow(/strictAffinity .* keeps node node-a from borrowing it/);
    expect(store.all("block").map(({ spec }) => spec.affinity)).toEqual([`host:${OTHER}`]);
  });

  it("stays with a load balancer", async () => {
    const { store, allocator } = setUp({ ...single, settings: { strictAffinity: true } });
    await foreignBlock(store, "10.0.0.5/32", 0, OLD, "virtual:load-balancer");
    await expect(allocator.assign(named)).rejects.toThrow(/of virtual:load-balancer, and strictAffinity/);
  });

  it("is not refused for what is remembered: a peer may have given it back", async () => {
    const { store, allocator } = setUp();
    const [own] = await allocator.assign({ ...named, handleID: "net.c0" });
    if (own === undefined) throw new Error("no address");
    await setUp({ shared: store, node: OTHER }).allocator.release([own]);
    expect(texts(await allocator.assign(named))).toEqual(["10.0.0.5"]);
    expectSound(store);
  });
});
