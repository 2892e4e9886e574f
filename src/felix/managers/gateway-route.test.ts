// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import { formatKernelRoute } from "../kernel-route.ts";
import type { KernelRoute } from "../ports.ts";
import { wantGatewayRoute } from "./gateway-route.ts";

function foreign(dst: string, type: KernelRoute["type"] = "unicast"): KernelRoute {
  return { dst: parseCIDR(dst), type, metric: 0, protocol: 3, ifIndex: 2, onlink: false, scope: "universe" };
}

function outcome(routes: readonly KernelRoute[]): string {
  const calls: string[] = [];
  wantGatewayRoute(routes, {
    want: (key, route) => calls.push(`want ${key}: ${formatKernelRoute(route, () => "lo")}`),
    hold: (key) => calls.push(`hold ${key}`),
    drop: (key) => calls.push(`drop ${key}`),
  });
  return calls.join("; ");
}

describe("wantGatewayRoute()", () => {
  test.each([
    ["a default route", "0.0.0.0/0"],
    ["a link-local route", "169.254.0.0/16"],
  ])("leaves the gateway to %s", (_, dst) => {
    expect(outcome([foreign("172.30.0.0/24"), foreign(dst)])).toBe("drop 169.254.1.1/32");
  });

  test.each([
    ["nothing covers the gateway", [foreign("172.30.0.0/24"), foreign("::/0")]],
    ["only a blackhole covers it", [foreign("0.0.0.0/0", "blackhole")]],
  ])("wants a route to lo when %s", (_, routes) => {
    expect(outcome(routes)).toBe("want 169.254.1.1/32: 169.254.1.1/32 dev lo proto 80");
  });
});
