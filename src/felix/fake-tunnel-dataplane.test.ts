// SPDX-License-Identifier: Apache-2.0
import { parseIPWithPrefix } from "../net/cidr.ts";
import { FakeRouteDataplane } from "./fake-route-dataplane.ts";
import { FakeTunnelDataplane } from "./fake-tunnel-dataplane.ts";
import { type TunnelDataplaneHarness, tunnelDataplaneContract } from "./tunnel-dataplane.contract.ts";

for (const hasIPIP of [true, false])
  tunnelDataplaneContract(hasIPIP ? "fake" : "fake, no IP-in-IP", () => open(hasIPIP));

async function open(hasIPIP: boolean): Promise<TunnelDataplaneHarness> {
  const routes = new FakeRouteDataplane();
  const tunnels = new FakeTunnelDataplane(routes);
  tunnels.hasIPIP = hasIPIP;
  return {
    hasIPIP,
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
}
