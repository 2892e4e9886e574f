// SPDX-License-Identifier: Apache-2.0

import { cidrFamily } from "../net/cidr.ts";
import { bitsOf, formatIP } from "../net/ip.ts";
import type { RouteDataplane } from "./ports.ts";

/** Texts of the addresses that the main table routes over a link of their own: the pods of this node, whoever wired them. */
export async function routedAddresses(dataplane: Pick<RouteDataplane, "listRoutes">): Promise<ReadonlySet<string>> {
  const routes = (await Promise.all(([4, 6] as const).map((family) => dataplane.listRoutes(family)))).flat();
  const own = routes.filter(
    ({ dst, type, ifIndex, gateway }) =>
      type === "unicast" &&
      ifIndex !== undefined &&
      gateway === undefined &&
      dst.prefixLength === bitsOf(cidrFamily(dst)),
  );
  return new Set(own.map(({ dst }) => formatIP(dst.network)));
}
