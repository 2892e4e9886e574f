// SPDX-License-Identifier: Apache-2.0
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { BlockAffinity } from "../../src/crds/block-affinity.ts";
import type { Node } from "../../src/crds/core.ts";
import type { IPPool, IPPoolSpec } from "../../src/crds/ip-pool.ts";
import {
  FakeLog,
  FakeSource,
  fakeAffinity,
  fakeEndpoint,
  fakeNode,
  fakePool,
  noMetrics,
} from "../../src/felix/fake-resources.ts";
import { createFelix, type Felix } from "../../src/felix/felix.ts";
import { elementsOf } from "../../src/felix/nft/elements.ts";
import { COUNTERS, layoutOf } from "../../src/felix/nft/layout.ts";
import { renderTable } from "../../src/felix/nft/render.ts";
import { IPIP } from "../../src/felix/nft/settings.ts";
import { systemClock } from "../../src/lib/system-clock.ts";
import { parseIP } from "../../src/net/ip.ts";
import { openRouteNamespace, type RouteNamespace } from "../netns/route-namespace.ts";

/**
 * Three nodes with their agents' Felix, two of them in one subnet and one behind a router, on a kernel that has IP-in-IP.
 * The node that is Calico's, `node-c`, is made by hand to the letter of calico-interop 4.2 and 4.4.
 */

interface Side {
  readonly name: string;
  readonly node: string;
  readonly router: string;
  readonly block: string;
  readonly ipip: string;
  readonly vxlan: string;
  readonly pod: string;
}

function side(name: string, node: string, router: string, third: number): Side {
  const at = (last: number): string => `10.0.${third}.${last}`;
  return { name, node, router, block: `${at(0)}/26`, ipip: at(1), vxlan: at(2), pod: at(5) };
}

const A = side("node-a", "192.0.2.1", "192.0.2.254", 1);
const B = side("node-b", "192.0.2.2", "192.0.2.254", 2);
const C = side("node-c", "192.0.2.3", "192.0.2.254", 3);
const D = side("node-d", "198.51.100.4", "198.51.100.254", 4);
const SIDES = [A, B, C, D];
const SETTLE = { timeout: 60_000, interval: 200 };

const nodes = new FakeSource<Node>(
  ...SIDES.map(({ name, node, ipip, vxlan }) =>
    fakeNode(name, [node], {
      "projectcalico.org/IPv4IPIPTunnelAddr": ipip,
      "projectcalico.org/IPv4VXLANTunnelAddr": vxlan,
    }),
  ),
);
const affinities = new FakeSource<BlockAffinity>(...SIDES.map(({ name, block }) => fakeAffinity(name, block)));
const pools = new FakeSource<IPPool>();

function setMode(spec: Pick<IPPoolSpec, "ipipMode" | "vxlanMode">): void {
  pools.set(fakePool("pool", "10.0.0.0/16", spec));
}

class Machine {
  readonly namespace: RouteNamespace = openRouteNamespace();
  readonly side: Side;
  readonly pod: string;

  constructor(of: Side) {
    this.side = of;
    this.pod = `${this.namespace.name}-pod`;
  }

  ip(words: string): string {
    return this.namespace.ip(...words.split(" "));
  }

  sh(script: string): string {
    return execFileSync("ip", ["netns", "exec", this.namespace.name, "sh", "-euc", script], { encoding: "utf8" });
  }

  /** A leg on the router, and one pod behind cali1, as the plugin leaves it. Resolves to the index of cali1. */
  setUp(router: RouteNamespace, bridge: string): number {
    const { node, router: gateway, name, pod } = this.side;
    this.ip(`link add eth0 type veth peer name ${name} netns ${router.name}`);
    router.ip("link", "set", name, "master", bridge, "up");
    this.ip(`addr add ${node}/24 dev eth0`);
    this.ip("link set eth0 up");
    this.ip(`route add default via ${gateway}`);
    this.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
    execFileSync("ip", ["netns", "add", this.pod]);
    this.ip(`link add cali1 mtu 1450 type veth peer name eth0 mtu 1450 netns ${this.pod}`);
    this.ip("link set cali1 address ee:ee:ee:ee:ee:ee up");
    const inPod = (words: string): unknown => execFileSync("ip", ["-n", this.pod, ...words.split(" ")]);
    inPod("link set eth0 up");
    inPod(`addr add ${pod}/32 dev eth0`);
    inPod("neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent");
    inPod("route add default via 169.254.1.1 dev eth0 onlink");
    return Number(this.ip("-o link show dev cali1").split(":")[0]);
  }

  /** What Calico's agent programs of IP-in-IP. */
  actAsCalico(): void {
    const { ipip, pod, block } = this.side;
    this.ip("link set tunl0 mtu 1480 up");
    this.ip(`addr add ${ipip}/32 dev tunl0`);
    for (const other of SIDES) {
      if (other !== this.side) this.ip(`route add ${other.block} via ${other.node} dev tunl0 onlink proto 80`);
    }
    this.ip(`route add blackhole ${block} proto 80`);
    this.ip(`route add ${pod} dev cali1 scope link proto 3`);
  }

  start(podIfIndex: number): Felix {
    const { dataplane, tunnels } = this.namespace;
    const felix = createFelix({
      ...{ nodeName: this.side.name, dataplane, tunnels, sources: { nodes, affinities, pools }, log: new FakeLog() },
      ...{ clock: systemClock, random: Math.random, metrics: noMetrics, enableForwarding: () => {} },
    });
    felix.endpointUp(fakeEndpoint("1", podIfIndex, this.side.pod));
    felix.start();
    return felix;
  }

  async close(): Promise<void> {
    execFileSync("ip", ["netns", "delete", this.pod]);
    await this.namespace.close();
  }
}

async function pings(netns: string, ip: string, bytes = 56): Promise<boolean> {
  const argv = ["netns", "exec", netns, "ping", "-c", "1", "-W", "5", "-M", "do", "-s", String(bytes), "-q", ip];
  return await promisify(execFile)("ip", argv).then(
    () => true,
    () => false,
  );
}

/** What a machine's eth0 carries while one of its pods pings: the first packet that has to do with it. */
async function capture(from: Machine, to: Side): Promise<string> {
  const filter = `host ${to.node} and (ip proto 4 or udp port 4789) or host ${to.pod}`;
  const argv = ["netns", "exec", from.namespace.name, "tcpdump", "-l", "-n", "-i", "eth0", "-c", "1", filter];
  const tcpdump = spawn("ip", argv, { stdio: ["ignore", "pipe", "pipe"] });
  const lines = createInterface({ input: tcpdump.stdout });
  const first = once(lines, "line");
  await once(createInterface({ input: tcpdump.stderr }), "line");
  while (tcpdump.exitCode === null) {
    const silence = new Promise((resolve) => setTimeout(resolve, 500));
    await Promise.all([pings(from.pod, to.pod), Promise.race([first, silence])]);
  }
  const [line] = (await first) as [string];
  return line.replace(/^\S+ /, "");
}

describe("IP-in-IP", () => {
  const router = openRouteNamespace();
  const [a, b, c, d] = [A, B, C, D].map((of) => new Machine(of)) as [Machine, Machine, Machine, Machine];
  const machines = [a, b, c, d];
  const felixes: Felix[] = [];

  beforeAll(async () => {
    for (const source of [nodes, affinities, pools]) source.sync();
    execFileSync("ip", ["netns", "exec", router.name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    for (const [bridge, address] of [
      ["near", A.router],
      ["far", D.router],
    ] as const) {
      router.ip("link", "add", bridge, "type", "bridge");
      router.ip("addr", "add", `${address}/24`, "dev", bridge);
      router.ip("link", "set", bridge, "up");
    }
    setMode({ ipipMode: "Always", vxlanMode: "Never" });
    for (const machine of machines) {
      const ifIndex = machine.setUp(router, machine === d ? "far" : "near");
      if (machine === c) machine.actAsCalico();
      else felixes.push(machine.start(ifIndex));
    }
    await vi.waitFor(() => expect(felixes.every(({ health }) => health.readiness().ok)).toBe(true), SETTLE);
  });
  afterAll(async () => {
    for (const felix of felixes) await felix.stop();
    for (const machine of machines) await machine.close();
    await router.close();
  });

  async function expectReach(among: readonly Machine[]): Promise<void> {
    for (const from of among) {
      for (const { side: to } of among) {
        if (to === from.side) continue;
        const what = `${from.side.name} to ${to.name}`;
        expect(await pings(from.pod, to.pod), `pod of ${what}'s`).toBe(true);
        expect(await pings(from.namespace.name, to.pod), `${what}'s pod`).toBe(true);
        expect(await pings(from.pod, to.node), `pod of ${what}`).toBe(true);
      }
    }
  }

  const hasRoute = (machine: Machine, to: Side, words: string) => () =>
    machine.ip(`route show ${to.block}`).includes(words);

  test("Always: pods, nodes and a node of Calico's reach each other; the wire carries IPv4 in IPv4", async () => {
    expect(felixes.flatMap((felix) => felix.findings())).toEqual([]);
    expect(a.ip("-o addr show tunl0")).toContain(`${A.ipip}/32`);
    expect(a.ip("-o link show tunl0")).toMatch(/\bUP\b.* mtu 1480 /);
    expect(a.ip(`route show ${D.block}`)).toContain(`via ${D.node} dev tunl0 proto 80 onlink`);
    await expectReach(machines);
    for (const to of [B, C, D])
      expect(await capture(a, to)).toContain(`IP ${A.node} > ${to.node}: IP ${A.pod} > ${to.pod}: ICMP echo request`);
    expect(await pings(a.pod, D.pod, 1450 - 28)).toBe(true);
  });

  test("only nodes may send it: another machine's packets are dropped, and counted", async () => {
    const layout = layoutOf({ natOutgoing: false, natOutgoingExclusions: "IPPoolsOnly", randomFully: false }, [IPIP]);
    const known = [A, B, C, D].map(({ node }) => parseIP(node));
    const elements = elementsOf({ natPools: [], allPools: [], nodes: known, allowedSources: [] });
    const netns = ["netns", "exec", a.namespace.name];
    const load = (): unknown =>
      execFileSync("ip", [...netns, "nft", "-f", "-"], { input: renderTable(layout, elements) });
    // Whoever is in the middle could write anything as the source of the packet inside.
    router.ip("link", "add", "liar", "type", "ipip", "local", A.router, "remote", A.node);
    router.ip("addr", "add", `${B.pod}/32`, "dev", "liar");
    router.ip("link", "set", "liar", "up");
    router.ip("route", "add", `${A.pod}/32`, "dev", "liar", "src", B.pod);
    const heard = (): number => {
      const [link] = JSON.parse(a.ip("-s -j link show cali1")) as [{ stats64: { tx: { packets: number } } }];
      return link.stats64.tx.packets;
    };
    const counted = (): string => a.sh(`nft list counter inet gingham ${COUNTERS.tunnelFromStranger}`);
    const quiet = heard();
    await pings(router.name, A.pod);
    expect(heard()).toBeGreaterThan(quiet);
    load();
    const before = heard();
    await pings(router.name, A.pod);
    expect(counted()).toMatch(/packets [1-9]/);
    expect(heard()).toBe(before);
    expect(await pings(b.pod, A.pod)).toBe(true);
    a.sh("nft delete table inet gingham");
    router.ip("link", "delete", "liar");
  });

  test("what others change on tunl0 comes back", async () => {
    a.ip(`addr del ${A.ipip}/32 dev tunl0`);
    await expect.poll(() => a.ip("-o addr show tunl0"), SETTLE).toContain(A.ipip);
    a.ip("link set tunl0 down");
    await expect.poll(hasRoute(a, D, "dev tunl0"), SETTLE).toBe(true);
    expect(await pings(a.pod, D.pod)).toBe(true);
  });

  test("CrossSubnet: plain inside the subnet, IPv4 in IPv4 beyond it", async () => {
    setMode({ ipipMode: "CrossSubnet", vxlanMode: "Never" });
    for (const [from, to] of [
      [a, B],
      [b, A],
    ] as const)
      await expect.poll(hasRoute(from, to, "dev eth0"), SETTLE).toBe(true);
    await expectReach([a, b, d]);
    expect(await capture(a, B)).toContain(`IP ${A.pod} > ${B.pod}: ICMP echo request`);
    expect(await capture(a, D)).toContain(`IP ${A.node} > ${D.node}: IP ${A.pod} > ${D.pod}: ICMP echo request`);
  });

  test("to VXLAN while a node has no address for it: that one is reached as before, and goes over when it has one", async () => {
    const whole = [...nodes.list()].find(({ metadata }) => metadata.name === D.name);
    if (whole === undefined) throw new Error("no node-d");
    nodes.set(fakeNode(D.name, [D.node], { "projectcalico.org/IPv4IPIPTunnelAddr": D.ipip }));
    setMode({ ipipMode: "Never", vxlanMode: "Always" });
    await expect.poll(hasRoute(a, B, "dev vxlan.calico"), SETTLE).toBe(true);
    expect(a.ip(`route show ${D.block}`)).toContain(`via ${D.node} dev tunl0`);
    await expectReach([a, d]);
    nodes.set(whole);
    for (const [from, to] of [
      [a, D],
      [d, A],
    ] as const)
      await expect.poll(hasRoute(from, to, "dev vxlan.calico"), SETTLE).toBe(true);
    await expect.poll(() => a.ip("-o link show tunl0"), SETTLE).not.toMatch(/[<,]UP\b/);
    await expectReach([a, d]);
    setMode({ ipipMode: "Always", vxlanMode: "Never" });
    for (const [from, to] of [
      [a, D],
      [d, A],
    ] as const)
      await expect.poll(hasRoute(from, to, "dev tunl0"), SETTLE).toBe(true);
    await expectReach([a, d]);
  });

  test("under traffic to VXLAN and back: it goes on, on the other wire", async () => {
    const argv = ["netns", "exec", a.pod, "ping", "-i", "0.1", "-c", "100", "-W", "2", "-q", D.pod];
    const running = promisify(execFile)("ip", argv);
    setMode({ ipipMode: "Never", vxlanMode: "Always" });
    for (const machine of [a, b, d]) {
      const other = machine === d ? A : D;
      await expect.poll(hasRoute(machine, other, "dev vxlan.calico"), SETTLE).toBe(true);
    }
    expect(await capture(a, D)).toContain("VXLAN, flags [I] (0x08), vni 4096");
    for (const machine of [a, b, d])
      await expect.poll(() => machine.ip("-o addr show tunl0"), SETTLE).not.toContain(machine.side.ipip);
    setMode({ ipipMode: "Always", vxlanMode: "Never" });
    await expect.poll(hasRoute(a, D, "dev tunl0"), SETTLE).toBe(true);
    await expect.poll(hasRoute(d, A, "dev tunl0"), SETTLE).toBe(true);
    const { stdout } = await running;
    const lost = Number(/(\d+)% packet loss/.exec(stdout)?.[1]);
    console.info(`lost of 100 packets, one in 100 ms, over both changes: ${lost}`);
    expect(lost).toBeLessThan(20);
    await expectReach(machines);
  });

  test("Never: address and routes go, the device is down", async () => {
    setMode({ ipipMode: "Never", vxlanMode: "Never" });
    for (const machine of [a, b, d])
      await expect.poll(() => machine.ip("-o link show tunl0"), SETTLE).not.toMatch(/[<,]UP\b/);
    expect(a.ip("-o addr show tunl0")).not.toContain(A.ipip);
    expect(a.ip(`route show ${B.block}`)).toContain(`via ${B.node} dev eth0 proto 80 onlink`);
    expect(await pings(a.pod, B.pod)).toBe(true);
  });
});
