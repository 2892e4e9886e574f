// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import type { RouteDataplane, TunnelDataplane } from "../../src/felix/ports.ts";
import type { RouteDataplaneHarness } from "../../src/felix/route-dataplane.contract.ts";
import { openConnIn, openNetns, withNetns } from "../../src/netlink/netns.ts";
import { KernelRouteDataplane } from "../../src/netlink/ops/route-dataplane.ts";
import { KernelTunnelDataplane } from "../../src/netlink/ops/tunnel-dataplane.ts";

let count = 0;

/** A network namespace of the test's own, and the main table in it. */
export interface RouteNamespace extends RouteDataplaneHarness {
  readonly name: string;
  readonly tunnels: TunnelDataplane;
  readonly othersTunnels: TunnelDataplane;
  /** Runs `ip` inside; a missing privilege fails here, with ip's own words. */
  ip(...args: readonly string[]): string;
}

/** Makes a namespace whose name begins with `fel-`, which tells leftovers. `close` deletes it. */
export function openRouteNamespace(): RouteNamespace {
  const name = `fel-${process.pid}-${count++}`;
  execFileSync("ip", ["netns", "add", name]);
  const path = `/run/netns/${name}`;
  const netns = openNetns(path);
  const [ownConn, othersConn] = [openConnIn(path), openConnIn(path)];
  const tunnels = new KernelTunnelDataplane(ownConn);
  const own = new KernelRouteDataplane(ownConn, { tunnels: tunnels.watched });
  const others = new KernelRouteDataplane(othersConn);
  const ip = (...args: readonly string[]): string => execFileSync("ip", ["-n", name, ...args], { encoding: "utf8" });
  const nameOf = async (ifIndex: number): Promise<string> =>
    (await own.listLinks()).find((link) => link.ifIndex === ifIndex)?.name ?? "";
  const dataplane: RouteDataplane = {
    listRoutes: (family) => own.listRoutes(family),
    listLinks: () => own.listLinks(),
    listAddrs: () => own.listAddrs(),
    replaceRoutes: (routes) => own.replaceRoutes(routes),
    deleteRoutes: (routes) => own.deleteRoutes(routes),
    // The monitor opens a socket of its own, in the thread's namespace.
    watch: (onChange) => withNetns(netns, () => own.watch(onChange)),
  };
  ip("link", "set", "lo", "up");
  return {
    name,
    ip,
    dataplane,
    others,
    tunnels,
    othersTunnels: new KernelTunnelDataplane(othersConn),
    addLink: async (iface, addresses) => {
      // A veth's end has a carrier only while the other end is up.
      ip("link", "add", iface, "type", "veth", "peer", "name", `${iface.slice(0, 13)}-p`);
      ip("link", "set", `${iface.slice(0, 13)}-p`, "up");
      ip("link", "set", iface, "up");
      for (const address of addresses) {
        ip("addr", "add", address, "dev", iface, ...(address.includes(":") ? ["nodad"] : []));
      }
      return Number(ip("-o", "link", "show", "dev", iface).split(":")[0]);
    },
    setUp: async (ifIndex, up) => void ip("link", "set", await nameOf(ifIndex), up ? "up" : "down"),
    deleteLink: async (ifIndex) => void ip("link", "delete", await nameOf(ifIndex)),
    close: async () => {
      own.close();
      others.close();
      netns[Symbol.dispose]();
      execFileSync("ip", ["netns", "delete", name]);
    },
  };
}
