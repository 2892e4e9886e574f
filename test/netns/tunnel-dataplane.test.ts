// SPDX-License-Identifier: Apache-2.0
import { tunnelDataplaneContract } from "../../src/felix/tunnel-dataplane.contract.ts";
import { openRouteNamespace } from "./route-namespace.ts";

tunnelDataplaneContract("kernel", async () => {
  const namespace = openRouteNamespace();
  const { dataplane: routes, tunnels, othersTunnels: others, addLink, close } = namespace;
  return { routes, tunnels, others, addLink, close };
});
