// SPDX-License-Identifier: Apache-2.0
import { cidrFamily, formatCIDR } from "../net/cidr.ts";
import { formatIP } from "../net/ip.ts";
import type { KernelRoute } from "./ports.ts";

/** Identity of a route in the main table: what NLM_F_REPLACE replaces. For metric 0 it is the destination's text. */
export function routeKey(route: Pick<KernelRoute, "dst" | "metric">): string {
  return route.metric === 0 ? formatCIDR(route.dst) : `${formatCIDR(route.dst)} metric ${route.metric}`;
}

/**
 * Whether the kernel has to do nothing to get from one route of a key to the other. IPv6 keeps no
 * scopes, and the device that the kernel shows for an IPv6 blackhole, lo, means nothing.
 */
export function sameKernelRoute(a: KernelRoute, b: KernelRoute): boolean {
  if (a.type !== b.type || a.protocol !== b.protocol) return false;
  if (a.type === "blackhole") return true;
  return (
    a.ifIndex === b.ifIndex &&
    a.gateway === b.gateway &&
    a.onlink === b.onlink &&
    (a.scope === b.scope || cidrFamily(a.dst) === 6)
  );
}

/** As `ip route` would print it, for logs. */
export function formatKernelRoute(route: KernelRoute, linkName?: (ifIndex: number) => string | undefined): string {
  const words = [route.type === "blackhole" ? "blackhole " : "", formatCIDR(route.dst)];
  if (route.gateway !== undefined) words.push(` via ${formatIP(route.gateway)}`);
  if (route.ifIndex !== undefined) words.push(` dev ${linkName?.(route.ifIndex) ?? `#${route.ifIndex}`}`);
  words.push(` proto ${route.protocol}`);
  if (route.metric !== 0) words.push(` metric ${route.metric}`);
  return words.join("");
}
