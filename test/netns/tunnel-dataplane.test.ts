// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from "node:child_process";
import { tunnelDataplaneContract } from "../../src/felix/tunnel-dataplane.contract.ts";
import { openRouteNamespace, type RouteNamespace } from "./route-namespace.ts";

tunnelDataplaneContract("kernel", async () => {
  const namespace = openRouteNamespace();
  return {
    routes: namespace.dataplane,
    tunnels: namespace.tunnels,
    others: namespace.othersTunnels,
    addLink: (iface, addresses) => namespace.addLink(iface, addresses),
    hasIPIP: hasIPIP(namespace),
    close: () => namespace.close(),
  };
});

/** Whether `ip` can make such a device here; the virtual machine of `npm run test:vm` runs these tests where it can. */
function hasIPIP(namespace: RouteNamespace): boolean {
  const argv = ["-n", namespace.name, "link", "add", "probe", "type", "ipip", "remote", "192.0.2.99"];
  const { status, stderr } = spawnSync("ip", argv, { encoding: "utf8" });
  if (status !== 0 && !stderr.includes("Unknown device type")) throw new Error(`ip ${argv.join(" ")}: ${stderr}`);
  return status === 0;
}
