// SPDX-License-Identifier: Apache-2.0
import { parseIPWithPrefix } from "../net/cidr.ts";
import { FakeRouteDataplane } from "./fake-route-dataplane.ts";
import { routeDataplaneContract } from "./route-dataplane.contract.ts";

routeDataplaneContract("fake", async () => {
  const dataplane = new FakeRouteDataplane();
  return {
    dataplane,
    others: {
      replaceRoutes: async (routes) => {
        for (const route of routes) dataplane.put(route);
        return routes.map((route) => ({ route }));
      },
      deleteRoutes: async (routes) => {
        for (const route of routes) dataplane.remove(route.dst, route.metric);
        return routes.map((route) => ({ route }));
      },
    },
    addLink: async (name, addresses) => {
      const ifIndex = dataplane.addLink(name);
      for (const address of addresses) {
        const { ip, prefixLength } = parseIPWithPrefix(address);
        dataplane.addAddr(ifIndex, ip, prefixLength);
      }
      return ifIndex;
    },
    setUp: async (ifIndex, up) => dataplane.setUp(ifIndex, up),
    deleteLink: async (ifIndex) => dataplane.deleteLink(ifIndex),
    close: async () => {},
  };
});
