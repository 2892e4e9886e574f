// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { BlockAffinity } from "../../src/crds/block-affinity.ts";
import type { Node } from "../../src/crds/core.ts";
import type { IPPool } from "../../src/crds/ip-pool.ts";
import { derivedMAC } from "../../src/felix/calc/vtep.ts";
import { FakeLog, FakeSource, fakeAffinity, fakeNode, fakePool, noMetrics } from "../../src/felix/fake-resources.ts";
import { createFelix, type Felix } from "../../src/felix/felix.ts";
import { systemClock } from "../../src/lib/system-clock.ts";
import { actAtRandom, faultMs } from "./random-acts.ts";
import { openRouteNamespace, type RouteNamespace } from "./route-namespace.ts";

/** What others do to VXLAN on a real kernel, at random: at the end all is as it should be, and theirs is untouched. */

const PEERS = 8;
const FAULT_MS = faultMs(2);
const peer = (i: number): { ip: string; tunnel: string; mac: string; block: string } => ({
  ip: `192.0.2.${10 + i}`,
  tunnel: `10.0.${i + 1}.1`,
  mac: derivedMAC(`node-${i}`, 4),
  block: `10.0.${i + 1}.0/26`,
});

let namespace: RouteNamespace;
let felix: Felix;

beforeEach(async () => {
  namespace = openRouteNamespace();
  await namespace.addLink("eth0", ["192.0.2.1/24"]);
  namespace.ip("route", "add", "default", "via", "192.0.2.254");
  const peers = Array.from({ length: PEERS }, (_, i) => i);
  const tunnel = (ip: string): Record<string, string> => ({ "projectcalico.org/IPv4VXLANTunnelAddr": ip });
  const sources = {
    nodes: new FakeSource<Node>(
      fakeNode("node-a", ["192.0.2.1"], tunnel("10.0.0.1")),
      ...peers.map((i) => fakeNode(`node-${i}`, [peer(i).ip], tunnel(peer(i).tunnel))),
    ),
    affinities: new FakeSource<BlockAffinity>(
      fakeAffinity("node-a", "10.0.0.0/26"),
      ...peers.map((i) => fakeAffinity(`node-${i}`, peer(i).block)),
    ),
    pools: new FakeSource<IPPool>(fakePool("four", "10.0.0.0/16", { vxlanMode: "Always" })),
  };
  for (const source of Object.values(sources)) source.sync();
  const { dataplane, tunnels } = namespace;
  felix = createFelix({
    ...{ nodeName: "node-a", dataplane, tunnels, sources, log: new FakeLog() },
    ...{ clock: systemClock, random: Math.random, metrics: noMetrics, enableForwarding: () => {} },
  });
  felix.start();
  await expect.poll(() => felix.health.readiness().ok, { timeout: 5000 }).toBe(true);
});
afterEach(async () => {
  await felix.stop();
  await namespace.close();
});

function bridge(words: string): string {
  return execFileSync("ip", ["netns", "exec", namespace.name, "bridge", ...words.split(" ")], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
}

/** Everything of VXLAN, as iproute2 tells it. */
function read(): string {
  try {
    const routes = namespace.ip("route", "show", "proto", "80");
    const neighs = namespace.ip("neigh", "show", "dev", "vxlan.calico", "nud", "permanent");
    const fdb = bridge("fdb show dev vxlan.calico");
    const device = JSON.parse(namespace.ip("-d", "-j", "addr", "show", "vxlan.calico")) as Record<string, unknown>[];
    const [{ ifindex: _ifindex, addr_info, ...rest } = {}] = device;
    const addrs = JSON.stringify(addr_info).match(/"local":"[^"]*","prefixlen":\d+/g) ?? [];
    const own = addrs.filter((addr) => !addr.includes("fe80"));
    const lines = [routes, neighs, fdb].flatMap((text) => text.trim().split("\n").toSorted());
    return [...lines, ...own, JSON.stringify(rest)].map((line) => line.trim()).join("\n");
  } catch {
    return "no device";
  }
}

test(
  "what others remove, change or add on the device is put right; what is theirs elsewhere stays",
  async () => {
    namespace.ip("link", "add", "theirs", "type", "vxlan", "id", "7", "dstport", "4799");
    namespace.ip("neigh", "add", "192.0.2.77", "lladdr", "02:00:00:00:00:77", "dev", "theirs", "nud", "permanent");
    bridge("fdb add 02:00:00:00:00:78 dev theirs dst 192.0.2.78 self permanent");
    const desired = read();
    expect(desired.split("\n").filter((line) => line.includes("via 10.0."))).toHaveLength(PEERS);
    const acts: readonly ((i: number) => unknown)[] = [
      (i) => namespace.ip("neigh", "del", peer(i).tunnel, "dev", "vxlan.calico"),
      (i) => bridge(`fdb del ${peer(i).mac} dev vxlan.calico dst ${peer(i).ip} self`),
      (i) =>
        namespace.ip(
          "neigh",
          "replace",
          peer(i).tunnel,
          "lladdr",
          "02:00:00:00:00:99",
          "dev",
          "vxlan.calico",
          "nud",
          "permanent",
        ),
      (i) => bridge(`fdb replace ${peer(i).mac} dev vxlan.calico dst 192.0.2.99 self permanent`),
      (i) => bridge(`fdb append ${peer(i).mac} dev vxlan.calico dst 192.0.2.98 self permanent`),
      (i) => bridge(`fdb add 02:00:00:00:01:0${i} dev vxlan.calico dst 192.0.2.97 self permanent`),
      (i) =>
        namespace.ip(
          "neigh",
          "add",
          `10.9.0.${i}`,
          "lladdr",
          "02:00:00:00:00:96",
          "dev",
          "vxlan.calico",
          "nud",
          "permanent",
        ),
      (i) => namespace.ip("route", "del", peer(i).block),
      (i) => namespace.ip("addr", "add", `10.8.0.${i + 1}/24`, "dev", "vxlan.calico"),
      () => namespace.ip("addr", "flush", "dev", "vxlan.calico"),
      () => namespace.ip("link", "set", "vxlan.calico", "mtu", "1300"),
      () => namespace.ip("link", "set", "vxlan.calico", "down"),
      () => namespace.ip("link", "set", "vxlan.calico", "address", "02:00:00:00:00:95"),
      () => namespace.ip("link", "del", "vxlan.calico"),
      () => {
        namespace.ip("link", "set", "eth0", "down");
        namespace.ip("link", "set", "eth0", "up");
        namespace.ip("route", "replace", "default", "via", "192.0.2.254");
      },
    ];
    const done = await actAtRandom(
      acts.map((act) => (pick) => act(pick(PEERS))),
      { forMs: FAULT_MS },
    );
    expect(done).toBeGreaterThan(acts.length);
    await expect.poll(read, { timeout: 15_000, interval: 200 }).toBe(desired);
    expect(felix.findings()).toEqual([]);
    expect(namespace.ip("-o", "link", "show", "theirs")).toContain("theirs");
    expect(namespace.ip("neigh", "show", "dev", "theirs", "nud", "permanent")).toContain("192.0.2.77");
    expect(bridge("fdb show dev theirs")).toContain("02:00:00:00:00:78 dst 192.0.2.78");
  },
  FAULT_MS + 60_000,
);
