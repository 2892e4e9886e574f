// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
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
import { steadyClock } from "../../src/lib/system-clock.ts";
import { openNetns, withNetns } from "../../src/netlink/netns.ts";
import { enableForwarding } from "../../src/netlink/sysctl.ts";
import { openRouteNamespace, type RouteNamespace } from "./route-namespace.ts";

const BLOCKS4 = ["10.0.0.5 dev cali1 proto 80 scope link", "10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80 onlink"];
const BLOCKS6 = ["fd00::5 dev cali1 proto 80", "fd00::40/122 via 2001:db8::2 dev eth0 proto 80 onlink"];

describe("Felix on the kernel", () => {
  let namespace: RouteNamespace;
  let felix: Felix;
  let log: FakeLog;
  let sources: {
    nodes: FakeSource<Node>;
    affinities: FakeSource<BlockAffinity>;
    pools: FakeSource<IPPool>;
  };
  /** Changes that Felix asked the kernel for. */
  let changes: number;
  let podIfIndex: number;

  beforeEach(async () => {
    namespace = openRouteNamespace();
    await namespace.addLink("eth0", ["192.0.2.1/24", "2001:db8::1/64"]);
    podIfIndex = await namespace.addLink("cali1", []);
    namespace.ip("route", "add", "default", "via", "192.0.2.254");
    sources = {
      nodes: new FakeSource<Node>(
        fakeNode("node-a", ["192.0.2.1", "2001:db8::1"]),
        fakeNode("node-b", ["192.0.2.2", "2001:db8::2"]),
      ),
      affinities: new FakeSource<BlockAffinity>(
        ...["10.0.0.0/26", "fd00::/122"].map((cidr) => fakeAffinity("node-a", cidr)),
        ...["10.0.0.64/26", "fd00::40/122"].map((cidr) => fakeAffinity("node-b", cidr)),
      ),
      pools: new FakeSource<IPPool>(fakePool("four", "10.0.0.0/16"), fakePool("six", "fd00::/64")),
    };
    for (const source of Object.values(sources)) source.sync();
    changes = 0;
    felix = startFelix();
    await until(() => felix.health.readiness().ok);
  });

  afterEach(async () => {
    await felix.stop();
    await namespace.close();
  });

  function startFelix(): Felix {
    log = new FakeLog();
    const { dataplane } = namespace;
    const started = createFelix({
      nodeName: "node-a",
      dataplane: {
        ...dataplane,
        replaceRoutes: (routes) => {
          changes += routes.length;
          return dataplane.replaceRoutes(routes);
        },
        deleteRoutes: (routes) => {
          changes += routes.length;
          return dataplane.deleteRoutes(routes);
        },
      },
      sources,
      clock: steadyClock,
      random: Math.random,
      log,
      metrics: noMetrics,
      enableForwarding: (families) => {
        using netns = openNetns(`/run/netns/${namespace.name}`);
        withNetns(netns, () => enableForwarding(families));
      },
    });
    started.endpointUp(fakeEndpoint("1", podIfIndex, "10.0.0.5", "fd00::5"));
    started.start();
    return started;
  }

  function inside(...argv: readonly string[]): string {
    return execFileSync("ip", ["netns", "exec", namespace.name, ...argv], { encoding: "utf8" });
  }

  /** Our routes as `ip route` prints them. */
  function shown(family: "-4" | "-6"): string[] {
    const lines = namespace.ip(family, "route", "show", "proto", "80").split("\n");
    return lines.map((line) => line.replace(/ (metric 1024|pref medium)/g, "").trim()).filter((line) => line !== "");
  }

  function expectAll(): void {
    // `show proto 80` leaves the protocol out of its lines.
    const plain = (routes: readonly string[]): string[] => routes.map((route) => route.replace(" proto 80", ""));
    expect(shown("-4").toSorted()).toEqual([...plain(BLOCKS4), "blackhole 10.0.0.0/26"]);
    expect(shown("-6").toSorted()).toEqual(["blackhole fd00::/122 dev lo", ...plain(BLOCKS6).toSorted()].toSorted());
  }

  test("writes pod routes, blackholes and remote blocks of both families", () => {
    expectAll();
    expect(changes).toBe(6);
  });

  test("a restart on routes that are there asks the kernel for no change at all", async () => {
    await felix.stop();
    expectAll();
    changes = 0;
    felix = startFelix();
    await until(() => felix.health.readiness().ok);
    expectAll();
    expect(changes).toBe(0);
    expect(log.said("info")).toContain("in sync: 6 routes adopted as they were, 0 written, 0 deleted");
  });

  test("restores what `ip route` deletes or replaces, and leaves foreign routes alone", async () => {
    namespace.ip("route", "add", "10.9.0.0/24", "via", "192.0.2.7");
    namespace.ip("route", "del", "10.0.0.64/26");
    namespace.ip("route", "del", "10.0.0.5");
    namespace.ip("-6", "route", "del", "fd00::40/122");
    namespace.ip("route", "replace", "10.0.0.0/26", "via", "192.0.2.9");
    await until(() => shown("-4").length === 3 && shown("-6").length === 3);
    expectAll();
    expect(namespace.ip("route")).toContain("10.9.0.0/24 via 192.0.2.7");
    expect(log.said("warn").some((line) => line.includes("another program; restored"))).toBe(true);
  });

  test.each(["ipv4/ip_forward", "ipv6/conf/all/forwarding"])(
    "%s that is switched off is on again at once",
    async (path) => {
      const file = `/proc/sys/net/${path}`;
      expect(inside("cat", file).trim()).toBe("1");
      inside("sh", "-c", `echo 0 > ${file}`);
      await until(() => inside("cat", file).trim() === "1");
      expectAll();
    },
  );

  test.each([3_600_000, -3_600_000])(
    "restores routes as ever when somebody sets the clock by %i ms",
    async (jumpMs) => {
      namespace.ip("route", "del", "10.0.0.64/26");
      await until(() => shown("-4").length === 3);
      const { now } = Date;
      const clock = vi.spyOn(Date, "now").mockImplementation(() => now() + jumpMs);
      try {
        namespace.ip("route", "del", "10.0.0.5");
        await until(() => shown("-4").length === 3);
        expect(felix.health.liveness().ok).toBe(true);
      } finally {
        clock.mockRestore();
      }
    },
  );

  test("restores the routes that went with a link that was down for a moment", async () => {
    namespace.ip("link", "set", "eth0", "down");
    namespace.ip("link", "set", "eth0", "up");
    namespace.ip("route", "add", "default", "via", "192.0.2.254");
    await until(() => shown("-4").length === 3);
    namespace.ip("link", "set", "cali1", "down");
    await until(() => shown("-4").length === 2);
    namespace.ip("link", "set", "cali1", "up");
    await until(() => shown("-4").length === 3 && shown("-6").includes("fd00::5 dev cali1"));
    expect(shown("-4")).toContain("10.0.0.5 dev cali1 scope link");
  });

  test("follows a block to another node, and removes the routes of a deleted one", async () => {
    sources.nodes.set(fakeNode("node-c", ["192.0.2.3"]));
    sources.affinities.delete(fakeAffinity("node-b", "10.0.0.64/26").metadata.name);
    sources.affinities.set(fakeAffinity("node-c", "10.0.0.64/26"));
    await until(() => shown("-4").includes("10.0.0.64/26 via 192.0.2.3 dev eth0 onlink"));
    sources.affinities.set(fakeAffinity("node-a", "10.0.0.64/26", {}, "2026-01-01T00:00:00Z"));
    await until(() => shown("-4").includes("blackhole 10.0.0.64/26"));
    sources.nodes.delete("node-b");
    await until(() => shown("-6").length === 2);
  });

  test("forgets a pod whose link is deleted", async () => {
    felix.endpointDown({ key: "1" });
    await namespace.deleteLink(podIfIndex);
    await until(() => shown("-4").length === 2 && shown("-6").length === 2);
    expect(felix.findings()).toEqual([]);
  });
});

/** Waits for the kernel to agree; fails by the time limit. */
async function until(isDone: () => boolean): Promise<void> {
  const endMs = Date.now() + 8000;
  while (!isDone()) {
    if (Date.now() > endMs) throw new Error(`Still not so after 8 s: ${isDone.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
