// SPDX-License-Identifier: Apache-2.0

import { describe, expect, test } from "vitest";
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { Node } from "../../crds/core.ts";
import type { IPPool } from "../../crds/ip-pool.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseIP } from "../../net/ip.ts";
import { LINK_MTU_ANNOTATION } from "../calc/node-status.ts";
import { NodeWriter } from "../drivers/node-writer.ts";
import { FakeLog, FakeSource, fakeAffinity, fakeNode, fakePool, noMetrics } from "../fake-resources.ts";
import { FakeRouteDataplane } from "../fake-route-dataplane.ts";
import { createFelix } from "../felix.ts";
import type { FelixOptions } from "../felix-options.ts";
import { formatKernelRoute } from "../kernel-route.ts";
import { NodeAddressDetector } from "./detector.ts";
import { parseAddress, parseMethod } from "./settings.ts";

const IPV4 = "projectcalico.org/IPv4Address";
const IPV6 = "projectcalico.org/IPv6Address";

/** A node with two network cards, whose Node object says what agents of both kinds read. */
async function setUp(
  { ip = "", method = "", ip6 = "", node = fakeNode("node-a", ["192.0.2.1"]) },
  options: Partial<FelixOptions> = {},
) {
  const clock = new FakeClock();
  const kernel = new FakeRouteDataplane();
  kernel.addLink("eth0", { ip: parseIP("192.0.2.1"), prefixLength: 24 }, 2);
  kernel.addLink("eth1", { ip: parseIP("198.51.100.1"), prefixLength: 24 }, 3);
  kernel.addAddr(2, parseIP("2001:db8::1"), 64);
  const sources = {
    nodes: new FakeSource<Node>(node, fakeNode("node-b", ["192.0.2.2"])),
    affinities: new FakeSource<BlockAffinity>(fakeAffinity("node-b", "10.0.0.64/26")),
    pools: new FakeSource<IPPool>(fakePool("four", "10.0.0.0/16")),
  };
  const log = new FakeLog();
  const world = { node };
  const felix = createFelix({
    nodeName: "node-a",
    dataplane: kernel,
    sources,
    clock,
    random: () => 0,
    log,
    metrics: noMetrics,
    enableForwarding: () => {},
    nodeAddress: new NodeAddressDetector({
      settings: { 4: parseAddress(ip, 4, parseMethod(method, 4)), 6: parseAddress(ip6, 6, undefined) },
      clock,
      reach: { sourceTowards: async () => undefined },
    }),
    nodeStatus: new NodeWriter({
      get: async () => world.node,
      setTaints: async () => {},
      updateStatus: async (next) => {
        world.node = next;
        sources.nodes.set(next);
      },
    }),
    ...options,
  });
  felix.start();
  for (const source of Object.values(sources)) source.sync();
  await clock.advance(2000);
  const shown = (): string[] =>
    kernel.routes
      .map((route) => formatKernelRoute(route, (ifIndex) => `eth${ifIndex - 2}`))
      .filter((r) => /via/.test(r));
  const said = (): Record<string, string> => {
    const { [LINK_MTU_ANNOTATION]: _, ...addresses } = world.node.metadata.annotations ?? {};
    return addresses;
  };
  return { clock, kernel, sources, log, felix, world, shown, said };
}

const VIA_ETH0 = ["10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80"];
const VIA_ETH1 = ["10.0.0.64/26 via 192.0.2.2 dev eth1 proto 80"];

describe("Felix with this node's addresses", () => {
  test("without a setting it is the InternalIP, and the annotation says so with its link's length", async () => {
    const { felix, shown, said } = await setUp({});
    expect(shown()).toEqual(VIA_ETH0);
    expect(said()).toEqual({ [IPV4]: "192.0.2.1/24" });
    await felix.stop();
  });

  test("a method decides against the InternalIP; routes, annotation and log follow, now and when it changes", async () => {
    const { clock, kernel, felix, log, shown, said } = await setUp({ method: "interface=eth1" });
    expect(shown()).toEqual(VIA_ETH1);
    expect(said()).toEqual({ [IPV4]: "198.51.100.1/24" });
    kernel.deleteAddr(3, parseIP("198.51.100.1"));
    kernel.addAddr(3, parseIP("198.51.100.7"), 25);
    await clock.advance(5000);
    expect(said()).toEqual({ [IPV4]: "198.51.100.1/24" });
    await clock.advance(10_000);
    expect(said()).toEqual({ [IPV4]: "198.51.100.7/25" });
    expect(shown()).toEqual(VIA_ETH1);
    expect(log.said("warn")).toContainEqual(
      "node address changed from 198.51.100.1 to 198.51.100.7: other nodes follow; set IP=198.51.100.1 to keep it",
    );
    await felix.stop();
  });

  test("is polled, for what no notification tells", async () => {
    const { clock, felix, kernel, said } = await setUp({ method: "first-found" });
    expect(said()[IPV4]).toBe("198.51.100.1/24");
    kernel.quiet(() => kernel.deleteAddr(3, parseIP("198.51.100.1")));
    await clock.advance(75_000);
    expect(said()[IPV4]).toBe("192.0.2.1/24");
    await felix.stop();
  });

  test("an address and a length that somebody has set count, and none takes the annotation away", async () => {
    const node = fakeNode("node-a", ["192.0.2.1", "2001:db8::1"], { [IPV6]: "2001:db8::1/64", other: "x" });
    const { felix, said } = await setUp({ ip: "198.51.100.1/28", ip6: "none", node });
    expect(said()).toEqual({ [IPV4]: "198.51.100.1/28", other: "x" });
    await felix.stop();
  });

  test("several candidates: not ready, nothing written, no route taken away", async () => {
    const { felix, said, shown } = await setUp({ method: "interface=eth" });
    expect(said()).toEqual({});
    expect(shown()).toEqual([]);
    expect(felix.findings().map(({ code }) => code)).toContain("AmbiguousNodeAddress");
    const { ok, checks } = felix.health.readiness();
    expect([ok, checks["nodeAddress"]?.ok]).toEqual([false, false]);
    expect(checks["nodeAddress"]?.detail).toContain("198.51.100.1 on eth1, 192.0.2.1 on eth0 all suit");
    await felix.stop();
  });

  test("an address that another node has: named, not ready, not written; over when it is", async () => {
    const { clock, felix, sources, log, said } = await setUp({}, {});
    sources.nodes.set(fakeNode("node-c", ["192.0.2.1"]));
    await clock.advance(3000);
    expect(felix.findings()).toContainEqual(
      expect.objectContaining({ code: "DuplicateNodeAddress", subject: "192.0.2.1" }),
    );
    expect(felix.health.readiness().checks["nodeAddress"]?.detail).toContain("Node node-c has this node's address");
    expect(log.said("warn").some((line) => line.includes("Node node-c has"))).toBe(true);
    sources.nodes.delete("node-c");
    await clock.advance(10);
    expect(felix.health.readiness().ok).toBe(true);
    expect(said()[IPV4]).toBe("192.0.2.1/24");
    await felix.stop();
  });

  test("a newcomer with another's address does not say it; DISABLE_NODE_IP_CHECK lets it", async () => {
    const taken = fakeNode("node-a", ["192.0.2.2"]);
    for (const ignoresDuplicates of [false, true]) {
      const { felix, kernel, clock, said } = await setUp({ node: taken }, { ignoresDuplicates });
      kernel.addAddr(2, parseIP("192.0.2.2"), 24);
      await clock.advance(10_000);
      expect(said()).toEqual(ignoresDuplicates ? { [IPV4]: "192.0.2.2/24" } : {});
      expect(felix.health.readiness().ok).toBe(ignoresDuplicates);
      await felix.stop();
    }
  });
});
