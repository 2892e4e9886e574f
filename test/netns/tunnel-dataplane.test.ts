// SPDX-License-Identifier: Apache-2.0
import { tunnelDataplaneContract } from "../../src/felix/tunnel-dataplane.contract.ts";
import { openRouteNamespace } from "./route-namespace.ts";

tunnelDataplaneContract("kernel", async () => {
  const namespace = openRouteNamespace();
  return {
    routes: namespace.dataplane,
    tunnels: namespace.tunnels,
    others: namespace.othersTunnels,
    addLink: (iface, addresses) => namespace.addLink(iface, addresses),
    close: () => namespace.close(),
  };
});
