// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseCIDR } from "../net/cidr.ts";
import { bitsOf, familyOf, parseIP } from "../net/ip.ts";
import { parseMAC } from "../net/mac.ts";
import { isKindUnsupported } from "./errors.ts";
import { readIPIPDevice } from "./managers/ipip-manager.ts";
import { formatEntry, readDevices } from "./managers/vxlan-manager.ts";
import { IPIP_DEVICE } from "./ownership.ts";
import type { RouteDataplane, TunnelDataplane, TunnelEntry, VXLANDevice } from "./ports.ts";

/** A kernel to try a TunnelDataplane on: a network namespace of the test's own, or the fake. */
export interface TunnelDataplaneHarness {
  readonly tunnels: TunnelDataplane;
  readonly routes: Pick<RouteDataplane, "listLinks" | "listAddrs" | "watch">;
  /** The same kernel through another socket: what other programs do. */
  readonly others: Pick<TunnelDataplane, "changeDevice" | "replaceEntries" | "deleteEntries">;
  /** Whether the kernel has IP-in-IP. */
  readonly hasIPIP: boolean;
  /** Makes a link that is up, with addresses (`192.0.2.1/24`) of either family. Resolves to its index. */
  addLink(name: string, addresses: readonly string[]): Promise<number>;
  close(): Promise<void>;
}

const MAC_A = parseMAC("66:00:00:00:00:0a");
const MAC_B = parseMAC("66:00:00:00:00:0b");

const FAMILIES = {
  4: {
    name: "vxlan.calico",
    node: "192.0.2.1",
    own: "10.99.0.1",
    peer: "10.99.1.1",
    remotes: ["192.0.2.2", "192.0.2.3"],
  },
  6: {
    name: "vxlan-v6.calico",
    node: "2001:db8::1",
    own: "fd99::1",
    peer: "fd99::1:1",
    remotes: ["2001:db8::2", "2001:db8::3"],
  },
} as const;

/** The suite that every TunnelDataplane passes, so that the fake kernel cannot lie. */
export function tunnelDataplaneContract(name: string, open: () => Promise<TunnelDataplaneHarness>): void {
  describe(`TunnelDataplane (${name})`, () => {
    let harness: TunnelDataplaneHarness;
    let parentIfIndex: number;

    beforeEach(async () => {
      harness = await open();
      parentIfIndex = await harness.addLink("eth0", ["192.0.2.1/24", "2001:db8::1/64"]);
    });
    afterEach(async () => await harness.close());

    function deviceOf(family: 4 | 6): VXLANDevice {
      const { name: device, node } = FAMILIES[family];
      const localIP = parseIP(node);
      const mtuBytes = family === 4 ? 1450 : 1430;
      return { name: device, vni: 4096, port: 4789, localIP, parentIfIndex, learning: false, mac: MAC_A, mtuBytes };
    }
    async function read(family: 4 | 6) {
      const [links, addrs] = await Promise.all([harness.routes.listLinks(), harness.routes.listAddrs()]);
      return readDevices(links, addrs).devices.get(FAMILIES[family].name);
    }
    async function make(family: 4 | 6): Promise<number> {
      await harness.tunnels.changeDevice({ kind: "create", device: deviceOf(family) });
      const made = await read(family);
      if (made === undefined) throw new Error("no device");
      return made.ifIndex;
    }
    async function entries(ifIndex: number): Promise<string[]> {
      return (await harness.tunnels.listEntries(ifIndex)).map(formatEntry).toSorted();
    }

    for (const family of [4, 6] as const) {
      const { own, peer, remotes } = FAMILIES[family];
      const [remote = "", moved = ""] = remotes;

      test(`makes the device of IPv${family}, changes it, gives it an address, and deletes it`, async () => {
        const ifIndex = await make(family);
        const device = deviceOf(family);
        expect(await read(family)).toEqual({ ...device, ifIndex, up: true, addrs: [] });
        await expect(harness.tunnels.changeDevice({ kind: "create", device })).rejects.toThrow(/EEXIST/);
        const ip = parseIP(own);
        const addr = { ip, prefixLength: bitsOf(familyOf(ip)) };
        await harness.tunnels.changeDevice({ kind: "addAddr", ifIndex, ...addr });
        await harness.tunnels.changeDevice({ kind: "set", ifIndex, mtuBytes: 1400, mac: MAC_B });
        expect(await read(family)).toMatchObject({ mtuBytes: 1400, mac: MAC_B, up: true, addrs: [addr] });
        await harness.tunnels.changeDevice({ kind: "deleteAddr", ifIndex, ...addr });
        await harness.tunnels.changeDevice({ kind: "deleteAddr", ifIndex, ...addr });
        expect(await read(family)).toMatchObject({ addrs: [] });
        await harness.tunnels.changeDevice({ kind: "delete", ifIndex });
        await harness.tunnels.changeDevice({ kind: "delete", ifIndex });
        expect(await read(family)).toBeUndefined();
      });

      test(`writes, replaces and deletes entries of IPv${family}; one bad one stops none`, async () => {
        const ifIndex = await make(family);
        expect(await entries(ifIndex)).toEqual([]);
        const neigh: TunnelEntry = { kind: "neigh", ifIndex, ip: parseIP(peer), mac: MAC_B };
        const fdb: TunnelEntry = { kind: "fdb", ifIndex, mac: MAC_B, remote: parseIP(remote) };
        const nowhere: TunnelEntry = { ...neigh, ifIndex: 9999 };
        const outcomes = await harness.tunnels.replaceEntries([nowhere, neigh, fdb]);
        expect(outcomes.map((error) => error?.message.includes("ENODEV"))).toEqual([true, undefined, undefined]);
        expect(await entries(ifIndex)).toEqual([formatEntry(fdb), formatEntry(neigh)]);
        const others: TunnelEntry[] = [
          { ...neigh, mac: MAC_A },
          { ...fdb, remote: parseIP(moved) },
        ];
        expect(await harness.tunnels.replaceEntries(others)).toEqual([undefined, undefined]);
        expect(await entries(ifIndex)).toEqual(others.map(formatEntry).toSorted());
        await harness.tunnels.changeDevice({ kind: "set", ifIndex, mtuBytes: 1400 });
        expect(await entries(ifIndex)).toEqual(others.map(formatEntry).toSorted());
        // Even the MAC that it has takes the neighbours away.
        await harness.tunnels.changeDevice({ kind: "set", ifIndex, mtuBytes: 1400, mac: MAC_A });
        expect(await entries(ifIndex)).toEqual(others.filter(({ kind }) => kind === "fdb").map(formatEntry));
        expect(await harness.tunnels.replaceEntries(others)).toEqual([undefined, undefined]);
        const gone = [...others, fdb];
        expect(await harness.tunnels.deleteEntries(gone)).toEqual([undefined, undefined, undefined]);
        expect(await entries(ifIndex)).toEqual([]);
      });
    }

    test("makes the IP-in-IP device, gives it an address and an MTU, and puts it down; or says that there is none", async () => {
      const { tunnels, routes } = harness;
      const making = tunnels.changeDevice({ kind: "createIPIP", name: IPIP_DEVICE });
      if (!harness.hasIPIP) {
        await expect(making).rejects.toSatisfy(isKindUnsupported);
        return;
      }
      await making;
      // It comes with the module in any new namespace, so making it again is nothing.
      await tunnels.changeDevice({ kind: "createIPIP", name: IPIP_DEVICE });
      const device = async (): Promise<ReturnType<typeof readIPIPDevice>> =>
        readIPIPDevice(await routes.listLinks(), await routes.listAddrs(), {
          poolCIDRs: [parseCIDR("10.99.0.0/16")],
          known: new Set(),
        });
      const made = await device();
      if (made === undefined || made === "taken") throw new Error(`no device, but ${made}`);
      const { ifIndex } = made;
      expect(made).toMatchObject({ up: false, ownIPs: [], hasOthers: false });
      const addr = { ip: parseIP("10.99.0.1"), prefixLength: 32 };
      const other = { ip: parseIP("198.51.100.1"), prefixLength: 32 };
      for (const each of [addr, other]) await tunnels.changeDevice({ kind: "addAddr", ifIndex, ...each });
      await tunnels.changeDevice({ kind: "set", ifIndex, mtuBytes: 1400 });
      expect(await device()).toEqual({ ifIndex, up: true, mtuBytes: 1400, ownIPs: [addr.ip], hasOthers: true });
      const seen = new Set<string>();
      const stop = routes.watch(({ kind }) => seen.add(kind));
      await harness.others.changeDevice({ kind: "deleteAddr", ifIndex, ...addr });
      await expect.poll(() => [...seen]).toContain("tunnel");
      stop();
      await tunnels.changeDevice({ kind: "down", ifIndex });
      await tunnels.changeDevice({ kind: "deleteAddr", ifIndex, ...addr });
      expect(await device()).toMatchObject({ up: false, ownIPs: [] });
    });

    test("lists nothing of a device that is gone", async () => {
      const ifIndex = await make(4);
      await harness.tunnels.changeDevice({ kind: "delete", ifIndex });
      expect(await entries(ifIndex)).toEqual([]);
    });

    test("tells of a device that was listed, and of its addresses, apart from other links", async () => {
      const ifIndex = await make(4);
      await harness.tunnels.listEntries(ifIndex);
      const seen = new Set<string>();
      const stop = harness.routes.watch(({ kind }) => seen.add(kind));
      await harness.others.changeDevice({ kind: "addAddr", ifIndex, ip: parseIP("10.99.0.9"), prefixLength: 32 });
      await expect.poll(() => [...seen]).toContain("tunnel");
      seen.clear();
      await harness.others.changeDevice({ kind: "delete", ifIndex });
      await expect.poll(() => [...seen]).toContain("tunnel");
      stop();
    });

    test("tells when others change entries of a device that was listed", async () => {
      const ifIndex = await make(4);
      const neigh: TunnelEntry = { kind: "neigh", ifIndex, ip: parseIP("10.99.1.1"), mac: MAC_B };
      const fdb: TunnelEntry = { kind: "fdb", ifIndex, mac: MAC_B, remote: parseIP("192.0.2.2") };
      await harness.tunnels.replaceEntries([neigh, fdb]);
      await harness.tunnels.listEntries(ifIndex);
      let seen = 0;
      const stop = harness.routes.watch(({ kind }) => {
        if (kind === "neigh") seen++;
      });
      await harness.others.deleteEntries([fdb]);
      await expect.poll(() => seen).toBe(1);
      await harness.others.replaceEntries([{ ...neigh, mac: MAC_A }]);
      await expect.poll(() => seen).toBe(2);
      stop();
    });
  });
}
