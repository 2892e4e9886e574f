// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { KernelRoute } from "../../felix/ports.ts";
import { cidrFamily, parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { RT_TABLE_MAIN, RTM_F_CLONED, RTN_UNREACHABLE } from "../wire/constants.ts";
import type { RouteMessage } from "../wire/route.ts";
import { kernelRouteOf, routeSpecOf } from "./route-dataplane.ts";

const base = { metric: 0, protocol: 80, onlink: false } as const;
const ROUTES: readonly KernelRoute[] = [
  { ...base, dst: parseCIDR("10.0.0.5/32"), type: "unicast", ifIndex: 7, scope: "link" },
  { ...base, dst: parseCIDR("fd00::5/128"), type: "unicast", ifIndex: 7, scope: "link" },
  { ...base, dst: parseCIDR("10.0.0.0/26"), type: "blackhole", scope: "universe" },
  { ...base, dst: parseCIDR("fd00::/122"), type: "blackhole", scope: "universe" },
  {
    ...base,
    dst: parseCIDR("10.0.1.0/26"),
    type: "unicast",
    ifIndex: 2,
    gateway: parseIP("192.0.2.9"),
    onlink: true,
    scope: "universe",
  },
  {
    ...base,
    dst: parseCIDR("fd00:1::/122"),
    type: "unicast",
    metric: 512,
    ifIndex: 2,
    gateway: parseIP("2001:db8::9"),
    scope: "universe",
  },
];

function asKernelReads(route: KernelRoute): RouteMessage {
  const spec = routeSpecOf(route);
  const message = {
    family: cidrFamily(route.dst),
    tos: 0,
    table: RT_TABLE_MAIN,
    protocol: 0,
    scope: 0,
    type: 1,
    flags: 0,
    ...spec,
  };
  // The kernel names lo as an IPv6 blackhole's device.
  return route.type === "blackhole" && message.family === 6 ? { ...message, oif: 1 } : message;
}

describe("kernelRouteOf()", () => {
  test.each(ROUTES)("reads back what routeSpecOf() wrote, and hides what the kernel filled in", (route) => {
    expect(kernelRouteOf(asKernelReads(route))).toEqual(route);
  });

  test("leaves out what Felix does not compare", () => {
    const route = asKernelReads(ROUTES[0] as KernelRoute); // There is one.
    expect(kernelRouteOf({ ...route, type: RTN_UNREACHABLE })).toBeUndefined();
    expect(kernelRouteOf({ ...route, flags: RTM_F_CLONED })).toBeUndefined();
  });
});

describe("routeSpecOf()", () => {
  test("writes IPv6's default metric out, so that a deletion matches no other metric", () => {
    expect(routeSpecOf(ROUTES[1] as KernelRoute).priority).toBe(1024); // There is one.
    expect(routeSpecOf(ROUTES[0] as KernelRoute).priority).toBeUndefined();
  });
});
