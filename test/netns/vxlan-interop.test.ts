// SPDX-License-Identifier: Apache-2.0
import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { BlockAffinity } from "../../src/crds/block-affinity.ts";
import type { Node } from "../../src/crds/core.ts";
import type { IPPool } from "../../src/crds/ip-pool.ts";
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
import { systemClock } from "../../src/lib/system-clock.ts";
import { openRouteNamespace, type RouteNamespace } from "./route-namespace.ts";

/**
 * A node of ours and a node that is Calico's, on two ends of a wire. Calico's is made by hand with `ip` and `bridge`, to the
 * letter of calico-interop 4.2, 4.4 and 4.6: what its own agent would have put into the kernel.
 */

interface Side {
  readonly name: string;
  readonly node: readonly [string, string];
  readonly tunnel: readonly [string, string];
  readonly blocks: readonly [string, string];
  readonly pod: readonly [string, string];
}

const OURS: Side = {
  name: "node-a",
  node: ["192.0.2.1", "2001:db8::1"],
  tunnel: ["10.0.0.1", "fd00::1"],
  blocks: ["10.0.0.0/26", "fd00::/122"],
  pod: ["10.0.0.5", "fd00::5"],
};
const CALICO: Side = {
  name: "node-b",
  node: ["192.0.2.2", "2001:db8::2"],
  tunnel: ["10.0.0.65", "fd00::41"],
  blocks: ["10.0.0.64/26", "fd00::40/122"],
  pod: ["10.0.0.70", "fd00::46"],
};
const DEVICES = ["vxlan.calico", "vxlan-v6.calico"] as const;
const OVERHEADS = [50, 70] as const;

/** 0x66 and the first five bytes of SHA-1 of the name. Source: calico-interop 4.4. */
function macOf({ name }: Side, family: 0 | 1): string {
  const hex = createHash("sha1")
    .update(family === 0 ? name : `${name}-v6`)
    .digest("hex")
    .slice(0, 10);
  return ["66", ...(hex.match(/../g) ?? [])].join(":");
}

class Host {
  readonly namespace: RouteNamespace = openRouteNamespace();
  readonly side: Side;
  readonly podNetns: string;

  constructor(side: Side) {
    this.side = side;
    this.podNetns = `${this.namespace.name}-pod`;
  }

  ip(words: string): string {
    return this.namespace.ip(...words.split(" "));
  }

  sh(script: string, netns: string = this.namespace.name): string {
    return execFileSync("ip", ["netns", "exec", netns, "sh", "-euc", script], { encoding: "utf8" });
  }

  /** One pod behind cali1, as the plugin leaves it; its host routes are the agent's. */
  addPod(): number {
    const pod = this.podNetns;
    execFileSync("ip", ["netns", "add", pod]);
    this.ip(`link add cali1 mtu 1430 type veth peer name eth0 mtu 1430 netns ${pod}`);
    this.ip("link set cali1 address ee:ee:ee:ee:ee:ee up");
    const inPod = (words: string): unknown => execFileSync("ip", ["-n", pod, ...words.split(" ")]);
    inPod("link set lo up");
    inPod("link set eth0 up");
    const [v4, v6] = this.side.pod;
    inPod(`addr add ${v4}/32 dev eth0`);
    inPod(`addr add ${v6}/128 dev eth0 nodad`);
    inPod("neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent");
    inPod("neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent");
    inPod("route add default via 169.254.1.1 dev eth0 onlink");
    inPod("-6 route add default via fe80::1 dev eth0 onlink");
    return Number(this.ip("-o link show dev cali1").split(":")[0]);
  }

  pings(ip: string, netns: string = this.podNetns): boolean {
    try {
      execFileSync("ip", ["netns", "exec", netns, "ping", "-c", "2", "-i", "0.2", "-W", "1", "-q", ip]);
      return true;
    } catch {
      return false;
    }
  }

  /** What Calico's agent programs of VXLAN here, for one peer. */
  actAsCalico(peer: Side): void {
    for (const family of [0, 1] as const) {
      const [device, mac, mtu] = [DEVICES[family], macOf(this.side, family), 1500 - OVERHEADS[family]];
      const length = family === 0 ? 32 : 128;
      this.ip(
        `link add ${device} address ${mac} mtu ${mtu} type vxlan id 4096 local ${this.side.node[family]} dev eth0 dstport 4789 nolearning`,
      );
      this.ip(`addr add ${this.side.tunnel[family]}/${length} dev ${device}`);
      this.ip(`link set ${device} up`);
      this.ip(`neigh replace ${peer.tunnel[family]} lladdr ${macOf(peer, family)} dev ${device} nud permanent`);
      this.sh(`bridge fdb replace ${macOf(peer, family)} dev ${device} dst ${peer.node[family]} self permanent`);
      this.ip(`route add ${peer.blocks[family]} via ${peer.tunnel[family]} dev ${device} onlink proto 3 mtu ${mtu}`);
      this.ip(`route add blackhole ${this.side.blocks[family]} proto 80`);
      this.ip(`route add ${this.side.pod[family]} dev cali1 proto 3 metric 1024`);
    }
  }

  async close(): Promise<void> {
    await this.namespace.close();
    execFileSync("sh", ["-c", `ip netns delete ${this.podNetns} 2>/dev/null || true`]);
  }
}

function nodeObject({ name, node, tunnel }: Side): Node {
  return fakeNode(name, node, {
    "projectcalico.org/IPv4Address": `${node[0]}/24`,
    "projectcalico.org/IPv6Address": `${node[1]}/64`,
    "projectcalico.org/IPv4VXLANTunnelAddr": tunnel[0],
    "projectcalico.org/IPv6VXLANTunnelAddr": tunnel[1],
  });
}

describe("a node of ours and one of Calico's", () => {
  let ours: Host;
  let calico: Host;
  let felix: Felix | undefined;
  let podIfIndex: number;
  let log: FakeLog;

  beforeEach(() => {
    ours = new Host(OURS);
    calico = new Host(CALICO);
    ours.ip(`link add eth0 type veth peer name eth0 netns ${calico.namespace.name}`);
    for (const host of [ours, calico]) {
      host.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
      host.ip(`addr add ${host.side.node[0]}/24 dev eth0`);
      host.ip(`addr add ${host.side.node[1]}/64 dev eth0 nodad`);
      host.ip("link set eth0 up");
    }
    podIfIndex = ours.addPod();
    calico.addPod();
    calico.actAsCalico(OURS);
    log = new FakeLog();
    felix = undefined;
  });
  afterEach(async () => {
    await felix?.stop();
    await ours.close();
    await calico.close();
  });

  async function startFelix(): Promise<Felix> {
    const sources = {
      nodes: new FakeSource<Node>(nodeObject(OURS), nodeObject(CALICO)),
      affinities: new FakeSource<BlockAffinity>(
        ...[OURS, CALICO].flatMap(({ name, blocks }) => blocks.map((block) => fakeAffinity(name, block))),
      ),
      pools: new FakeSource<IPPool>(
        fakePool("four", "10.0.0.0/16", { vxlanMode: "Always" }),
        fakePool("six", "fd00::/64", { vxlanMode: "Always" }),
      ),
    };
    for (const source of Object.values(sources)) source.sync();
    const { dataplane, tunnels } = ours.namespace;
    const started = createFelix({
      ...{ nodeName: OURS.name, dataplane, tunnels, sources, log },
      ...{ clock: systemClock, random: Math.random, metrics: noMetrics, enableForwarding: () => {} },
    });
    started.endpointUp(fakeEndpoint("1", podIfIndex, ...OURS.pod));
    started.start();
    felix = started;
    await expect.poll(() => started.health.readiness().ok, { timeout: 5000 }).toBe(true);
    return started;
  }

  function expectReach(): void {
    for (const family of [0, 1] as const) {
      expect(ours.pings(CALICO.pod[family]), `our pod to Calico's, ${family}`).toBe(true);
      expect(calico.pings(OURS.pod[family]), `Calico's pod to ours, ${family}`).toBe(true);
      expect(ours.pings(CALICO.pod[family], ours.namespace.name), `our node to Calico's pod, ${family}`).toBe(true);
      expect(calico.pings(OURS.pod[family], calico.namespace.name), `Calico's node to our pod, ${family}`).toBe(true);
      expect(ours.pings(CALICO.tunnel[family], ours.namespace.name), `tunnel to tunnel, ${family}`).toBe(true);
    }
  }

  test("their pods reach each other in both directions and families, through the tunnel", async () => {
    await startFelix();
    expectReach();
    for (const device of DEVICES) {
      const stats = JSON.parse(ours.ip(`-s -j link show ${device}`)) as [{ stats64: { rx: { packets: number } } }];
      expect(stats[0].stats64.rx.packets).toBeGreaterThan(4);
    }
  });

  test("a node that was Calico's keeps its device, and no packet is lost while our agent takes over", async () => {
    ours.actAsCalico(CALICO);
    expectReach();
    const before = DEVICES.map((device) => ours.ip(`-o link show ${device}`).split(":")[0]);
    const argv = ["netns", "exec", ours.podNetns, "ping", "-i", "0.02", "-c", "100", "-q", CALICO.pod[0]];
    const running = promisify(execFile)("ip", argv);
    const started = await startFelix();
    expect((await running).stdout).toContain(" 0% packet loss");
    expect(DEVICES.map((device) => ours.ip(`-o link show ${device}`).split(":")[0])).toEqual(before);
    expectReach();
    expect(started.findings()).toEqual([]);
    expect(ours.ip("route show 10.0.0.64/26")).toContain("via 10.0.0.65 dev vxlan.calico proto 80 onlink");
    expect(log.said("warn").join()).not.toContain("restored");
  });
});
