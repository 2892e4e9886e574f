// SPDX-License-Identifier: Apache-2.0
import { parseIPWithPrefix } from "../net/cidr.ts";
import { FakeRouteDataplane } from "./fake-route-dataplane.ts";
import { FakeTunnelDataplane } from "./fake-tunnel-dataplane.ts";
import { tunnelDataplaneContract } from "./tunnel-dataplane.contract.ts";

tunnelDataplaneContract("fake", async () => {
  const routes = new FakeRouteDataplane();
  const tunnels = new FakeTunnelDataplane(routes);
  return {
    routes,
    tunnels,
    others: {
      changeDevice: (change) => tunnels.changeDevice(change),
      replaceEntries: async (entries) => {
        for (const entry of entries) tunnels.put(entry);
        return entries.map(() => undefined);
      },
      deleteEntries: async (entries) => {
        for (const entry of entries) tunnels.remove(entry);
        return entries.map(() => undefined);
      },
    },
    addLink: async (name, addresses) => {
      const ifIndex = routes.addLink(name);
      for (const text of addresses) {
        const { ip, prefixLength } = parseIPWithPrefix(text);
        routes.addAddr(ifIndex, ip, prefixLength);
      }
      return ifIndex;
    },
    close: async () => {},
  };
});
