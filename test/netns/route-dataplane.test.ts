// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { routeDataplaneContract } from "../../src/felix/route-dataplane.contract.ts";
import { openConnIn, openNetns, withNetns } from "../../src/netlink/netns.ts";
import { KernelRouteDataplane } from "../../src/netlink/ops/route-dataplane.ts";

let count = 0;

/** Runs `ip` inside the namespace; a missing privilege fails here, with ip's own words. */
function ip(netns: string, ...args: string[]): string {
  return execFileSync("ip", ["-n", netns, ...args], { encoding: "utf8" });
}

routeDataplaneContract("kernel", async () => {
  const name = `fel-${process.pid}-${count++}`;
  execFileSync("ip", ["netns", "add", name]);
  const path = `/run/netns/${name}`;
  const netns = openNetns(path);
  const own = new KernelRouteDataplane(openConnIn(path));
  const others = new KernelRouteDataplane(openConnIn(path));
  ip(name, "link", "set", "lo", "up");
  return {
    others,
    dataplane: {
      listRoutes: (family) => own.listRoutes(family),
      listLinks: () => own.listLinks(),
      listAddrs: () => own.listAddrs(),
      replaceRoutes: (routes) => own.replaceRoutes(routes),
      deleteRoutes: (routes) => own.deleteRoutes(routes),
      // The monitor opens a socket of its own, in the thread's namespace.
      watch: (onChange) => withNetns(netns, () => own.watch(onChange)),
    },
    addLink: async (iface, addresses) => {
      // A veth's end has a carrier only while the other end is up.
      ip(name, "link", "add", iface, "type", "veth", "peer", "name", "far0");
      ip(name, "link", "set", "far0", "up");
      ip(name, "link", "set", iface, "up");
      for (const address of addresses) {
        ip(name, "addr", "add", address, "dev", iface, ...(address.includes(":") ? ["nodad"] : []));
      }
      return Number(ip(name, "-o", "link", "show", "dev", iface).split(":")[0]);
    },
    setUp: async (ifIndex, up) => {
      const link = (await own.listLinks()).find((l) => l.ifIndex === ifIndex);
      ip(name, "link", "set", link?.name ?? "", up ? "up" : "down");
    },
    deleteLink: async (ifIndex) => {
      const link = (await own.listLinks()).find((l) => l.ifIndex === ifIndex);
      ip(name, "link", "delete", link?.name ?? "");
    },
    close: async () => {
      own.close();
      others.close();
      netns[Symbol.dispose]();
      execFileSync("ip", ["netns", "delete", name]);
    },
  };
});
