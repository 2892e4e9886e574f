// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { FakeClock } from "../lib/fake-clock.ts";
import { type Family, parseIP } from "../net/ip.ts";
import { derivedMAC } from "./calc/vtep.ts";
import type { VTEP } from "./calc/vxlan.ts";
import { FakeRouteDataplane } from "./fake-route-dataplane.ts";
import { FakeTunnelDataplane } from "./fake-tunnel-dataplane.ts";
import { VXLAN_DEFAULTS } from "./managers/vxlan-manager.ts";
import { Tunnels, type VXLANNeed } from "./tunnels.ts";

const ADDRESSES = { 4: ["192.0.2.1", "10.0.0.1", "10.0.0.65"], 6: ["2001:db8::1", "fd00::1", "fd00::41"] } as const;

test("entries that cannot be read hold up neither the other family nor, within the turn, the routes", async () => {
  const kernel = new FakeRouteDataplane();
  const port = new FakeTunnelDataplane(kernel);
  const parent = { ifIndex: kernel.addLink("eth0") };
  const tunnels = new Tunnels({ port, settings: VXLAN_DEFAULTS, clock: new FakeClock(), random: () => 0 });
  const need = (family: Family): VXLANNeed => {
    const [nodeIP, tunnelIP, other] = ADDRESSES[family].map(parseIP);
    if (nodeIP === undefined || tunnelIP === undefined || other === undefined) throw new Error("no addresses");
    const vtep = (node: string, ip: typeof tunnelIP): VTEP => ({
      node,
      nodeIP,
      tunnelIP: ip,
      mac: derivedMAC(node, family),
    });
    const network = { family, local: vtep("node-a", tunnelIP), peers: [vtep("node-b", other)], notes: [] };
    return { network, parent, mtuBytes: 1400 };
  };
  const noIPIP = { end: undefined, mtuBytes: 1480, poolCIDRs: [] };
  const readLinks = async (): Promise<void> => tunnels.onLinks(await kernel.listLinks(), await kernel.listAddrs());
  await readLinks();
  await tunnels.applyDevices({ needs: () => ({ vxlan: { 4: need(4), 6: need(6) }, ipip: noIPIP }), readLinks });
  const broken = kernel.linkNamed("vxlan.calico")?.ifIndex;
  port.refuseListing = (ifIndex) => (ifIndex === broken ? new Error("RTM_GETNEIGH failed") : undefined);
  await tunnels.update();
  expect(port.entries.map(({ kind }) => kind)).toEqual(["neigh", "fdb"]);
  await expect(
    tunnels.sweep(
      () => false,
      () => {},
    ),
  ).rejects.toThrow("RTM_GETNEIGH failed");
  port.refuseListing = undefined;
  await tunnels.update();
  await tunnels.sweep(
    () => false,
    () => {},
  );
  expect(port.entries).toHaveLength(4);
});
