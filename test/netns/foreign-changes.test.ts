// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, expect, test } from "vitest";
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
import { nftPacketFilter } from "../../src/felix/nft/run-nft.ts";
import { TABLE_NAME } from "../../src/felix/nft/table.ts";
import { PacketFilter } from "../../src/felix/packet-filter.ts";
import { steadyClock } from "../../src/lib/system-clock.ts";
import { openNetns, withNetns } from "../../src/netlink/netns.ts";
import { TableMonitor } from "../../src/netlink/ops/table-monitor.ts";
import { actAtRandom, faultMs } from "./random-acts.ts";
import { openRouteNamespace, type RouteNamespace } from "./route-namespace.ts";

/** What others do to routes, links and the packet filter on a real kernel, at random, for seconds or minutes. */

const FAULT_MS = faultMs(5);
const PEERS = 6;
const FOREIGN_TABLE = `table ip foreign {
	set known { type ipv4_addr; elements = { 192.0.2.77 } }
	chain forward { type filter hook forward priority 5; ip saddr @known counter; }
}
`;

let namespace: RouteNamespace;
let felix: Felix;

const block4 = (i: number): string => `10.0.${i}.0/26`;
const block6 = (i: number): string => `fd00:0:0:${i}::/122`;

beforeEach(async () => {
  namespace = openRouteNamespace();
  await namespace.addLink("eth0", ["192.0.2.1/24", "2001:db8::1/64"]);
  const pod = await namespace.addLink("cali1", []);
  namespace.ip("route", "add", "default", "via", "192.0.2.254");
  const peers = Array.from({ length: PEERS }, (_, i) => i + 1);
  const claims = [0, ...peers].flatMap((i) => [block4(i), block6(i)].map((cidr) => fakeAffinity(`node-${i}`, cidr)));
  const sources = {
    nodes: new FakeSource<Node>(
      fakeNode("node-0", ["192.0.2.1", "2001:db8::1"]),
      ...peers.map((i) => fakeNode(`node-${i}`, [`192.0.2.${10 + i}`, `2001:db8::${10 + i}`])),
    ),
    affinities: new FakeSource<BlockAffinity>(...claims),
    pools: new FakeSource<IPPool>(
      fakePool("four", "10.0.0.0/16", { natOutgoing: true }),
      fakePool("six", "fd00::/48", { natOutgoing: true }),
    ),
  };
  for (const source of Object.values(sources)) source.sync();
  const shared = { clock: steadyClock, random: Math.random, log: new FakeLog() };
  felix = createFelix({
    ...shared,
    nodeName: "node-0",
    dataplane: namespace.dataplane,
    sources,
    metrics: noMetrics,
    enableForwarding: () => {},
    packetFilter: new PacketFilter({
      ...shared,
      port: nftPacketFilter({
        command: ["ip", "netns", "exec", namespace.name, "nft"],
        changes: {
          watch: (onChange) => {
            using netns = openNetns(`/run/netns/${namespace.name}`);
            const monitor = withNetns(netns, () => new TableMonitor({ table: TABLE_NAME, onChange }));
            return () => monitor.close();
          },
        },
      }),
      settings: { natOutgoing: true, natOutgoingExclusions: "IPPoolsAndHostIPs", randomFully: true },
      metrics: { filterTurn: () => {}, filterRepaired: () => {}, filterDropped: () => {} },
    }),
  });
  felix.endpointUp(fakeEndpoint("1", pod, "10.0.0.5", "fd00::5"));
  felix.start();
  await expect.poll(() => felix.health.readiness().ok, { timeout: 10_000 }).toBe(true);
});

afterEach(async () => {
  await felix.stop();
  await namespace.close();
});

function nft(input: string): string {
  return execFileSync("ip", ["netns", "exec", namespace.name, "nft", "-f", "-"], {
    encoding: "utf8",
    input,
    stdio: ["pipe", "pipe", "ignore"],
  });
}

function nftTable(name: string): string {
  try {
    return execFileSync("ip", ["netns", "exec", namespace.name, "nft", "-s", "list", "table", ...name.split(" ")], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  } catch {
    return "no table";
  }
}

/** Routes in the order of iproute2, which is the kernel's: by destination. */
function routes(...words: readonly string[]): readonly string[] {
  return (["-4", "-6"] as const).flatMap((family) =>
    namespace
      .ip(family, "route", "show", ...words)
      .trim()
      .split("\n"),
  );
}

test(
  "what others remove, change and add is put right, and what is theirs stays",
  async () => {
    nft(FOREIGN_TABLE);
    namespace.ip("route", "add", "10.9.0.0/24", "via", "192.0.2.7", "proto", "static");
    namespace.ip("route", "add", "blackhole", "10.0.200.0/26", "proto", "12");
    const read = () => ({ routes: routes("proto", "80"), filter: nftTable("inet gingham") });
    const desired = read();
    expect(desired.routes.length).toBe(2 * (1 + PEERS) + 2);
    const rules = [...desired.filter.matchAll(/^\tchain (\S+)/gm)].map(([, name = ""]) => name);
    const done = await actAtRandom(
      [
        (pick) => namespace.ip("route", "del", block4(pick(PEERS + 1))),
        (pick) => namespace.ip("-6", "route", "del", block6(pick(PEERS + 1))),
        (pick) => namespace.ip("route", "replace", block4(pick(PEERS + 1)), "via", "192.0.2.99"),
        (pick) => namespace.ip("route", "add", `10.7.${pick(9)}.0/26`, "via", "192.0.2.98", "proto", "80"),
        (pick) => namespace.ip("-6", "route", "add", `fd00:7:${pick(9)}::/64`, "via", "2001:db8::98", "proto", "80"),
        () => namespace.ip("route", "del", "10.0.0.5"),
        () => namespace.ip("-6", "route", "del", "fd00::5"),
        () => namespace.ip("route", "flush", "proto", "80"),
        () => {
          namespace.ip("link", "set", "cali1", "down");
          namespace.ip("link", "set", "cali1", "up");
        },
        () => {
          namespace.ip("link", "set", "eth0", "down");
          namespace.ip("link", "set", "eth0", "up");
          namespace.ip("route", "replace", "default", "via", "192.0.2.254");
          namespace.ip("route", "replace", "10.9.0.0/24", "via", "192.0.2.7", "proto", "static");
          namespace.ip("addr", "replace", "2001:db8::1/64", "dev", "eth0", "nodad");
        },
        () => nft("delete table inet gingham"),
        (pick) => nft(`flush chain inet gingham ${rules[pick(rules.length)] ?? ""}`),
        (pick) => nft(`insert rule inet gingham ${rules[pick(rules.length)] ?? ""} accept`),
        () => nft("flush set inet gingham nat-pools-v4"),
        (pick) => nft(`add element inet gingham all-pools-v4 { 198.51.100.${pick(250)} }`),
        () => nft("add chain inet gingham strange"),
        () => nft(`flush ruleset\n${FOREIGN_TABLE}`),
      ],
      { forMs: FAULT_MS },
    );
    expect(done).toBeGreaterThan(20);
    await expect.poll(read, { timeout: 20_000, interval: 200 }).toEqual(desired);
    expect(felix.findings()).toEqual([]);
    expect(felix.status().repairs.total).toBeGreaterThan(10);
    expect(routes("proto", "static").join()).toContain("10.9.0.0/24 via 192.0.2.7");
    expect(routes("proto", "12").join()).toContain("blackhole 10.0.200.0/26");
    expect(nftTable("ip foreign")).toContain("ip saddr @known counter");
  },
  FAULT_MS + 60_000,
);
