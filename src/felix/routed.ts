// SPDX-License-Identifier: Apache-2.0

import { cidrFamily } from "../net/cidr.ts";
import { bitsOf, formatIP } from "../net/ip.ts";
import { VXLAN_DEVICES } from "./ownership.ts";
import type { RouteDataplane } from "./ports.ts";

/**
 * Texts of the addresses that the main table routes over a link of their own: the pods of this node, whoever wired them.
 * The end of a tunnel may be routed so, too, and is elsewhere.
 */
export async function routedAddresses(
  dataplane: Pick<RouteDataplane, "listRoutes" | "listLinks">,
): Promise<ReadonlySet<string>> {
  const [links, ...tables] = await Promise.all([
    dataplane.listLinks(),
    dataplane.listRoutes(4),
    dataplane.listRoutes(6),
  ]);
  const devices: readonly string[] = Object.values(VXLAN_DEVICES);
  const tunnels = new Set(links.flatMap(({ ifIndex, name }) => (devices.includes(name) ? [ifIndex] : [])));
  const own = tables
    .flat()
    .filter(
      ({ dst, type, ifIndex, gateway }) =>
        type === "unicast" &&
        ifIndex !== undefined &&
        !tunnels.has(ifIndex) &&
        gateway === undefined &&
        dst.prefixLength === bitsOf(cidrFamily(dst)),
    );
  return new Set(own.map(({ dst }) => formatIP(dst.network)));
}
