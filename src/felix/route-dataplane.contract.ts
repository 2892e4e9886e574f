// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseCIDR } from "../net/cidr.ts";
import { type Family, parseIP } from "../net/ip.ts";
import { routeKey, sameKernelRoute } from "./kernel-route.ts";
import type { KernelChange, KernelRoute, RouteDataplane } from "./ports.ts";

/** A kernel to try a RouteDataplane on: a network namespace of the test's own, or the fake. */
export interface RouteDataplaneHarness {
  readonly dataplane: RouteDataplane;
  /** The same kernel through another socket: what other programs do. */
  readonly others: Pick<RouteDataplane, "replaceRoutes" | "deleteRoutes">;
  /** Makes a link that is up, with an address (`10.9.0.1/24`) of either family. Resolves to its index. */
  addLink(name: string, addresses: readonly string[]): Promise<number>;
  setUp(ifIndex: number, up: boolean): Promise<void>;
  deleteLink(ifIndex: number): Promise<void>;
  close(): Promise<void>;
}

const DESTINATIONS: Readonly<Record<Family, { pod: string; block: string; remote: string; gateway: string }>> = {
  4: { pod: "10.99.0.5/32", block: "10.99.0.0/26", remote: "10.99.1.0/26", gateway: "192.0.2.7" },
  6: { pod: "fd99::5/128", block: "fd99::/122", remote: "fd99::1:0/122", gateway: "2001:db8::7" },
};

/** The suite that every RouteDataplane passes, so that the fake kernel cannot lie. */
export function routeDataplaneContract(name: string, open: () => Promise<RouteDataplaneHarness>): void {
  describe(`RouteDataplane (${name})`, () => {
    let harness: RouteDataplaneHarness;
    let dataplane: RouteDataplane;
    let ifIndex: number;

    beforeEach(async () => {
      harness = await open();
      dataplane = harness.dataplane;
      ifIndex = await harness.addLink("calicontract0", ["10.98.0.1/24", "fd98::1/64"]);
    });
    afterEach(async () => await harness.close());

    function pod(family: Family): KernelRoute {
      const scope = family === 4 ? "link" : "universe";
      const dst = parseCIDR(DESTINATIONS[family].pod);
      return { dst, type: "unicast", metric: 0, protocol: 80, ifIndex, onlink: false, scope };
    }
    function blackhole(family: Family): KernelRoute {
      const dst = parseCIDR(DESTINATIONS[family].block);
      return { dst, type: "blackhole", metric: 0, protocol: 80, onlink: false, scope: "universe" };
    }
    function remote(family: Family): KernelRoute {
      const dst = parseCIDR(DESTINATIONS[family].remote);
      const gateway = parseIP(DESTINATIONS[family].gateway);
      return { dst, type: "unicast", metric: 0, protocol: 80, ifIndex, gateway, onlink: true, scope: "universe" };
    }
    /** What the kernel has under the route's key. */
    async function readBack(route: KernelRoute): Promise<KernelRoute[]> {
      const family: Family = typeof route.dst.network === "number" ? 4 : 6;
      return (await dataplane.listRoutes(family)).filter((r) => routeKey(r) === routeKey(route));
    }
    async function expectThere(route: KernelRoute): Promise<void> {
      const [found, ...others] = await readBack(route);
      expect(others).toEqual([]);
      expect(found, `${routeKey(route)} is missing`).toBeDefined();
      if (found !== undefined)
        expect(sameKernelRoute(found, route), JSON.stringify([found, route], bigints)).toBe(true);
    }
    async function replace(...routes: KernelRoute[]): Promise<void> {
      const results = await dataplane.replaceRoutes(routes);
      expect(results.map((result) => result.error)).toEqual(routes.map(() => undefined));
    }

    for (const family of [4, 6] as const) {
      test(`replaceRoutes() writes what listRoutes(${family}) reads back`, async () => {
        const routes = [blackhole(family), pod(family), remote(family)];
        await replace(...routes);
        for (const route of routes) await expectThere(route);
      });

      test(`replaceRoutes() takes an IPv${family} route over to another link, though its gateway is one of its own addresses`, async () => {
        const plain = remote(family);
        await replace(plain);
        const tunnel = await harness.addLink("contract1", []);
        const gateway = plain.dst.network;
        const inTunnel: KernelRoute = { ...plain, ifIndex: tunnel, gateway };
        await replace(inTunnel);
        await expectThere(inTunnel);
        // Nothing else stays, such as a way to the gateway alone.
        const all = await dataplane.listRoutes(family);
        expect(all.filter(({ dst, protocol }) => protocol === 80 && dst.network === gateway)).toHaveLength(1);
      });

      test(`replaceRoutes() writes an equal IPv${family} route again without harm`, async () => {
        const routes = [blackhole(family), pod(family), remote(family)];
        await replace(...routes);
        await replace(...routes);
        for (const route of routes) await expectThere(route);
      });

      test(`replaceRoutes() takes the place of any IPv${family} route of the same destination and metric`, async () => {
        const foreign: KernelRoute = { ...remote(family), protocol: 4 };
        const hole: KernelRoute = { ...blackhole(family), dst: foreign.dst };
        for (const route of [foreign, remote(family), hole, remote(family)]) {
          await replace(route);
          await expectThere(route);
        }
      });

      test(`a metric makes another IPv${family} route`, async () => {
        const other: KernelRoute = { ...pod(family), metric: 512 };
        await replace(pod(family), other);
        await expectThere(pod(family));
        await expectThere(other);
        await dataplane.deleteRoutes([other]);
        await expectThere(pod(family));
        expect(await readBack(other)).toEqual([]);
      });

      test(`replaceRoutes() goes on after an IPv${family} route that the kernel refuses`, async () => {
        const bad: KernelRoute = { ...pod(family), ifIndex: 4_000_000 };
        const results = await dataplane.replaceRoutes([bad, blackhole(family)]);
        expect(results.map((result) => result.error instanceof Error)).toEqual([true, false]);
        await expectThere(blackhole(family));
      });

      test(`deleteRoutes() removes IPv${family} routes, and one that is gone is a success`, async () => {
        await replace(pod(family), blackhole(family));
        const results = await dataplane.deleteRoutes([pod(family), remote(family), pod(family)]);
        expect(results.map((result) => result.error)).toEqual([undefined, undefined, undefined]);
        expect(await readBack(pod(family))).toEqual([]);
        await expectThere(blackhole(family));
      });

      test(`deleteRoutes() leaves an IPv${family} route of another protocol alone`, async () => {
        const foreign: KernelRoute = { ...remote(family), protocol: 4 };
        await replace(foreign);
        await dataplane.deleteRoutes([remote(family)]);
        await expectThere(foreign);
      });

      test(`IPv${family} routes go with their link`, async () => {
        await replace(pod(family), blackhole(family));
        await harness.deleteLink(ifIndex);
        expect(await readBack(pod(family))).toEqual([]);
        await expectThere(blackhole(family));
      });

      test(`watch() tells when an IPv${family} route of ours goes, or one of others comes`, async () => {
        await replace(pod(family));
        const gone = collect(dataplane);
        await harness.others.deleteRoutes([pod(family)]);
        await until(gone.changes, "route");
        gone.stop();
        const came = collect(dataplane);
        await harness.others.replaceRoutes([{ ...pod(family), protocol: 4 }]);
        await until(came.changes, "route");
        came.stop();
      });

      test(`watch() leaves out what this dataplane itself does to IPv${family} routes`, async () => {
        const { changes, stop } = collect(dataplane);
        await replace(pod(family), blackhole(family));
        await dataplane.deleteRoutes([pod(family)]);
        await harness.others.deleteRoutes([blackhole(family)]);
        await until(changes, "route");
        stop();
        expect(changes.filter((change) => change.kind === "route")).toHaveLength(1);
      });
    }

    test("replaceRoutes() is refused on a link that is down", async () => {
      await harness.setUp(ifIndex, false);
      const [result] = await dataplane.replaceRoutes([pod(4)]);
      expect(result?.error).toBeInstanceOf(Error);
    });

    test("a link that goes down loses its IPv4 routes, and watch() tells of the link", async () => {
      await replace(pod(4));
      const { changes, stop } = collect(dataplane);
      await harness.setUp(ifIndex, false);
      await until(changes, "link");
      stop();
      expect(await readBack(pod(4))).toEqual([]);
    });

    test("listLinks() and listAddrs() show a link with its state and addresses", async () => {
      const link = async () => (await dataplane.listLinks()).find((l) => l.ifIndex === ifIndex);
      expect(await link()).toMatchObject({ name: "calicontract0", up: true });
      const addrs = (await dataplane.listAddrs()).filter((addr) => addr.ifIndex === ifIndex);
      expect(addrs).toContainEqual({ ifIndex, ip: parseIP("10.98.0.1"), prefixLength: 24 });
      expect(addrs).toContainEqual({ ifIndex, ip: parseIP("fd98::1"), prefixLength: 64 });
      await harness.setUp(ifIndex, false);
      expect(await link()).toMatchObject({ up: false });
    });

    test("watch() stops when told so", async () => {
      const stopped = collect(dataplane);
      stopped.stop();
      const { changes, stop } = collect(dataplane);
      await replace(pod(4));
      await harness.others.deleteRoutes([pod(4)]);
      await until(changes, "route");
      stop();
      expect(stopped.changes).toEqual([]);
    });
  });
}

function collect(dataplane: RouteDataplane): { readonly changes: KernelChange[]; readonly stop: () => void } {
  const changes: KernelChange[] = [];
  return { changes, stop: dataplane.watch((change) => changes.push(change)) };
}

/** Waits for the kernel to tell. */
async function until(changes: readonly KernelChange[], kind: KernelChange["kind"]): Promise<void> {
  const endMs = Date.now() + 4000;
  while (!changes.some((change) => change.kind === kind)) {
    if (Date.now() > endMs) throw new Error(`watch() told only ${JSON.stringify(changes)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function bigints(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}
