// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test, vi } from "vitest";
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { IPPool } from "../crds/ip-pool.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { formatCIDR } from "../net/cidr.ts";
import { formatIP, parseIP } from "../net/ip.ts";
import { parseMAC } from "../net/mac.ts";
import { derivedMAC } from "./calc/vtep.ts";
import { FakeLog, FakeSource, fakeAffinity, fakeEndpoint, fakeNode, fakePool, noMetrics } from "./fake-resources.ts";
import { FakeRouteDataplane } from "./fake-route-dataplane.ts";
import { FakeTunnelDataplane } from "./fake-tunnel-dataplane.ts";
import { createFelix, type Felix } from "./felix.ts";
import { formatKernelRoute } from "./kernel-route.ts";
import { formatEntry } from "./managers/vxlan-manager.ts";
import type { FelixGauges, TurnReport } from "./ports.ts";

const NIC = 2;
const TUNNEL = "projectcalico.org/IPv4VXLANTunnelAddr";
const nodeOf = (name: string, ip: string, tunnelIP?: string): Node =>
  fakeNode(name, [ip], tunnelIP === undefined ? {} : { [TUNNEL]: tunnelIP });

function setUp() {
  const clock = new FakeClock();
  const kernel = new FakeRouteDataplane();
  const tunnels = new FakeTunnelDataplane(kernel);
  kernel.addLink("lo", undefined, 1);
  kernel.addLink("eth0", { ip: parseIP("192.0.2.1"), prefixLength: 24 }, NIC);
  const sources = {
    nodes: new FakeSource<Node>(
      nodeOf("node-a", "192.0.2.1", "10.0.0.1"),
      nodeOf("node-b", "192.0.2.2", "10.0.0.65"),
      nodeOf("node-c", "198.51.100.3", "10.0.0.129"),
    ),
    affinities: new FakeSource<BlockAffinity>(
      fakeAffinity("node-a", "10.0.0.0/26"),
      fakeAffinity("node-b", "10.0.0.64/26"),
      fakeAffinity("node-c", "10.0.0.128/26"),
    ),
    pools: new FakeSource<IPPool>(fakePool("four", "10.0.0.0/16", { vxlanMode: "Always" })),
  };
  for (const source of Object.values(sources)) source.sync();
  const log = new FakeLog();
  const gauges: FelixGauges[] = [];
  const turns: TurnReport[] = [];
  const start = (configured?: Promise<void>, nodeName = "node-a"): Felix => {
    const felix = createFelix({
      nodeName,
      dataplane: kernel,
      tunnels,
      sources,
      clock,
      random: () => 0,
      log,
      metrics: { ...noMetrics, gauges: (now) => gauges.push(now), turn: (turn) => turns.push(turn) },
      enableForwarding: () => {},
      ...(configured && { configured }),
    });
    felix.start();
    return felix;
  };
  const routes = (): string[] =>
    kernel.routes
      .map((route) => formatKernelRoute(route, (ifIndex) => kernel.linkOf(ifIndex)?.name))
      .filter((text) => text.includes(" via ") || text.includes("vxlan"))
      .toSorted();
  const entries = (): string[] => tunnels.entries.map(formatEntry).toSorted();
  const device = (): string => {
    const link = kernel.linkNamed("vxlan.calico");
    if (link === undefined) return "none";
    const addrs = kernel.addrsOf(link.ifIndex).map(({ ip, prefixLength }) => `${formatIP(ip)}/${prefixLength}`);
    return [link.up ? "up" : "down", link.mtuBytes, link.mac, ...addrs].join(" ");
  };
  const changes = (): number =>
    tunnels.changes.length +
    tunnels.written.length +
    tunnels.deleted.length +
    kernel.writes.length +
    kernel.deletes.length;
  const ifIndex = (): number => kernel.linkNamed("vxlan.calico")?.ifIndex ?? 0;
  return { clock, kernel, tunnels, sources, log, gauges, turns, start, routes, entries, device, changes, ifIndex };
}

async function setUpRunning() {
  const world = setUp();
  const felix = world.start();
  await world.clock.advance(10);
  return { ...world, felix };
}

const MAC_A = derivedMAC("node-a", 4);
const MAC_B = derivedMAC("node-b", 4);
const MAC_C = derivedMAC("node-c", 4);
const DEVICE = `up 1450 ${MAC_A} 10.0.0.1/32`;
const ENTRIES = [
  `fdb ${MAC_B} dst 192.0.2.2`,
  `fdb ${MAC_C} dst 198.51.100.3`,
  `neighbour 10.0.0.129 lladdr ${MAC_C}`,
  `neighbour 10.0.0.65 lladdr ${MAC_B}`,
].toSorted();
const ROUTES = [
  "10.0.0.128/26 via 10.0.0.129 dev vxlan.calico proto 80",
  "10.0.0.64/26 via 10.0.0.65 dev vxlan.calico proto 80",
];

describe("Felix with VXLAN", () => {
  test("makes the device with its address, the entries of all ends, and the routes, in one turn", async () => {
    const { felix, device, entries, routes, gauges } = await setUpRunning();
    expect(device()).toBe(DEVICE);
    expect(entries()).toEqual(ENTRIES);
    expect(routes()).toEqual(ROUTES);
    expect(felix.findings()).toEqual([]);
    expect(gauges.at(-1)).toMatchObject({ tunnelEntries: 4, podMTUBytes: 1450, pendingRoutes: 0 });
    await felix.stop();
  });

  test("nothing is written before the settings are known", async () => {
    const { clock, start, changes, device } = setUp();
    const { promise, resolve } = Promise.withResolvers<void>();
    const felix = start(promise);
    await clock.advance(1000);
    expect(changes()).toBe(0);
    expect(felix.health.readiness().checks["datastore"]?.detail).toBe("waiting for settings");
    resolve();
    await clock.advance(100);
    expect(device()).toContain("up ");
    await felix.stop();
  });

  test("a restart on a kernel that agrees changes nothing, and stop() leaves all there", async () => {
    const { clock, felix, start, changes, device } = await setUpRunning();
    await felix.stop();
    expect(device()).toBe(DEVICE);
    const before = changes();
    const again = start();
    await clock.advance(200_000);
    expect(changes()).toBe(before);
    await again.stop();
  });

  test("what others delete or change comes back at once, and is counted", async () => {
    const { clock, tunnels, kernel, felix, device, entries, routes, ifIndex, log, turns } = await setUpRunning();
    await clock.advance(2000);
    const [first] = tunnels.entries;
    if (first === undefined) throw new Error("no entries");
    tunnels.remove(first);
    tunnels.put({ kind: "fdb", ifIndex: ifIndex(), mac: parseMAC("66:00:00:00:00:99"), remote: parseIP("192.0.2.9") });
    await clock.advance(10);
    expect(entries()).toEqual(ENTRIES);
    kernel.deleteAddr(ifIndex(), parseIP("10.0.0.1"));
    await clock.advance(1000);
    expect(device()).toBe(DEVICE);
    kernel.deleteLink(ifIndex());
    await clock.advance(1000);
    expect([device(), entries(), routes()]).toEqual([DEVICE, ENTRIES, ROUTES]);
    expect(turns.flatMap(({ tunnels: report }) => report?.restored ?? [])).toEqual([
      formatEntry(first),
      "device vxlan.calico",
      "device vxlan.calico",
    ]);
    expect(log.said("warn").join()).toContain("removed or changed by another program; restored");
    await felix.stop();
  });

  test("a device of other immutable properties is made anew; a link that is no VXLAN device is left alone", async () => {
    const { clock, kernel, start, device, entries, routes } = setUp();
    const vxlan = { vni: 4097, port: 4789, localIP: parseIP("192.0.2.1"), parentIfIndex: NIC, learning: false };
    kernel.putLink({ ifIndex: 20, name: "vxlan.calico", up: true, mtuBytes: 1450, mac: MAC_A, vxlan });
    const felix = start();
    await clock.advance(10);
    expect([device(), entries(), routes()]).toEqual([DEVICE, ENTRIES, ROUTES]);
    expect(kernel.linkOf(20)).toBeUndefined();
    await felix.stop();

    const other = setUp();
    other.kernel.putLink({ ifIndex: 20, name: "vxlan.calico", up: true, mtuBytes: 1500 });
    const stuck = other.start();
    await other.clock.advance(5000);
    expect(other.tunnels.changes).toEqual([]);
    expect(stuck.findings()).toMatchObject([{ code: "TunnelRefused", subject: "vxlan.calico" }]);
    await stuck.stop();
  });

  test("takes another network identifier, port and MTU while it runs", async () => {
    const { clock, kernel, start, routes, entries, device, changes } = setUp();
    const felix = start();
    await clock.advance(100);
    const [before, ways] = [entries(), routes()];
    const mtu = { mtuIfacePattern: /^eth/, vxlanMTU: 1300 };
    const settings = { vxlan: { vni: 5000, port: 4790 }, mtu, encapsulation: {} };
    felix.configure({ ...settings, routeRefreshMs: 10_000 });
    await clock.advance(100);
    expect(kernel.linkNamed("vxlan.calico")?.vxlan).toMatchObject({ vni: 5000, port: 4790 });
    expect(device()).toContain("up 1300 ");
    expect(felix.podMTUBytes).toBe(1300);
    expect([entries(), routes()]).toEqual([before, ways]);
    const done = changes();
    felix.configure({ ...settings, routeRefreshMs: 10_000 });
    await clock.advance(30_000);
    expect(changes()).toBe(done);
    await felix.stop();
  });

  test("Always becomes CrossSubnet, then Never, and back, while running", async () => {
    const { clock, sources, kernel, felix, device, entries, routes } = await setUpRunning();
    sources.pools.set(fakePool("four", "10.0.0.0/16", { vxlanMode: "CrossSubnet" }));
    await clock.advance(10);
    expect(routes()).toEqual([ROUTES[0], "10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80"]);
    expect(entries()).toEqual(ENTRIES);
    sources.pools.set(fakePool("four", "10.0.0.0/16"));
    await clock.advance(10);
    expect(device()).toBe("none");
    expect(routes()).toEqual([
      "10.0.0.128/26 via 198.51.100.3 dev eth0 proto 80",
      "10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80",
    ]);
    expect(felix.podMTUBytes).toBe(1500);
    kernel.deletes.length = 0;
    sources.pools.set(fakePool("four", "10.0.0.0/16", { vxlanMode: "Always" }));
    await clock.advance(1000);
    expect([device(), entries(), routes()]).toEqual([DEVICE, ENTRIES, ROUTES]);
    // Each is one replace of its key.
    expect(kernel.deletes).toEqual([]);
    await felix.stop();
  });

  test("follows nodes: another address, another tunnel address, gone; one that is refused stops no other", async () => {
    const { clock, sources, tunnels, felix, entries, routes } = await setUpRunning();
    tunnels.refuse = (what) =>
      what.kind === "neigh" && formatIP(what.ip) === "10.0.0.66" ? new Error("RTM_NEWNEIGH failed") : undefined;
    sources.nodes.set(nodeOf("node-b", "192.0.2.22", "10.0.0.66"));
    sources.nodes.set(nodeOf("node-c", "198.51.100.33", "10.0.0.129"));
    await clock.advance(10);
    const moved = [
      `fdb ${MAC_B} dst 192.0.2.22`,
      `fdb ${MAC_C} dst 198.51.100.33`,
      `neighbour 10.0.0.129 lladdr ${MAC_C}`,
    ];
    expect(entries()).toEqual(moved.toSorted());
    expect(felix.findings()).toMatchObject([{ code: "TunnelRefused", subject: "neigh 10.0.0.66" }]);
    tunnels.refuse = undefined;
    await clock.advance(1000);
    expect(entries()).toEqual([...moved, `neighbour 10.0.0.66 lladdr ${MAC_B}`].toSorted());
    expect(routes()).toContain("10.0.0.64/26 via 10.0.0.66 dev vxlan.calico proto 80");
    sources.nodes.delete("node-b");
    await clock.advance(10);
    expect(entries()).toEqual([`fdb ${MAC_C} dst 198.51.100.33`, `neighbour 10.0.0.129 lladdr ${MAC_C}`]);
    await felix.stop();
  });

  test("follows a machine that comes back under another name, with the same address", async () => {
    const { clock, sources, felix, entries, routes } = await setUpRunning();
    sources.nodes.set(nodeOf("node-x", "192.0.2.2", "10.0.0.193"));
    sources.affinities.set(fakeAffinity("node-x", "10.0.0.192/26"));
    await clock.advance(10);
    sources.nodes.delete("node-b");
    await clock.advance(10);
    // Its old blocks are nobody's until the controller has freed them.
    expect(felix.findings().map(({ code, subject }) => `${code} ${subject}`)).toEqual(["UnknownNode node-b"]);
    sources.affinities.delete("node-b-10-0-0-64-26");
    await clock.advance(10);
    const macX = derivedMAC("node-x", 4);
    expect(entries()).toEqual(
      [
        `fdb ${macX} dst 192.0.2.2`,
        `fdb ${MAC_C} dst 198.51.100.3`,
        `neighbour 10.0.0.129 lladdr ${MAC_C}`,
        `neighbour 10.0.0.193 lladdr ${macX}`,
      ].toSorted(),
    );
    expect(routes()).toEqual([ROUTES[0], "10.0.0.192/26 via 10.0.0.193 dev vxlan.calico proto 80"]);
    expect(felix.findings()).toEqual([]);
    await felix.stop();
  });

  test("an agent that starts under another name makes the device that name's, and drops what was the old one's", async () => {
    const { clock, kernel, sources, felix, start, device, entries, routes } = await setUpRunning();
    await felix.stop();
    sources.nodes.delete("node-a");
    sources.nodes.set(nodeOf("node-z", "192.0.2.1", "10.0.0.193"));
    sources.affinities.delete("node-a-10-0-0-0-26");
    sources.affinities.set(fakeAffinity("node-z", "10.0.0.192/26"));
    const again = start(undefined, "node-z");
    await clock.advance(100);
    expect(device()).toBe(`up 1450 ${derivedMAC("node-z", 4)} 10.0.0.193/32`);
    expect([entries(), routes()]).toEqual([ENTRIES, ROUTES]);
    const blackholes = kernel.routes.filter(({ type }) => type === "blackhole").map(({ dst }) => formatCIDR(dst));
    expect(blackholes).toEqual(["10.0.0.192/26"]);
    expect(again.findings()).toEqual([]);
    await again.stop();
  });

  test("a thousand nodes that appear at once are a few writes of many, and vanish in the same way", async () => {
    const { clock, tunnels, kernel, sources, felix, entries, routes } = await setUpRunning();
    const calls = [
      vi.spyOn(tunnels, "replaceEntries"),
      vi.spyOn(tunnels, "deleteEntries"),
      vi.spyOn(kernel, "replaceRoutes"),
      vi.spyOn(kernel, "deleteRoutes"),
    ];
    const names = Array.from({ length: 1000 }, (_, i) => `n-${i}`);
    for (const [i, name] of names.entries()) {
      const [third, last] = [1 + (i >> 2), (i & 3) * 64];
      sources.nodes.set(nodeOf(name, `198.51.${100 + (i >> 8)}.${i & 255}`, `10.0.${third}.${last + 1}`));
      sources.affinities.set(fakeAffinity(name, `10.0.${third}.${last}/26`));
    }
    await clock.advance(1000);
    expect([entries().length, routes().length]).toEqual([ENTRIES.length + 2000, ROUTES.length + 1000]);
    expect(felix.findings()).toEqual([]);
    for (const name of names) sources.nodes.delete(name);
    await clock.advance(1000);
    expect([entries(), routes()]).toEqual([ENTRIES, ROUTES]);
    for (const call of calls) expect(call.mock.calls.length).toBeLessThanOrEqual(3);
    await felix.stop();
  });

  test("without a tunnel address of this node the device waits, and one that is there stays", async () => {
    const { clock, sources, felix, device, entries, routes } = await setUpRunning();
    sources.nodes.set(nodeOf("node-a", "192.0.2.1"));
    await clock.advance(1000);
    expect([device(), entries(), routes()]).toEqual([DEVICE, ENTRIES, ROUTES]);
    expect(felix.findings()).toMatchObject([{ code: "TunnelWaits", subject: "vxlan.calico" }]);
    await felix.stop();

    const fresh = setUp();
    fresh.sources.nodes.set(nodeOf("node-a", "192.0.2.1"));
    const waiting = fresh.start();
    await fresh.clock.advance(1000);
    expect([fresh.device(), fresh.routes()]).toEqual(["none", []]);
    fresh.sources.nodes.set(nodeOf("node-a", "192.0.2.1", "10.0.0.1"));
    await fresh.clock.advance(1000);
    expect([fresh.device(), fresh.entries(), fresh.routes()]).toEqual([DEVICE, ENTRIES, ROUTES]);
    await waiting.stop();
  });

  test("the MTU follows the host's link; pods with a larger one are named; a link that is away changes nothing", async () => {
    const { clock, kernel, tunnels, felix, device, log } = await setUpRunning();
    kernel.putLink({ ifIndex: 30, name: "cali1", up: true, mtuBytes: 1450 });
    felix.endpointUp(fakeEndpoint("1", 30, "10.0.0.5"));
    kernel.putLink({ ifIndex: NIC, name: "eth0", up: true, mtuBytes: 1400 });
    await clock.advance(2000);
    expect(device()).toBe(DEVICE.replace("1450", "1350"));
    // With the MAC the kernel would drop the neighbours, and with them packets.
    expect(tunnels.changes.at(-1)).not.toHaveProperty("mac");
    expect(felix.status().repairs.total).toBe(0);
    expect(felix.podMTUBytes).toBe(1350);
    expect(felix.findings()).toMatchObject([{ code: "PodMTUTooLarge", subject: "1350" }]);
    expect(log.said("warn").join()).toContain("MTU is now 1400 between nodes, 1350 for new pods");
    kernel.setUp(NIC, false);
    await clock.advance(2000);
    expect(felix.podMTUBytes).toBe(1350);
    await felix.stop();
  });
});
