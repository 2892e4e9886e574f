// SPDX-License-Identifier: Apache-2.0

import { describe, expect, test, vi } from "vitest";
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { IPPool } from "../crds/ip-pool.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { parseCIDR } from "../net/cidr.ts";
import { type Family, formatIP, parseIP } from "../net/ip.ts";
import type { BorrowedBlock } from "./calc/borrowed.ts";
import { NodeWriter } from "./drivers/node-writer.ts";
import { FakePodLinks } from "./fake-pod-links.ts";
import {
  FakeLog,
  FakeSource,
  fakeAffinity,
  fakeBorrowed,
  fakeEndpoint,
  fakeNode,
  fakePool,
  noMetrics,
} from "./fake-resources.ts";
import { FakeRouteDataplane } from "./fake-route-dataplane.ts";
import { createFelix, type Felix } from "./felix.ts";
import type { FelixOptions } from "./felix-options.ts";
import { formatKernelRoute, sameKernelRoute } from "./kernel-route.ts";
import { NftError } from "./nft/errors.ts";
import { FakeNft } from "./nft/fake-nft.ts";
import { PacketFilter } from "./packet-filter.ts";
import type { KernelRoute } from "./ports.ts";

const NIC = 2;

/** As nearly every node has one, by its own network configuration. */
const DEFAULT_ROUTE: KernelRoute = {
  dst: parseCIDR("0.0.0.0/0"),
  type: "unicast",
  metric: 0,
  protocol: 3,
  ifIndex: NIC,
  gateway: parseIP("192.0.2.254"),
  onlink: false,
  scope: "universe",
};

function setUp(options: Partial<FelixOptions> = {}, clock: FakeClock = new FakeClock()) {
  const kernel = new FakeRouteDataplane();
  kernel.addLink("eth0", { ip: parseIP("192.0.2.1"), prefixLength: 24 }, NIC);
  kernel.addAddr(NIC, parseIP("2001:db8::1"), 64);
  kernel.put(DEFAULT_ROUTE);
  const sources = {
    nodes: new FakeSource<Node>(
      fakeNode("node-a", ["192.0.2.1", "2001:db8::1"]),
      fakeNode("node-b", ["192.0.2.2", "2001:db8::2"]),
    ),
    affinities: new FakeSource<BlockAffinity>(
      fakeAffinity("node-a", "10.0.0.0/26"),
      fakeAffinity("node-b", "10.0.0.64/26"),
    ),
    pools: new FakeSource<IPPool>(fakePool("four", "10.0.0.0/16")),
  };
  const log = new FakeLog();
  const forwarding: (readonly Family[])[] = [];
  const felixOptions: FelixOptions = {
    nodeName: "node-a",
    dataplane: kernel,
    sources,
    clock,
    random: () => 0,
    log,
    metrics: noMetrics,
    enableForwarding: (families) => forwarding.push(families),
    ...options,
  };
  const open = (more: Partial<FelixOptions> = {}): Felix => createFelix({ ...felixOptions, ...more });
  const syncAll = (): void => {
    for (const source of Object.values(sources)) source.sync();
  };
  const shown = (): string[] =>
    kernel.routes
      .filter((route) => !sameKernelRoute(route, DEFAULT_ROUTE))
      .map((route) => formatKernelRoute(route, (ifIndex) => (ifIndex === NIC ? "eth0" : undefined)))
      .toSorted();
  return { clock, kernel, sources, log, forwarding, open, syncAll, shown };
}

/** Starts an agent in which everything is known, and lets it make its first apply. */
async function setUpRunning(options: Partial<FelixOptions> = {}) {
  const world = setUp(options);
  const felix = world.open();
  felix.start();
  world.syncAll();
  await world.clock.advance(10);
  return { ...world, felix };
}

const OWN = "blackhole 10.0.0.0/26 proto 80";
const REMOTE = "10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80";

function podRoute(ip: string, ifIndex: number): KernelRoute {
  const base = { type: "unicast", metric: 0, protocol: 80, onlink: false } as const;
  return { ...base, dst: parseCIDR(`${ip}/32`), ifIndex, scope: "link" };
}

describe("Felix and this machine's addresses", () => {
  test("hears of one that goes while links are being listed", async () => {
    const heard: string[][] = [];
    const onAddresses: FelixOptions["onAddresses"] = (addrs) => heard.push(addrs.map(({ ip }) => formatIP(ip)));
    const { clock, kernel, felix } = await setUpRunning({ onAddresses });
    await clock.advance(5000);
    let isLeft = false;
    kernel.onCall = (call) => {
      if (call !== "listAddrs" || isLeft) return;
      isLeft = true;
      // Told before the listing has ended, which shows it still.
      void Promise.resolve().then(() => kernel.deleteAddr(NIC, parseIP("192.0.2.1")));
    };
    kernel.addAddr(NIC, parseIP("192.0.2.77"), 24);
    await clock.advance(3000);
    expect(isLeft).toBe(true);
    expect(heard.at(-1)).toEqual(["2001:db8::1", "192.0.2.77"]);
    await felix.stop();
  });
});

describe("Felix with a packet filter", () => {
  function withFilter() {
    const clock = new FakeClock();
    const nft = new FakeNft();
    const packetFilter = new PacketFilter({
      port: nft,
      settings: { natOutgoing: true, natOutgoingExclusions: "IPPoolsAndHostIPs", randomFully: true },
      clock,
      random: () => 0,
      log: new FakeLog(),
      metrics: { filterTurn: () => {}, filterRepaired: () => {}, filterDropped: () => {} },
    });
    return { ...setUp({ packetFilter }, clock), nft };
  }

  test("feeds it from the same sources, and lets it write once all are in sync", async () => {
    const { clock, nft, sources, open, syncAll } = withFilter();
    const felix = open();
    felix.endpointUp({ ...fakeEndpoint("1", 0, "10.0.0.5"), allowedSourcePrefixes: ["10.9.0.0/16"] });
    felix.start();
    await clock.advance(10);
    expect(nft.sets?.get("all-pools-v4")).toEqual(new Set());
    expect(felix.health.readiness().checks["packetFilter"]?.ok).toBe(false);
    syncAll();
    await clock.advance(10);
    expect(nft.sets?.get("all-pools-v4")).toEqual(new Set(["10.0.0.0/16"]));
    expect(nft.sets?.get("nodes-v6")).toEqual(new Set(["2001:db8::1/128", "2001:db8::2/128"]));
    expect(nft.sets?.get("allowed-sources-v4")).toEqual(new Set(['"cali1" . 10.9.0.0/16']));
    expect(felix.health.readiness()).toMatchObject({ ok: true, checks: { packetFilter: { detail: "programmed" } } });
    sources.nodes.delete("node-b");
    sources.pools.set(fakePool("more", "10.7.0.0/16", { natOutgoing: true }));
    sources.pools.delete("four");
    felix.endpointDown({ key: "1" });
    await clock.advance(10);
    expect(nft.sets?.get("all-pools-v4")).toEqual(new Set(["10.7.0.0/16"]));
    expect(nft.sets?.get("nodes-v4")).toEqual(new Set(["192.0.2.1/32"]));
    expect(nft.sets?.get("allowed-sources-v4")).toEqual(new Set());
    await felix.stop();
    expect(nft.sets?.get("all-pools-v4")).toEqual(new Set(["10.7.0.0/16"]));
  });

  test("is not ready while nft refuses, although the routes are there", async () => {
    const { clock, nft, open, syncAll, shown } = withFilter();
    nft.refuse = () => new NftError("no");
    const felix = open();
    felix.start();
    syncAll();
    await clock.advance(10);
    expect(shown()).toContain(OWN);
    expect(felix.health.readiness()).toMatchObject({ ok: false, checks: { packetFilter: { ok: false } } });
    expect(felix.findings().map(({ code }) => code)).toEqual(["PacketFilterOff"]);
    await felix.stop();
  });
});

describe("Felix", () => {
  test("start() writes nothing to the kernel before nodes, affinities and pools are in sync", async () => {
    const { clock, kernel, sources, open, shown } = setUp();
    kernel.put({ ...podRoute("10.0.0.5", NIC), dst: parseCIDR("10.9.9.0/26") });
    const felix = open();
    felix.start();
    for (const name of ["nodes", "affinities", "pools"] as const) {
      await clock.advance(5000);
      expect([kernel.writes, kernel.deletes]).toEqual([[], []]);
      expect(felix.health.readiness().ok).toBe(false);
      expect(felix.health.readiness().checks["datastore"]?.detail).toContain(name);
      sources[name].sync();
    }
    await clock.advance(10);
    expect(shown()).toEqual([REMOTE, OWN].toSorted());
    expect(felix.health.readiness()).toMatchObject({ ok: true });
    await felix.stop();
  });

  test("a restart on a kernel that agrees writes nothing, and stop() leaves the kernel alone", async () => {
    const { clock, kernel, felix, open, log, shown } = await setUpRunning();
    kernel.addLink("cali1", undefined, 11);
    felix.endpointUp(fakeEndpoint("1", 11, "10.0.0.5"));
    await clock.advance(10);
    const before = shown();
    expect(before).toContain("10.0.0.5/32 dev #11 proto 80");
    await felix.stop();
    expect(shown()).toEqual(before);
    kernel.writes.length = 0;
    kernel.deletes.length = 0;
    const restarted = open();
    restarted.endpointUp(fakeEndpoint("1", 11, "10.0.0.5"));
    restarted.start();
    await clock.advance(200_000);
    expect([kernel.writes, kernel.deletes]).toEqual([[], []]);
    expect(log.said("info")).toContain("in sync: 3 routes adopted as they were, 0 written, 0 deleted");
    await restarted.stop();
    expect(kernel.watchers).toBe(0);
  });

  test("what others delete or change is restored soon after the notification, and reported", async () => {
    const { clock, kernel, felix, log, shown } = await setUpRunning();
    await clock.advance(1000);
    const before = shown();
    kernel.remove(parseCIDR("10.0.0.0/26"));
    kernel.put({ ...podRoute("10.0.0.5", NIC), dst: parseCIDR("10.0.0.64/26"), protocol: 4 });
    await clock.advance(10);
    expect(shown()).toEqual(before);
    expect(log.said("warn")).toContain("2 routes removed or changed by another program; restored");
    expect(log.said("warn")).toContain("1 route of others replaced by ours");
    await felix.stop();
  });

  test("notifications in a storm share listings", async () => {
    const { clock, kernel, felix } = await setUpRunning();
    await clock.advance(1000);
    const before = kernel.listings;
    for (let i = 0; i < 300; i++) {
      kernel.put({ ...podRoute("10.9.0.1", NIC), protocol: 12 });
      await clock.advance(10);
    }
    // Two families: ten listings at once, and then at most one in 200 ms of the three seconds.
    expect(kernel.listings - before).toBeLessThanOrEqual(2 * (10 + 15));
    await felix.stop();
  });

  test("a full resync every 90 s finds what no notification told", async () => {
    const { clock, kernel, felix, shown } = await setUpRunning();
    const before = shown();
    const lost = kernel.routes.find((route) => route.type === "blackhole");
    if (lost === undefined) throw new Error("no route");
    await kernel.deleteRoutes([lost]);
    await clock.advance(80_000);
    expect(shown()).not.toEqual(before);
    await clock.advance(10_100);
    expect(shown()).toEqual(before);
    await felix.stop();
  });

  test("a thousand nodes that appear at once are routed by a few writes of many, and vanish in the same way", async () => {
    const { clock, kernel, felix, sources, shown } = await setUpRunning();
    const replaceRoutes = vi.spyOn(kernel, "replaceRoutes");
    const deleteRoutes = vi.spyOn(kernel, "deleteRoutes");
    const nodes = Array.from({ length: 1000 }, (_, i) => ({
      node: fakeNode(`n-${i}`, [`192.0.2.${3 + (i % 250)}`]),
      // The claim may be known before its node, and after it.
      affinity: fakeAffinity(`n-${i}`, `10.0.${1 + (i >> 2)}.${(i & 3) * 64}/26`),
    }));
    for (const { affinity } of nodes.slice(0, 500)) sources.affinities.set(affinity);
    for (const { node } of nodes) sources.nodes.set(node);
    for (const { affinity } of nodes.slice(500)) sources.affinities.set(affinity);
    await clock.advance(1000);
    expect(shown()).toHaveLength(1002);
    expect(replaceRoutes.mock.calls.length).toBeLessThanOrEqual(2);
    for (const { node } of nodes) sources.nodes.delete(node.metadata.name);
    await clock.advance(1000);
    expect(shown()).toEqual([REMOTE, OWN].toSorted());
    expect(deleteRoutes.mock.calls.length).toBeLessThanOrEqual(2);
    await felix.stop();
  });

  test("routes of a deleted node and of a released block vanish; a moved block is one replace", async () => {
    const { clock, kernel, sources, felix, log, shown } = await setUpRunning();
    sources.nodes.set(fakeNode("node-c", ["192.0.2.3"]));
    sources.affinities.set(fakeAffinity("node-c", "10.0.0.128/26"));
    await clock.advance(10);
    expect(shown()).toContain("10.0.0.128/26 via 192.0.2.3 dev eth0 proto 80");
    kernel.deletes.length = 0;
    sources.affinities.delete("node-c-10-0-0-128-26");
    sources.affinities.set(fakeAffinity("node-b", "10.0.0.128/26"));
    await clock.advance(10);
    expect(shown()).toContain("10.0.0.128/26 via 192.0.2.2 dev eth0 proto 80");
    expect(kernel.deletes).toEqual([]);
    sources.nodes.delete("node-b");
    sources.affinities.delete("node-a-10-0-0-0-26");
    await clock.advance(10);
    expect(shown()).toEqual([]);
    await clock.advance(1000);
    expect(log.said("warn")).toEqual([
      "node-b: No Node object of this name; its blocks and borrowed addresses get no route (2 destinations)",
    ]);
    await felix.stop();
  });

  test("a pod's route is left alone while its ADD is under way, and known from its first moment", async () => {
    const { clock, kernel, felix, shown, log } = await setUpRunning();
    felix.endpointUp(fakeEndpoint("1", 0, "10.0.0.5"));
    await clock.advance(10);
    kernel.addLink("cali1", undefined, 11);
    kernel.put(podRoute("10.0.0.5", 11));
    await clock.advance(500);
    felix.endpointUp(fakeEndpoint("1", 11, "10.0.0.5"));
    await clock.advance(100_000);
    expect(shown()).toContain("10.0.0.5/32 dev #11 proto 80");
    felix.endpointDown({ key: "1" });
    felix.endpointDown({ key: "1" });
    await clock.advance(10);
    kernel.deleteLink(11);
    await clock.advance(100_000);
    expect(shown()).toEqual([REMOTE, OWN].toSorted());
    expect(kernel.deletes).toEqual([]);
    expect(log.said("warn")).toEqual([]);
    await felix.stop();
  });

  test("a pod's link that is still being made is nothing to tell of", async () => {
    const { clock, kernel, felix, log, shown } = await setUpRunning();
    felix.endpointUp(fakeEndpoint("1", 0, "10.0.0.5"));
    kernel.addLink("cali2", undefined, 12);
    felix.endpointUp(fakeEndpoint("2", 12, "10.0.0.6"));
    await clock.advance(2000);
    expect(shown()).toContain("10.0.0.6/32 dev #12 proto 80");
    expect(felix.findings()).toEqual([]);
    kernel.addLink("cali1", undefined, 11);
    felix.endpointUp(fakeEndpoint("1", 11, "10.0.0.5"));
    await clock.advance(10);
    expect(shown()).toContain("10.0.0.5/32 dev #11 proto 80");
    expect(log.said("warn")).toEqual([]);
    await felix.stop();
  });

  test("a pod's link that flaps gets its route back; one that is gone is named", async () => {
    const { clock, kernel, felix, log, shown } = await setUpRunning();
    kernel.addLink("cali1", undefined, 11);
    felix.endpointUp(fakeEndpoint("1", 11, "10.0.0.5"));
    await clock.advance(10);
    kernel.setUp(11, false);
    kernel.setUp(11, true);
    await clock.advance(6000);
    expect(shown()).toContain("10.0.0.5/32 dev #11 proto 80");
    kernel.deleteLink(11);
    await clock.advance(2000);
    expect(log.said("warn")).toContain("Route to 10.0.0.5/32 waits: link cali1 (index 11) is missing");
    expect(felix.findings()).toMatchObject([{ code: "RouteWaits" }]);
    await felix.stop();
  });

  test("the parent link may go down and lose its routes: they come back with it", async () => {
    const { clock, kernel, felix, log, shown } = await setUpRunning();
    kernel.setUp(NIC, false);
    await clock.advance(3000);
    expect(shown()).toEqual([OWN]);
    expect(log.said("warn")[0]).toContain("link eth0, which carries this node's address 192.0.2.1, is down");
    kernel.setUp(NIC, true);
    await clock.advance(10);
    expect(shown()).toEqual([REMOTE, OWN].toSorted());
    await felix.stop();
  });

  test("an address that leaves its link for a moment takes no route away, and those that the kernel drops with a link's last one are back with it", async () => {
    const { clock, kernel, felix, shown } = await setUpRunning();
    for (const isLast of [false, true]) {
      if (!isLast) kernel.addAddr(NIC, parseIP("192.0.2.77"), 24);
      await clock.advance(5000);
      kernel.deleteAddr(NIC, parseIP("192.0.2.1"));
      await clock.advance(isLast ? 2000 : 200_000);
      expect(shown()).toEqual(isLast ? [OWN] : [REMOTE, OWN].toSorted());
      kernel.addAddr(NIC, parseIP("192.0.2.1"), 24);
      await clock.advance(100);
      expect(shown()).toEqual([REMOTE, OWN].toSorted());
      kernel.deleteAddr(NIC, parseIP("192.0.2.77"));
    }
    expect(kernel.deletes).toEqual([]);
    await felix.stop();
  });

  test("a node without a default route gets one to the pods' gateway, for as long as it has none", async () => {
    const { clock, kernel, felix, open, shown, syncAll } = await setUpRunning();
    kernel.addLink("lo", undefined, 1);
    kernel.remove(DEFAULT_ROUTE.dst);
    await clock.advance(1000);
    const gateway = "169.254.1.1/32 dev #1 proto 80";
    expect(shown()).toEqual([REMOTE, OWN, gateway].toSorted());
    await felix.stop();
    const changes = kernel.writes.length + kernel.deletes.length;
    const restarted = open();
    restarted.start();
    syncAll();
    await clock.advance(1000);
    expect(kernel.writes.length + kernel.deletes.length).toBe(changes);
    kernel.put(DEFAULT_ROUTE);
    await clock.advance(1000);
    expect(shown()).toEqual([REMOTE, OWN].toSorted());
    await restarted.stop();
  });

  test("endpointUp() of a wired endpoint adopts its route without a look at the kernel", async () => {
    const { clock, kernel, felix, shown } = await setUpRunning();
    const listings: string[] = [];
    kernel.onCall = (call) => {
      listings.push(call);
    };
    kernel.addLink("cali1", undefined, 11);
    kernel.put(podRoute("10.0.0.5", 11));
    const wrote = kernel.writes.length;
    felix.endpointUp(fakeEndpoint("1", 0, "10.0.0.5"));
    felix.endpointUp({ ...fakeEndpoint("1", 11, "10.0.0.5"), isWired: true });
    await clock.advance(50);
    expect([kernel.writes.length - wrote, listings]).toEqual([0, []]);
    felix.endpointDown({ key: "1" });
    await clock.advance(60_000);
    expect(shown()).toEqual([REMOTE, OWN].toSorted());
    await felix.stop();
  });

  test("a changed InternalIP of another node changes its routes, also of this node its parent link", async () => {
    const { clock, kernel, sources, felix, shown } = await setUpRunning();
    kernel.addLink("eth1", { ip: parseIP("198.51.100.1"), prefixLength: 24 }, 3);
    sources.nodes.set(fakeNode("node-b", ["198.51.100.2"]));
    sources.nodes.set(fakeNode("node-a", ["198.51.100.1"]));
    await clock.advance(1100);
    expect(shown()).toContain("10.0.0.64/26 via 198.51.100.2 dev #3 proto 80");
    await felix.stop();
  });

  test("a failing kernel worker is retried with back-off, shown by readiness, and never ends the loop", async () => {
    const { clock, kernel, open, syncAll, log, shown } = setUp();
    kernel.onCall = (call) => {
      if (call === "listRoutes") throw new Error("worker is gone");
    };
    const felix = open();
    felix.start();
    syncAll();
    await clock.advance(1000);
    expect(felix.health.readiness().checks["firstApply"]?.detail).toContain("worker is gone");
    expect(felix.health.liveness().ok).toBe(true);
    expect(log.said("warn").length).toBeGreaterThan(1);
    expect(log.said("warn").length).toBeLessThan(10);
    kernel.onCall = undefined;
    await clock.advance(20_000);
    expect(shown()).toEqual([REMOTE, OWN].toSorted());
    expect(felix.health.readiness().ok).toBe(true);
    await felix.stop();
  });

  test("a kernel that refuses everything after a while makes it not ready, though not at once", async () => {
    const { clock, kernel, felix } = await setUpRunning();
    await clock.advance(1000);
    kernel.onCall = (call) => {
      if (call === "listRoutes") throw new Error("ENOBUFS");
    };
    kernel.remove(parseCIDR("10.0.0.0/26"));
    await clock.advance(20_000);
    expect(felix.health.readiness().ok).toBe(true);
    await clock.advance(20_000);
    expect(felix.health.readiness().checks["apply"]).toEqual({
      ok: false,
      detail: expect.stringMatching(/^failing for \d\d\.\d s: ENOBUFS$/) as string,
    });
    expect(felix.health.liveness().ok).toBe(true);
    kernel.onCall = undefined;
    await clock.advance(15_000);
    expect(felix.health.readiness()).toMatchObject({ ok: true, checks: { apply: { detail: "each try succeeds" } } });
    await felix.stop();
  });

  test("forwarding of IPv6 is switched on with the first IPv6 pool, and again at each resync", async () => {
    const { clock, sources, forwarding, felix } = await setUpRunning();
    expect(forwarding).toEqual([[4]]);
    sources.pools.set(fakePool("six", "fd00::/64"));
    await clock.advance(100);
    expect(forwarding).toEqual([[4], [4, 6]]);
    await clock.advance(91_000);
    expect(forwarding).toEqual([[4], [4, 6], [4, 6]]);
    await felix.stop();
  });

  test("forwarding that others switch off is on again at once, and among the repairs", async () => {
    const { clock, kernel, forwarding, felix } = await setUpRunning();
    await clock.advance(1000);
    expect(forwarding).toEqual([[4]]);
    kernel.tellOfForwarding();
    await clock.advance(10);
    expect(forwarding).toEqual([[4], [4]]);
    expect(felix.status().repairs).toMatchObject({ total: 1, recent: [{ what: "forwarding" }] });
    await felix.stop();
  });

  test("a setting of a pod's link that others change is back, and a repair, at once or with the next refresh", async () => {
    const podLinks = new FakePodLinks();
    const { clock, kernel, felix, log } = await setUpRunning({ podLinks });
    kernel.addLink("cali1", undefined, 11);
    podLinks.addLink("cali1");
    felix.endpointUp(fakeEndpoint("1", 11, "10.0.0.5"));
    await clock.advance(5000);
    expect([podLinks.looks, podLinks.written]).toEqual([1, []]);
    podLinks.set("ipv4/conf/cali1/proxy_arp", 0);
    kernel.tellOfLinkSetting();
    await clock.advance(10);
    expect(podLinks.read("ipv4/conf/cali1/proxy_arp")).toBe(1);
    podLinks.set("ipv4/conf/cali1/forwarding", 0);
    await clock.advance(91_000);
    expect(podLinks.read("ipv4/conf/cali1/forwarding")).toBe(1);
    const what = ["proxy_arp", "forwarding"].map((name) => ({ what: `setting net.ipv4.conf.cali1.${name} = 1` }));
    expect(felix.status().repairs).toMatchObject({ total: 2, recent: what });
    expect(log.said("warn")[0]).toBe("1 of the settings of pods' links changed by another program; restored");
    expect(podLinks.looks).toBe(3);
    await clock.advance(1000);
    podLinks.set("ipv4/conf/cali1/proxy_arp", 0);
    kernel.overrun();
    await clock.advance(10);
    expect(podLinks.read("ipv4/conf/cali1/proxy_arp")).toBe(1);
    await felix.stop();
  });

  test("settings of a link that the wiring is still at are left alone", async () => {
    const podLinks = new FakePodLinks();
    podLinks.addLink("cali1");
    podLinks.set("ipv4/conf/cali1/proxy_arp", 0);
    const { clock, kernel, felix } = await setUpRunning({ podLinks });
    felix.endpointUp(fakeEndpoint("1", 0, "10.0.0.5"));
    kernel.tellOfLinkSetting();
    await clock.advance(100);
    expect(podLinks.looks).toBe(2);
    expect(podLinks.read("ipv4/conf/cali1/proxy_arp")).toBe(0);
    await felix.stop();
  });

  test("what was changed while no agent ran is written, and no repair", async () => {
    const podLinks = new FakePodLinks();
    podLinks.addLink("cali1");
    podLinks.set("ipv4/conf/cali1/proxy_arp", 0);
    const world = setUp({ podLinks });
    world.kernel.addLink("cali1", undefined, 11);
    const felix = world.open();
    felix.endpointUp(fakeEndpoint("1", 11, "10.0.0.5"));
    felix.start();
    expect(podLinks.looks).toBe(0);
    world.syncAll();
    await world.clock.advance(10);
    expect(podLinks.read("ipv4/conf/cali1/proxy_arp")).toBe(1);
    expect(felix.status().repairs.total).toBe(0);
    await felix.stop();
  });

  test("a setting that cannot be written is a finding until it can, and does not stop the others", async () => {
    const podLinks = new FakePodLinks();
    podLinks.addLink("cali1");
    podLinks.refuse = ({ path }) => (path.includes("proxy_arp") ? new Error("EROFS") : undefined);
    const { clock, kernel, felix } = await setUpRunning({ podLinks });
    kernel.addLink("cali1", undefined, 11);
    felix.endpointUp(fakeEndpoint("1", 11, "10.0.0.5"));
    await clock.advance(1000);
    for (const name of ["proxy_arp", "forwarding"]) podLinks.set(`ipv4/conf/cali1/${name}`, 0);
    kernel.tellOfLinkSetting();
    await clock.advance(10);
    expect(podLinks.read("ipv4/conf/cali1/forwarding")).toBe(1);
    const codes = (): unknown[] => felix.findings().map(({ code, subject }) => [code, subject]);
    expect(codes()).toEqual([["SettingRefused", "net.ipv4.conf.cali1.proxy_arp = 1"]]);
    podLinks.refuse = undefined;
    await clock.advance(91_000);
    expect(codes()).toEqual([]);
    await felix.stop();
  });

  test("forwarding that cannot be switched on is a finding, and routes are written all the same", async () => {
    const { clock, felix, log, shown } = await setUpRunning({
      enableForwarding: () => {
        throw new Error("EROFS");
      },
    });
    await clock.advance(2000);
    expect(shown()).toEqual([REMOTE, OWN].toSorted());
    expect(log.said("warn")[0]).toContain("Cannot switch on forwarding of IPv4: EROFS");
    await felix.stop();
  });

  test("the node object gets its addresses in the background, with retries", async () => {
    const written: Node[] = [];
    let fails = 2;
    const { clock, felix } = await setUpRunning({
      nodeStatus: new NodeWriter({
        get: async () => fakeNode("node-a", ["192.0.2.1"]),
        setTaints: async () => {},
        updateStatus: async (node) => {
          if (fails-- > 0) throw new Error("conflict");
          written.push(node);
        },
      }),
    });
    await clock.advance(10_000);
    expect(written).toMatchObject([
      {
        metadata: {
          annotations: {
            "projectcalico.org/IPv4Address": "192.0.2.1/24",
            "projectcalico.org/IPv6Address": "2001:db8::1/64",
          },
        },
      },
    ]);
    await felix.stop();
  });

  test("liveness fails when a turn hangs", async () => {
    const { clock, kernel, open, syncAll } = setUp();
    const felix = open();
    const hang = Promise.withResolvers<never>();
    kernel.listRoutes = () => hang.promise;
    felix.start();
    syncAll();
    await clock.advance(50_000);
    expect(felix.health.liveness().ok).toBe(true);
    await clock.advance(20_000);
    expect(felix.health.liveness()).toMatchObject({ ok: false });
    hang.reject(new Error("over"));
    await felix.stop();
  });

  test("the loop says one line a minute", async () => {
    const { clock, kernel, felix, log } = await setUpRunning();
    for (let i = 0; i < 12; i++) {
      kernel.overrun();
      await clock.advance(10_000);
    }
    const lines = log.said("info").filter((line) => line.startsWith("route updates:"));
    expect(lines.length).toBeGreaterThanOrEqual(1);
    expect(lines.length).toBeLessThanOrEqual(2);
    await felix.stop();
  });

  test("start() does not wait for borrowed addresses, and keeps an earlier process's routes to nodes until they are known", async () => {
    const borrowed = new FakeSource<BorrowedBlock>();
    const world = setUp();
    const { clock, kernel, sources, syncAll, shown } = world;
    const remote = (ip: string): KernelRoute => ({
      ...podRoute(ip, NIC),
      gateway: parseIP("192.0.2.2"),
      onlink: true,
      scope: "universe",
    });
    kernel.put(remote("10.0.0.5"));
    kernel.put(remote("10.0.0.6"));
    const felix = world.open({ sources: { ...sources, borrowed } });
    felix.start();
    syncAll();
    await clock.advance(1000);
    const kept = ["10.0.0.5/32 via 192.0.2.2 dev eth0 proto 80", "10.0.0.6/32 via 192.0.2.2 dev eth0 proto 80"];
    expect(shown()).toEqual([OWN, REMOTE, ...kept].toSorted());
    expect(felix.health.readiness().ok).toBe(true);

    kernel.writes.length = 0;
    borrowed.set(fakeBorrowed("10-0-0-0-26", { "10.0.0.5": "node-b" }));
    borrowed.sync();
    await clock.advance(1000);
    expect(shown()).toEqual([OWN, REMOTE, "10.0.0.5/32 via 192.0.2.2 dev eth0 proto 80"].toSorted());
    expect(kernel.writes).toEqual([]);

    borrowed.delete("10-0-0-0-26");
    await clock.advance(1000);
    expect(shown()).toEqual([OWN, REMOTE].toSorted());
    await felix.stop();
  });

  test("borrowed addresses that stay unknown do not keep old routes for ever", async () => {
    const borrowed = new FakeSource<BorrowedBlock>();
    const world = setUp();
    const { clock, kernel, sources, syncAll, shown } = world;
    kernel.put({ ...podRoute("10.0.0.5", NIC), gateway: parseIP("192.0.2.2"), onlink: true, scope: "universe" });
    const felix = world.open({ sources: { ...sources, borrowed } });
    felix.start();
    syncAll();
    await clock.advance(180_000);
    expect(shown()).toEqual([OWN, REMOTE].toSorted());
    await felix.stop();
  });
});
