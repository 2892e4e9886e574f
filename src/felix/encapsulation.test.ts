// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { IPPool, IPPoolSpec } from "../crds/ip-pool.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { formatIP, parseIP } from "../net/ip.ts";
import { projectNode } from "./calc/projections.ts";
import { NodeWriter } from "./drivers/node-writer.ts";
import { FakeLog, FakeSource, fakeAffinity, fakeNode, fakePool, noMetrics } from "./fake-resources.ts";
import { FakeRouteDataplane } from "./fake-route-dataplane.ts";
import { FakeTunnelDataplane } from "./fake-tunnel-dataplane.ts";
import { createFelix, type Felix } from "./felix.ts";
import { formatKernelRoute } from "./kernel-route.ts";
import { formatEntry } from "./managers/vxlan-manager.ts";

/** Pools of all modes at once, and pools whose mode changes: what the kernel has in the end, and in what order it got there. */

const IPIP = "projectcalico.org/IPv4IPIPTunnelAddr";
const VXLAN = "projectcalico.org/IPv4VXLANTunnelAddr";
const NIC = 2;
const NODE_A = fakeNode("node-a", ["192.0.2.1"], { [IPIP]: "10.0.0.2", [VXLAN]: "10.0.0.1" });

/** Modes of the three pools. */
type Modes = readonly [string, string, string];

function poolSpec(mode: string): Partial<IPPoolSpec> {
  const [encapsulation, when = "Always"] = mode.split(" ") as [string, ("Always" | "CrossSubnet")?];
  if (encapsulation === "none") return { ipipMode: "Never", vxlanMode: "Never" };
  return encapsulation === "ipip" ? { ipipMode: when, vxlanMode: "Never" } : { ipipMode: "Never", vxlanMode: when };
}

function poolOf(index: number, mode: string): IPPool {
  return fakePool(`pool-${index}`, `10.${index}.0.0/16`, poolSpec(mode));
}

/** node-a, with node-b in its subnet and node-d beyond it; each has a block of each pool. */
function setUp(modes: Modes) {
  const clock = new FakeClock();
  const kernel = new FakeRouteDataplane();
  const tunnels = new FakeTunnelDataplane(kernel);
  kernel.addLink("lo", undefined, 1);
  kernel.addLink("eth0", { ip: parseIP("192.0.2.1"), prefixLength: 24 }, NIC);
  const blocks = [0, 1, 2].flatMap((pool) => [
    fakeAffinity("node-b", `10.${pool}.0.64/26`),
    fakeAffinity("node-d", `10.${pool}.0.128/26`),
  ]);
  const sources = {
    nodes: new FakeSource<Node>(
      NODE_A,
      fakeNode("node-b", ["192.0.2.2"], { [VXLAN]: "10.0.0.65" }),
      fakeNode("node-d", ["198.51.100.4"], { [VXLAN]: "10.0.0.129" }),
    ),
    affinities: new FakeSource<BlockAffinity>(fakeAffinity("node-a", "10.0.0.0/26"), ...blocks),
    pools: new FakeSource<IPPool>(...modes.map((mode, i) => poolOf(i, mode))),
  };
  for (const source of Object.values(sources)) source.sync();
  const log = new FakeLog();
  const start = (nodeStatus?: NodeWriter): Felix => {
    const felix = createFelix({
      nodeName: "node-a",
      dataplane: kernel,
      tunnels,
      sources,
      clock,
      random: () => 0,
      log,
      metrics: noMetrics,
      enableForwarding: () => {},
      ...(nodeStatus && { nodeStatus }),
    });
    felix.start();
    return felix;
  };
  const nameOf = (ifIndex: number): string | undefined => kernel.linkOf(ifIndex)?.name;
  const device = (name: string): string => {
    const link = kernel.linkNamed(name);
    if (link === undefined) return "none";
    const addrs = kernel.addrsOf(link.ifIndex).map(({ ip, prefixLength }) => `${formatIP(ip)}/${prefixLength}`);
    return [link.up ? "up" : "down", ...(link.up ? [link.mtuBytes] : []), ...addrs].join(" ");
  };
  const routes = (): string[] => kernel.routes.map((route) => formatKernelRoute(route, nameOf)).toSorted();
  /** All of it, without indexes. A tunl0 that nobody uses is as good as none: it comes with the module. */
  const everything = (): object => ({
    routes: routes(),
    tunl0: device("tunl0").replace(/^down$/, "none"),
    vxlan: device("vxlan.calico"),
    entries: tunnels.entries.map((entry) => `${formatEntry(entry)} dev ${nameOf(entry.ifIndex)}`).toSorted(),
  });
  return { clock, kernel, tunnels, sources, log, start, device, routes, everything };
}

const MODES: readonly Modes[] = [
  ["none", "none", "none"],
  ["none", "vxlan", "ipip"],
  ["ipip", "none", "vxlan"],
  ["vxlan CrossSubnet", "ipip CrossSubnet", "none"],
  ["ipip", "ipip", "ipip CrossSubnet"],
  ["vxlan", "vxlan CrossSubnet", "vxlan"],
];

/** How the change of three pools may arrive: which pools, in turn, with a turn of Felix at each `|`. */
const ARRIVALS: Readonly<Record<string, readonly (number | "|")[]>> = {
  "in order, squashed": [0, 1, 2],
  "reversed, split": [2, "|", 1, "|", 0],
  "split and duplicated": [0, 0, "|", 1, "|", 1, 2, "|", 2],
};

describe("pools of all modes", () => {
  test("none, VXLAN and IP-in-IP stand beside each other, CrossSubnet plain inside the subnet", async () => {
    const { clock, start, everything } = setUp(["vxlan CrossSubnet", "ipip CrossSubnet", "none"]);
    const felix = start();
    await clock.advance(100);
    expect(everything()).toMatchObject({
      routes: [
        "10.0.0.128/26 via 10.0.0.129 dev vxlan.calico proto 80",
        "10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80",
        "10.1.0.128/26 via 198.51.100.4 dev tunl0 proto 80",
        "10.1.0.64/26 via 192.0.2.2 dev eth0 proto 80",
        "10.2.0.128/26 via 198.51.100.4 dev eth0 proto 80",
        "10.2.0.64/26 via 192.0.2.2 dev eth0 proto 80",
        "169.254.1.1/32 dev lo proto 80",
        "blackhole 10.0.0.0/26 proto 80",
      ],
      tunl0: "up 1480 10.0.0.2/32",
      vxlan: "up 1450 10.0.0.1/32",
    });
    expect(felix.podMTUBytes).toBe(1450);
    expect(felix.findings()).toEqual([]);
    await felix.stop();
  });

  for (const [arrival, order] of Object.entries(ARRIVALS)) {
    test(`whatever the modes were before, the kernel is the same in the end: ${arrival}`, async () => {
      for (const to of MODES) {
        const fresh = setUp(to);
        const one = fresh.start();
        await fresh.clock.advance(100);
        for (const from of MODES) {
          const { clock, sources, start, everything } = setUp(from);
          const felix = start();
          await clock.advance(100);
          for (const step of order) {
            if (step === "|") await clock.advance(20);
            else sources.pools.set(poolOf(step, to[step] ?? "none"));
          }
          await clock.advance(100);
          expect(everything(), `${from.join(", ")} to ${to.join(", ")}`).toEqual(fresh.everything());
          expect(felix.findings()).toEqual([]);
          expect(felix.podMTUBytes).toBe(one.podMTUBytes);
          await felix.stop();
        }
        await one.stop();
      }
    });
  }

  test("a pool that goes from one tunnel to the other is never without its route", async () => {
    const { clock, kernel, tunnels, sources, start } = setUp(["ipip", "none", "none"]);
    const felix = start();
    await clock.advance(100);
    const steps: string[] = [];
    kernel.onCall = (call) => {
      if (call === "replaceRoutes" || call === "deleteRoutes") steps.push(call);
    };
    for (const mode of ["vxlan", "ipip", "none"]) {
      tunnels.changes.length = 0;
      steps.length = 0;
      tunnels.refuse = (what) => {
        steps.push(what.kind);
        return undefined;
      };
      sources.pools.set(poolOf(0, mode));
      await clock.advance(50);
      const replaced = steps.indexOf("replaceRoutes");
      expect(steps).not.toContain("deleteRoutes");
      for (const before of ["create", "createIPIP", "addAddr", "set"])
        expect(steps.lastIndexOf(before), `${before} in ${mode}: ${steps.join()}`).toBeLessThan(replaced);
      for (const after of ["delete", "deleteAddr", "down"]) {
        const at = steps.indexOf(after);
        expect(at === -1 || at > replaced, `${after} in ${mode}: ${steps.join()}`).toBe(true);
      }
      expect(kernel.routes.filter(({ gateway }) => gateway !== undefined)).toHaveLength(6);
    }
    await felix.stop();
  });
});

describe("a pool that goes over to VXLAN while another node has no tunnel address yet", () => {
  const ROUTE_B = "10.0.0.64/26 via 10.0.0.65 dev vxlan.calico proto 80";

  for (const [mode, way] of [
    ["none", "eth0"],
    ["ipip", "tunl0"],
  ] as const) {
    test(`from ${mode}: its blocks are reached as before until it has one, also by an agent that starts`, async () => {
      const { clock, sources, start, device, routes } = setUp([mode, "none", "none"]);
      const [, withTunnel] = sources.nodes.list() as Iterable<Node> as [Node, Node];
      sources.nodes.set(fakeNode("node-b", ["192.0.2.2"]));
      const first = start();
      await clock.advance(100);
      const before = `10.0.0.64/26 via 192.0.2.2 dev ${way} proto 80`;
      expect(routes()).toContain(before);
      sources.pools.set(poolOf(0, "vxlan"));
      await clock.advance(100_000);
      expect(routes()).toContain(before);
      expect(routes()).toContain("10.0.0.128/26 via 10.0.0.129 dev vxlan.calico proto 80");
      expect(first.findings().map(({ code }) => code)).toEqual(["NodeWithoutTunnel"]);
      expect(first.status().routes.pending).toBe(0);
      await first.stop();
      const second = start();
      await clock.advance(100_000);
      expect(routes()).toContain(before);
      // Without its last address the kernel would drop the routes.
      expect(device("tunl0")).toBe(mode === "ipip" ? "up 1480 10.0.0.2/32" : "none");
      sources.nodes.set(withTunnel);
      await clock.advance(100);
      expect(routes()).toContain(ROUTE_B);
      expect(routes()).not.toContain(before);
      expect(device("tunl0")).toBe(mode === "ipip" ? "down" : "none");
      expect(second.findings()).toEqual([]);
      await second.stop();
    });
  }

  test("a block that it gets then is not routed", async () => {
    const { clock, sources, start, routes } = setUp(["vxlan", "none", "none"]);
    sources.nodes.set(fakeNode("node-b", ["192.0.2.2"]));
    const felix = start();
    await clock.advance(100);
    expect(routes().join()).not.toContain("10.0.0.64/26");
    await felix.stop();
  });
});

describe("IP-in-IP", () => {
  test("the device gets its address before it is up; a second agent changes nothing", async () => {
    const { clock, tunnels, start, device } = setUp(["ipip", "none", "none"]);
    const first = start();
    await clock.advance(100);
    expect(tunnels.changes.map(({ kind }) => kind)).toEqual(["createIPIP", "addAddr", "set"]);
    expect(device("tunl0")).toBe("up 1480 10.0.0.2/32");
    await first.stop();
    const second = start();
    await clock.advance(100_000);
    expect(tunnels.changes).toHaveLength(3);
    await second.stop();
  });

  test("without a tunnel address routes go through it all the same; another address takes the old one's place", async () => {
    const { clock, sources, start, device, routes } = setUp(["ipip", "none", "none"]);
    sources.nodes.set(fakeNode("node-a", ["192.0.2.1"]));
    const felix = start();
    await clock.advance(100);
    expect(device("tunl0")).toBe("up 1480");
    expect(routes()).toContain("10.0.0.64/26 via 192.0.2.2 dev tunl0 proto 80");
    for (const ip of ["10.0.0.2", "10.0.0.3"]) {
      sources.nodes.set(fakeNode("node-a", ["192.0.2.1"], { [IPIP]: ip }));
      await clock.advance(100);
      expect(device("tunl0")).toBe(`up 1480 ${ip}/32`);
    }
    sources.nodes.set(fakeNode("node-a", ["192.0.2.1"]));
    await clock.advance(100);
    expect(device("tunl0")).toBe("up 1480 10.0.0.3/32");
    await felix.stop();
  });

  test("what others change on it comes back, and is told", async () => {
    const { clock, kernel, log, start, device } = setUp(["ipip", "none", "none"]);
    const felix = start();
    await clock.advance(100);
    const ifIndex = kernel.linkNamed("tunl0")?.ifIndex ?? 0;
    kernel.deleteAddr(ifIndex, parseIP("10.0.0.2"));
    await clock.advance(100);
    expect(device("tunl0")).toBe("up 1480 10.0.0.2/32");
    kernel.setUp(ifIndex, false);
    await clock.advance(10_000);
    expect(device("tunl0")).toBe("up 1480 10.0.0.2/32");
    expect(felix.status().repairs.total).toBeGreaterThanOrEqual(2);
    expect(log.said("warn").some((line) => line.includes("restored"))).toBe(true);
    await felix.stop();
  });

  test("an address of somebody else's stays, also when ours goes, and so does the device", async () => {
    const { clock, kernel, sources, start, device } = setUp(["ipip", "none", "none"]);
    const ifIndex = kernel.nextIfIndex;
    kernel.putLink({ ifIndex, name: "tunl0", up: true, mtuBytes: 1400, ipip: {} });
    kernel.addAddr(ifIndex, parseIP("203.0.113.80"), 32);
    const felix = start();
    await clock.advance(100);
    expect(device("tunl0")).toBe("up 1480 203.0.113.80/32 10.0.0.2/32");
    sources.pools.set(poolOf(0, "none"));
    await clock.advance(100);
    expect(device("tunl0")).toBe("up 1480 203.0.113.80/32");
    await felix.stop();
  });

  test("a pool that is deleted takes the address along", async () => {
    const { clock, sources, start, device } = setUp(["ipip", "none", "none"]);
    const felix = start();
    await clock.advance(100);
    sources.pools.delete("pool-0");
    await clock.advance(100);
    expect(device("tunl0")).toBe("down");
    await felix.stop();
  });

  test("a point-to-point tunnel of that name is left alone, and named", async () => {
    const { clock, kernel, tunnels, start } = setUp(["ipip", "none", "none"]);
    const remoteIP = parseIP("203.0.113.1");
    kernel.putLink({ ifIndex: 9, name: "tunl0", up: false, mtuBytes: 1400, ipip: { remoteIP } });
    const felix = start();
    await clock.advance(100);
    expect(tunnels.changes).toEqual([]);
    expect(felix.findings().map(({ code, subject }) => `${code} ${subject}`)).toContain("TunnelRefused tunl0");
    await felix.stop();
  });

  test("a kernel without it is named; plain routes go on, and the others come once the module is loaded", async () => {
    const { clock, tunnels, sources, start, routes, log } = setUp(["ipip CrossSubnet", "none", "none"]);
    tunnels.hasIPIP = false;
    let stored = NODE_A;
    const writer = new NodeWriter({
      get: async () => stored,
      updateStatus: async (node) => {
        stored = node;
        sources.nodes.set(projectNode(node));
      },
      setTaints: async () => {},
    });
    const conditions = (): unknown => (stored.status as { readonly conditions?: unknown }).conditions;
    const felix = start(writer);
    await clock.advance(5000);
    expect(felix.findings().find(({ code }) => code === "EncapsulationUnsupported")?.message).toContain(
      "modprobe ipip",
    );
    expect(log.said("warn").join()).toContain("modprobe ipip");
    expect(routes()).toContain("10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80");
    expect(routes().join()).not.toContain("10.0.0.128/26");
    expect(conditions()).toMatchObject([
      { type: "EncapsulationUnsupported", status: "True", message: expect.stringContaining("modprobe ipip") as string },
    ]);
    tunnels.hasIPIP = true;
    await clock.advance(31_000);
    expect(routes()).toContain("10.0.0.128/26 via 198.51.100.4 dev tunl0 proto 80");
    expect(felix.findings()).toEqual([]);
    expect(conditions()).toEqual([]);
    await felix.stop();
  });

  test("ipipEnabled and ipipMTU decide, whatever the pools say, and while it runs", async () => {
    const { clock, start, device, routes } = setUp(["ipip", "none", "none"]);
    const felix = start();
    await clock.advance(100);
    const settings = { vxlan: { vni: 4096, port: 4789 }, routeRefreshMs: 90_000 };
    const mtu = { mtuIfacePattern: /^eth/, ipipMTU: 1300 };
    felix.configure({ ...settings, mtu, encapsulation: {} });
    await clock.advance(100);
    expect([device("tunl0"), felix.podMTUBytes]).toEqual(["up 1300 10.0.0.2/32", 1300]);
    felix.configure({ ...settings, mtu, encapsulation: { ipip: false } });
    await clock.advance(100);
    expect([device("tunl0"), felix.podMTUBytes]).toEqual(["down", 1500]);
    expect(routes().join()).not.toContain("10.0.0.64/26");
    expect(felix.findings().map(({ code }) => code)).toEqual(["EncapsulationDisabled"]);
    await felix.stop();
  });
});
