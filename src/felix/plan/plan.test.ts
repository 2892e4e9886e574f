// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { Node } from "../../crds/core.ts";
import type { IPPool } from "../../crds/ip-pool.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { NodeWriter } from "../drivers/node-writer.ts";
import { FakePodLinks } from "../fake-pod-links.ts";
import { FakeLog, FakeSource, fakeAffinity, fakeEndpoint, fakeNode, fakePool, noMetrics } from "../fake-resources.ts";
import { FakeRouteDataplane } from "../fake-route-dataplane.ts";
import { FakeTunnelDataplane } from "../fake-tunnel-dataplane.ts";
import { createFelix, type Felix } from "../felix.ts";
import { formatKernelRoute } from "../kernel-route.ts";
import { FakeNft } from "../nft/fake-nft.ts";
import { PacketFilter } from "../packet-filter.ts";
import type { KernelRoute } from "../ports.ts";
import { planOnly, renderPlan, settle } from "./plan.ts";
import type { DriverPorts } from "./ports.ts";

const TUNNEL = "projectcalico.org/IPv4VXLANTunnelAddr";
const DEFAULT_ROUTE: KernelRoute = {
  dst: parseCIDR("0.0.0.0/0"),
  type: "unicast",
  metric: 0,
  protocol: 3,
  ifIndex: 2,
  gateway: parseIP("192.0.2.254"),
  onlink: false,
  scope: "universe",
};

/** A node with a pod, a stale route, and everything still to be made. */
function setUp() {
  const clock = new FakeClock();
  const routes = new FakeRouteDataplane();
  const tunnels = new FakeTunnelDataplane(routes);
  const nft = new FakeNft();
  const podLinks = new FakePodLinks();
  podLinks.addLink("cali1");
  podLinks.set("ipv4/conf/cali1/proxy_arp", 0);
  routes.addLink("lo", undefined, 1);
  routes.addLink("eth0", { ip: parseIP("192.0.2.1"), prefixLength: 24 }, 2);
  routes.addLink("cali1", undefined, 11);
  routes.put(DEFAULT_ROUTE);
  routes.put({ ...DEFAULT_ROUTE, dst: parseCIDR("10.8.0.0/26"), protocol: 80 });
  routes.put({
    dst: parseCIDR("10.0.0.9/32"),
    type: "unicast",
    metric: 0,
    protocol: 80,
    ifIndex: 11,
    onlink: false,
    scope: "link",
  });
  const world = { node: fakeNode("node-a", ["192.0.2.1"], { [TUNNEL]: "10.1.0.1" }), forwarding: [] as number[] };
  const sources = {
    nodes: new FakeSource<Node>(world.node, fakeNode("node-b", ["198.51.100.2"], { [TUNNEL]: "10.1.0.65" })),
    affinities: new FakeSource<BlockAffinity>(
      fakeAffinity("node-a", "10.0.0.0/26"),
      fakeAffinity("node-b", "10.0.0.64/26"),
      fakeAffinity("node-b", "10.1.0.64/26"),
    ),
    pools: new FakeSource<IPPool>(
      fakePool("plain", "10.0.0.0/16"),
      fakePool("vxlan", "10.1.0.0/16", { vxlanMode: "Always" }),
    ),
  };
  for (const source of Object.values(sources)) source.sync();
  const real: DriverPorts = {
    routes,
    tunnels,
    podLinks,
    filter: nft,
    node: {
      get: async () => world.node,
      setTaints: async () => {},
      updateStatus: async (next) => {
        world.node = next;
      },
    },
    enableForwarding: (families) => {
      world.forwarding = [...families];
    },
  };
  const start = (ports: DriverPorts): Felix => {
    const shared = { clock, random: () => 0, log: new FakeLog() };
    const felix = createFelix({
      ...shared,
      nodeName: "node-a",
      dataplane: ports.routes,
      tunnels: ports.tunnels,
      podLinks: ports.podLinks,
      sources,
      metrics: noMetrics,
      enableForwarding: ports.enableForwarding,
      nodeStatus: new NodeWriter(ports.node),
      packetFilter: new PacketFilter({
        ...shared,
        port: ports.filter,
        settings: { natOutgoing: true, natOutgoingExclusions: "IPPoolsOnly", randomFully: false },
        metrics: { filterTurn: () => {}, filterRepaired: () => {}, filterDropped: () => {} },
      }),
    });
    felix.endpointUp(fakeEndpoint("1", 11, "10.0.0.5"));
    felix.start();
    return felix;
  };
  const shown = async (ports: DriverPorts): Promise<readonly string[]> => {
    const links = await ports.routes.listLinks();
    const nameOf = (ifIndex: number): string | undefined => links.find((link) => link.ifIndex === ifIndex)?.name;
    return [
      ...links.map(({ name, mtuBytes, mac }) => `${name} ${mtuBytes} ${mac ?? ""}`),
      ...(await ports.routes.listRoutes(4)).map((route) => formatKernelRoute(route, nameOf)),
    ].toSorted();
  };
  return { clock, routes, tunnels, nft, podLinks, world, real, start, shown };
}

async function plan(world: ReturnType<typeof setUp>) {
  const { clock, real, start } = world;
  const planned = planOnly(real, () => false);
  const felix = start(planned.ports);
  const settled = settle(felix.health, clock);
  for (let i = 0; i < 20; i++) await clock.advance(1000);
  expect(await settled).toBeUndefined();
  await felix.stop();
  return planned;
}

describe("planOnly()", () => {
  test("says all changes, each once, in the order in which they would be made, and makes none", async () => {
    const world = setUp();
    const before = await world.shown(world.real);
    const { changes, ports } = await plan(world);
    const lines = changes.filter(({ area }) => area !== "nft").map(({ area, text }) => `${area}: ${text}`);
    expect(lines).toMatchInlineSnapshot(`
      [
        "link: ip link add vxlan.calico address 66:07:02:c1:cc:60 mtu 1450 up type vxlan id 4096 dstport 4789 local 192.0.2.1 dev eth0 nolearning",
        "address: ip addr add 10.1.0.1/32 dev vxlan.calico",
        "sysctl: net.ipv4.ip_forward = 1",
        "sysctl: net.ipv4.conf.cali1.proxy_arp = 1",
        "neighbour: replace neighbour 10.1.0.65 lladdr 66:89:3a:22:7a:ac dev vxlan.calico",
        "neighbour: replace fdb 66:89:3a:22:7a:ac dst 198.51.100.2 dev vxlan.calico",
        "route: ip route replace 10.0.0.5/32 dev cali1 proto 80",
        "route: ip route replace blackhole 10.0.0.0/26 proto 80",
        "route: ip route replace 10.0.0.64/26 via 198.51.100.2 dev eth0 proto 80 onlink",
        "route: ip route replace 10.1.0.64/26 via 10.1.0.65 dev vxlan.calico proto 80 onlink",
        "route: ip route delete 10.8.0.0/26 via 192.0.2.254 dev eth0 proto 80",
        "node: annotation projectcalico.org/IPv4Address: none → 192.0.2.1/24",
        "node: annotation gingham.dev/link-mtu: none → 1500",
        "route: ip route delete 10.0.0.9/32 dev cali1 proto 80",
      ]
    `);
    const [script, ...more] = changes.filter(({ area }) => area === "nft");
    expect(script?.text).toContain("table inet gingham {");
    // The sets are filled when the pools are known.
    expect(more.length).toBeLessThanOrEqual(1);

    expect(await world.shown(world.real)).toEqual(before);
    const { routes, tunnels, nft, podLinks, world: state } = world;
    expect(podLinks.written).toEqual([]);
    // But shown as if it were, so that nothing looks like another's change.
    expect(await ports.podLinks.listChanged([{ hostIface: "cali1", ips: [] }])).toEqual([]);
    expect([routes.writes, routes.deletes, tunnels.changes, tunnels.written, tunnels.deleted, nft.scripts]).toEqual([
      [],
      [],
      [],
      [],
      [],
      [],
    ]);
    expect(state.forwarding).toEqual([]);
    expect(state.node.metadata.annotations).toEqual({ [TUNNEL]: "10.1.0.1" });
  });

  test("what it shows as planned is what an agent then makes", async () => {
    const world = setUp();
    const { ports } = await plan(world);
    const expected = await world.shown(ports);
    const felix = world.start(world.real);
    for (let i = 0; i < 20; i++) await world.clock.advance(1000);
    expect(await world.shown(world.real)).toEqual(expected);
    await felix.stop();
    // And then there is nothing left to do.
    const again = planOnly(world.real, () => true);
    const observer = world.start(again.ports);
    for (let i = 0; i < 20; i++) await world.clock.advance(1000);
    expect(again.changes).toEqual([]);
    await observer.stop();
  });

  test("says which conditions of the Node would come, change and go", async () => {
    const { real, world } = setUp();
    const says = (...conditions: readonly object[]): Node => ({
      ...world.node,
      status: { addresses: [], ...{ conditions } },
    });
    world.node = says({ type: "Ready", status: "True" }, { type: "A", status: "True" }, { type: "B", status: "True" });
    const { ports, changes } = planOnly(real, () => true);
    await ports.node.updateStatus(says({ type: "Ready", status: "True" }, { type: "A", status: "False" }));
    expect(changes.map(({ text }) => text)).toEqual(["condition A: False", "condition B removed"]);
  });

  test("a script that the kernel would refuse is no plan", async () => {
    const world = setUp();
    world.nft.refuse = (call) => (call === "check" ? new Error("no nat here") : undefined);
    const planned = planOnly(world.real, () => true);
    await expect(planned.ports.filter.apply("add table inet gingham\n")).rejects.toThrow("no nat here");
    expect(planned.changes).toEqual([]);
  });
});

test("settle() tells what is missing after a minute", async () => {
  const clock = new FakeClock();
  const checks = { datastore: { ok: false, detail: "waiting for pools" }, nodeAddress: { ok: false, detail: "x" } };
  const health = { liveness: () => ({ ok: true, checks }), readiness: () => ({ ok: false, checks }) };
  const settled = settle(health, clock);
  for (let i = 0; i < 700; i++) await clock.advance(100);
  expect(await settled).toBe("datastore: waiting for pools");
});

test("renderPlan() indents scripts, and tells findings", () => {
  expect(renderPlan([], [])).toBe("This agent would change nothing.\n");
  const changes = [
    { area: "route", text: "ip route replace x" },
    { area: "nft", text: "a\nb" },
  ] as const;
  expect(renderPlan(changes, [{ message: "Beware" }])).toMatchInlineSnapshot(`
    "This agent would make 2 changes:
      route      ip route replace x
      nft        a
                 b
    It would tell of:
      Beware
    "
  `);
});
