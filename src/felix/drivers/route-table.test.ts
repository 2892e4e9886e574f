// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { FakeRouteDataplane } from "../fake-route-dataplane.ts";
import { routeKey } from "../kernel-route.ts";
import type { KernelRoute } from "../ports.ts";
import { RouteTable } from "./route-table.ts";

const NIC = 2;
const POD = 11;

function blackhole(cidr: string): KernelRoute {
  return { dst: parseCIDR(cidr), type: "blackhole", metric: 0, protocol: 80, onlink: false, scope: "universe" };
}
function remote(cidr: string, gateway = "192.0.2.2"): KernelRoute {
  return { ...blackhole(cidr), type: "unicast", ifIndex: NIC, gateway: parseIP(gateway), onlink: true };
}
function pod(ip: string, ifIndex = POD): KernelRoute {
  return { ...blackhole(`${ip}/32`), type: "unicast", ifIndex, scope: "link" };
}

function setUp() {
  const clock = new FakeClock();
  const kernel = new FakeRouteDataplane();
  kernel.addLink("eth0", { ip: parseIP("192.0.2.1"), prefixLength: 24 }, NIC);
  kernel.addLink("cali1", undefined, POD);
  const names = new Map([
    [NIC, "eth0"],
    [POD, "cali1"],
  ]);
  const open = () =>
    new RouteTable({ dataplane: kernel, clock, random: () => 0, linkName: (ifIndex) => names.get(ifIndex) });
  const table = open();
  const want = (route: KernelRoute, to = table) => to.want(routeKey(route), route);
  const shown = () => kernel.routes.map(({ dst, protocol }) => `${formatCIDR(dst)} ${protocol}`).toSorted();
  return { clock, kernel, table, open, want, shown, names };
}

describe("a block whose segment is on this node", () => {
  const BRIDGE = 12;
  const connected: KernelRoute = {
    ...blackhole("10.0.0.0/26"),
    type: "unicast",
    ifIndex: BRIDGE,
    protocol: 2,
    scope: "link",
  };

  test("its blackhole is not written beside the kernel's own route, and comes back when that goes", async () => {
    const { kernel, table, want } = setUp();
    kernel.put(connected);
    want(blackhole("10.0.0.0/26"));
    expect(await table.apply()).toMatchObject({ updated: 0, replacedForeign: [] });
    want(blackhole("10.0.0.0/26"));
    await table.apply();
    expect(kernel.routes).toEqual([connected]);
    expect(table.pending).toBe(0);
    kernel.remove(connected.dst);
    table.requestResync();
    expect(await table.apply()).toMatchObject({ updated: 1 });
    expect(kernel.routes).toEqual([blackhole("10.0.0.0/26")]);
  });

  test("a blackhole that was there before goes, or the kernel would use it; one that is no longer wanted stays away", async () => {
    const { kernel, clock, names } = setUp();
    const routes = [blackhole("10.0.0.0/26"), connected];
    const dataplane = Object.assign(kernel, { listRoutes: async (family: number) => (family === 4 ? routes : []) });
    const table = new RouteTable({ dataplane, clock, random: () => 0, linkName: (index) => names.get(index) });
    table.want("10.0.0.0/26", blackhole("10.0.0.0/26"));
    expect(await table.apply()).toMatchObject({ updated: 0, deleted: 1 });
    expect(kernel.deletes).toEqual([blackhole("10.0.0.0/26")]);
    table.drop("10.0.0.0/26");
    routes.length = 0;
    table.requestResync();
    expect(await table.apply()).toMatchObject({ updated: 0, deleted: 0 });
  });

  test("a route to another node does not give way", async () => {
    const { kernel, table, want } = setUp();
    kernel.put({ ...connected, dst: parseCIDR("10.0.0.64/26") });
    want(remote("10.0.0.64/26"));
    expect(await table.apply()).toMatchObject({ updated: 1 });
  });
});

describe("RouteTable", () => {
  test("apply() writes what is missing, deletes what is left over, and nothing else", async () => {
    const { kernel, table, want, shown } = setUp();
    kernel.put(remote("10.0.0.64/26"));
    kernel.put(remote("10.0.9.0/26"));
    want(blackhole("10.0.0.0/26"));
    want(remote("10.0.0.64/26"));
    const report = await table.apply();
    expect(report).toMatchObject({ isResync: true, updated: 1, deleted: 1, failed: 0, restored: [] });
    expect(shown()).toEqual(["10.0.0.0/26 80", "10.0.0.64/26 80"]);
    expect(kernel.writes).toEqual([blackhole("10.0.0.0/26")]);
    expect(table.size).toBe(2);
  });

  test("apply() of a fresh table on a kernel that agrees writes nothing: a restart adopts", async () => {
    const { kernel, table, open, want } = setUp();
    const routes = [blackhole("10.0.0.0/26"), remote("10.0.0.64/26"), pod("10.0.0.5")];
    for (const route of routes) want(route);
    await table.apply();
    kernel.writes.length = 0;
    const restarted = open();
    for (const route of routes) want(route, restarted);
    expect(await restarted.apply()).toMatchObject({ updated: 0, deleted: 0, restored: [] });
    expect([kernel.writes, kernel.deletes]).toEqual([[], []]);
  });

  test("apply() leaves foreign routes alone, and replaces one in a desired place with a report", async () => {
    const { kernel, table, want, shown } = setUp();
    const foreign = { ...remote("10.0.0.64/26"), protocol: 4 };
    kernel.put(foreign);
    kernel.put({ ...remote("10.7.0.0/26"), protocol: 12 });
    kernel.put({ ...pod("10.7.0.1"), protocol: 3 });
    want(remote("10.0.0.64/26"));
    expect(await table.apply()).toMatchObject({ updated: 1, deleted: 0, replacedForeign: [foreign] });
    expect(shown()).toEqual(["10.0.0.64/26 80", "10.7.0.0/26 12", "10.7.0.1/32 3"]);
  });

  test("apply() changes a block's next hop by one replace", async () => {
    const { kernel, table, want } = setUp();
    want(remote("10.0.0.64/26"));
    await table.apply();
    want(remote("10.0.0.64/26", "192.0.2.3"));
    expect(await table.apply()).toMatchObject({ isResync: false, updated: 1, deleted: 0, restored: [] });
    want(blackhole("10.0.0.64/26"));
    await table.apply();
    expect(kernel.deletes).toEqual([]);
    expect(kernel.routes).toEqual([blackhole("10.0.0.64/26")]);
  });

  test("a resync restores what others deleted or changed, and says which", async () => {
    const { kernel, table, want, shown } = setUp();
    want(blackhole("10.0.0.0/26"));
    want(remote("10.0.0.64/26"));
    await table.apply();
    kernel.remove(parseCIDR("10.0.0.0/26"));
    kernel.put({ ...remote("10.0.0.64/26"), protocol: 4 });
    expect(await table.apply()).toMatchObject({ isResync: false, updated: 0 });
    table.requestResync();
    const report = await table.apply();
    expect(report.restored.map(routeKey).toSorted()).toEqual(["10.0.0.0/26", "10.0.0.64/26"]);
    expect(shown()).toEqual(["10.0.0.0/26 80", "10.0.0.64/26 80"]);
  });

  test("an unknown route to a pod is left for the grace, then deleted; one that becomes known stays", async () => {
    const { clock, kernel, table, want, shown } = setUp();
    kernel.put(pod("10.0.0.5"));
    kernel.put(pod("10.0.0.6"));
    // A link that is not in the list may be one of an ADD that is under way.
    kernel.put(pod("10.0.0.7", 99));
    expect(await table.apply()).toMatchObject({ deleted: 0, againInMs: 10_000 });
    await clock.advance(9_999);
    want(pod("10.0.0.6"));
    expect(await table.apply()).toMatchObject({ updated: 0, deleted: 0, againInMs: 1 });
    await clock.advance(1);
    expect(await table.apply()).toMatchObject({ deleted: 2 });
    expect(shown()).toEqual(["10.0.0.6/32 80"]);
  });

  test("a held key is neither written nor deleted", async () => {
    const { kernel, table, want, clock } = setUp();
    want(remote("10.0.0.64/26"));
    await table.apply();
    table.hold("10.0.0.64/26");
    table.hold("10.0.0.128/26");
    await clock.advance(60_000);
    table.requestResync();
    const report = await table.apply();
    expect(report).toMatchObject({ updated: 0, deleted: 0 });
    expect(report.againInMs).toBeUndefined();
    table.drop("10.0.0.64/26");
    expect(await table.apply()).toMatchObject({ deleted: 1 });
    expect(kernel.routes).toEqual([]);
  });

  test("one bad route stays dirty with its error and backs off; the others go on", async () => {
    const { clock, kernel, table, want, shown } = setUp();
    const bad = remote("10.0.0.64/26");
    kernel.refuse = (route) => (routeKey(route) === routeKey(bad) ? new Error("ENETUNREACH") : undefined);
    want(bad);
    want(blackhole("10.0.0.0/26"));
    expect(await table.apply()).toMatchObject({ updated: 1, failed: 1, againInMs: 50 });
    expect(table.pending).toBe(1);
    expect(table.findings()).toMatchObject([
      {
        code: "RouteRefused",
        subject: "10.0.0.64/26",
        message: "Kernel refused route 10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80: ENETUNREACH; retrying",
      },
    ]);
    expect(await table.apply()).toMatchObject({ updated: 0, failed: 0, againInMs: 50 });
    await clock.advance(50);
    expect(await table.apply()).toMatchObject({ failed: 1, againInMs: 100 });
    kernel.refuse = undefined;
    await clock.advance(100);
    const report = await table.apply();
    expect(report).toMatchObject({ updated: 1, failed: 0 });
    expect(report.againInMs).toBeUndefined();
    expect(table.findings()).toEqual([]);
    expect(shown()).toEqual(["10.0.0.0/26 80", "10.0.0.64/26 80"]);
  });

  test("a deletion that fails is retried with back-off, and forgotten when the route is gone by itself", async () => {
    const { clock, kernel, table } = setUp();
    kernel.put(remote("10.0.9.0/26"));
    kernel.refuse = () => new Error("EPERM");
    expect(await table.apply()).toMatchObject({ deleted: 0, failed: 1, againInMs: 50 });
    await clock.advance(50);
    expect(await table.apply()).toMatchObject({ failed: 1, againInMs: 100 });
    kernel.remove(parseCIDR("10.0.9.0/26"));
    table.requestResync();
    const report = await table.apply();
    expect(report).toMatchObject({ deleted: 0, failed: 0 });
    expect(report.againInMs).toBeUndefined();
    expect(table.findings()).toEqual([]);
  });

  test("onLinks() takes note that the kernel dropped the routes of a link that is down", async () => {
    const { kernel, table, want, shown } = setUp();
    want(remote("10.0.0.64/26"));
    await table.apply();
    kernel.setUp(NIC, false);
    table.onLinks((ifIndex) => ifIndex !== NIC);
    kernel.setUp(NIC, true);
    expect(await table.apply()).toMatchObject({ isResync: false, updated: 1, restored: [] });
    expect(shown()).toEqual(["10.0.0.64/26 80"]);
  });

  test("apply() lists again when a listing failed", async () => {
    const { kernel, table, want } = setUp();
    want(blackhole("10.0.0.0/26"));
    kernel.onCall = (call) => {
      if (call === "listRoutes") throw new Error("dump interrupted");
    };
    await expect(table.apply()).rejects.toThrow("dump interrupted");
    expect(kernel.writes).toEqual([]);
    kernel.onCall = undefined;
    expect(await table.apply()).toMatchObject({ isResync: true, updated: 1 });
  });

  test("apply() treats metrics as different routes", async () => {
    const { kernel, table, want } = setUp();
    kernel.put({ ...remote("10.0.0.64/26"), metric: 512 });
    want(remote("10.0.0.64/26"));
    expect(await table.apply()).toMatchObject({ updated: 1, deleted: 1 });
    expect(kernel.routes).toEqual([remote("10.0.0.64/26")]);
  });
});
