// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { FakeRouteDataplane } from "../fake-route-dataplane.ts";
import { routeKey, sameKernelRoute } from "../kernel-route.ts";
import type { KernelRoute } from "../ports.ts";
import { RouteTable } from "./route-table.ts";

const NIC = 2;
const KEYS = ["10.0.0.0/26", "10.0.0.64/26", "10.0.0.5/32", "fd00::/122"];

const route: fc.Arbitrary<KernelRoute> = fc
  .record({
    key: fc.constantFrom(...KEYS),
    kind: fc.constantFrom("hole", "nic", "other"),
    protocol: fc.constantFrom(80, 80, 4),
  })
  .map(({ key, kind, protocol }) => {
    const base = { dst: parseCIDR(key), metric: 0, protocol, scope: "universe" } as const;
    if (kind === "hole") return { ...base, type: "blackhole", onlink: false };
    const gateway = parseIP(`${key.includes(":") ? "2001:db8::" : "192.0.2."}${kind === "nic" ? 2 : 3}`);
    return { ...base, type: "unicast", ifIndex: NIC, gateway, onlink: true };
  });
const step = fc.oneof(
  fc.record({ do: fc.constant("want" as const), route: route.map((r) => ({ ...r, protocol: 80 })) }),
  fc.record({ do: fc.constantFrom("hold" as const, "drop" as const), key: fc.constantFrom(...KEYS) }),
  fc.record({ do: fc.constant("othersPut" as const), route }),
  fc.record({ do: fc.constant("othersRemove" as const), key: fc.constantFrom(...KEYS) }),
  fc.record({ do: fc.constantFrom("apply" as const, "restart" as const) }),
  fc.record({ do: fc.constant("refuse" as const), key: fc.option(fc.constantFrom(...KEYS)) }),
);

describe("RouteTable", () => {
  test("after a resync the kernel has what is desired, nothing else of ours, and every foreign route elsewhere", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const kernel = new FakeRouteDataplane();
        kernel.addLink("eth0", undefined, NIC);
        const clock = new FakeClock();
        const open = (): RouteTable =>
          new RouteTable({
            dataplane: kernel,
            clock,
            random: () => 0,
            linkName: () => "eth0",
            backoff: { baseMs: 0, maxMs: 0 },
          });
        let table = open();
        const desired = new Map<string, KernelRoute | "held">();
        const say = (key: string, wish: KernelRoute | "held" | undefined): void => {
          if (wish === undefined) table.drop(key);
          else if (wish === "held") table.hold(key);
          else table.want(key, wish);
        };
        for (const s of steps) {
          if (s.do === "want") desired.set(routeKey(s.route), s.route);
          else if (s.do === "hold") desired.set(s.key, "held");
          else if (s.do === "drop") desired.delete(s.key);
          else if (s.do === "othersPut") kernel.put(s.route);
          else if (s.do === "othersRemove" && kernel.routes.some((r) => routeKey(r) === s.key))
            kernel.remove(parseCIDR(s.key));
          else if (s.do === "refuse") kernel.refuse = (r) => (routeKey(r) === s.key ? new Error("refused") : undefined);
          else if (s.do === "restart") {
            table = open();
            for (const [key, wish] of desired) say(key, wish);
          }
          if (s.do === "want" || s.do === "hold" || s.do === "drop") {
            const key = s.do === "want" ? routeKey(s.route) : s.key;
            say(key, desired.get(key));
          }
          if (s.do === "apply") await table.apply();
        }
        kernel.refuse = undefined;
        const before = new Map(kernel.routes.map((r) => [routeKey(r), r]));
        table.requestResync();
        await table.apply();
        const after = new Map(kernel.routes.map((r) => [routeKey(r), r]));
        for (const key of KEYS) {
          const wish = desired.get(key);
          const [was, is] = [before.get(key), after.get(key)];
          if (wish === "held") expect(is).toEqual(was);
          else if (wish !== undefined) expect(is !== undefined && sameKernelRoute(is, wish)).toBe(true);
          else expect(is).toEqual(was?.protocol === 80 ? undefined : was);
        }
        const writes = kernel.writes.length + kernel.deletes.length;
        table.requestResync();
        await table.apply();
        expect(kernel.writes.length + kernel.deletes.length).toBe(writes);
      }),
    );
  });
});
