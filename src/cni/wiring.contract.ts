// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hostCIDR, parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import type { PodWiring, WiringPlan } from "./ports.ts";

/** A kernel, real or not, to hold a PodWiring to its contract in. */
export interface WiringBench extends AsyncDisposable {
  readonly wiring: PodWiring;
  /** Makes a namespace and returns its path; a name that was used before gives the same path. */
  addNetns(name: string): Promise<string>;
  removeNetns(name: string): Promise<void>;
  /** An interface in the namespace that is not ours. */
  addForeignIface(name: string, iface: string): Promise<void>;
  /** Index of a host link, or undefined when there is none. */
  hostIfIndexOf(hostIface: string): Promise<number | undefined>;
}

/** What every PodWiring must do; the fake and the kernel run the same lines. */
export function describeWiring(name: string, setUp: () => Promise<WiringBench>): void {
  describe(`PodWiring: ${name}`, () => {
    let bench: WiringBench;
    beforeAll(async () => {
      bench = await setUp();
    });
    afterAll(async () => {
      await bench[Symbol.asyncDispose]();
    });

    it("identifyNetns() tells namespaces apart and the same one alike", async () => {
      const [a, b] = [await bench.addNetns("id-a"), await bench.addNetns("id-b")];
      const first = await bench.wiring.identifyNetns(a);
      expect(await bench.wiring.identifyNetns(a)).toEqual(first);
      expect(await bench.wiring.identifyNetns(b)).not.toEqual(first);
    });

    it("identifyNetns() throws NetnsGone for a path that is none", async () => {
      const path = await bench.addNetns("gone");
      await bench.removeNetns("gone");
      await expect(bench.wiring.identifyNetns(path)).rejects.toMatchObject({ code: "NetnsGone" });
    });

    it("wire() makes the link and tells its index, unwire() deletes it once", async () => {
      const wired = await bench.wiring.wire(planFor(await bench.addNetns("one"), "calict000000001"));
      expect(await bench.hostIfIndexOf("calict000000001")).toBe(wired.hostIfIndex);
      expect(wired.mtuBytes).toBe(1400);
      expect(wired.contMAC).toMatch(/^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/);
      const link = { hostIface: "calict000000001", hostIfIndex: wired.hostIfIndex };
      expect(await bench.wiring.unwire(link)).toBe(true);
      expect(await bench.hostIfIndexOf("calict000000001")).toBeUndefined();
      expect(await bench.wiring.unwire(link)).toBe(false);
    });

    it("wire() replaces the link of the pod's older sandbox, which a late unwire() then cannot touch", async () => {
      const older = await bench.wiring.wire(planFor(await bench.addNetns("older"), "calict000000002"));
      const newer = await bench.wiring.wire(planFor(await bench.addNetns("newer"), "calict000000002"));
      expect(newer.hostIfIndex).not.toBe(older.hostIfIndex);
      const stale = { hostIface: "calict000000002", hostIfIndex: older.hostIfIndex };
      expect(await bench.wiring.unwire(stale)).toBe(false);
      expect(await bench.hostIfIndexOf("calict000000002")).toBe(newer.hostIfIndex);
      await bench.wiring.unwire({ hostIface: "calict000000002", hostIfIndex: newer.hostIfIndex });
    });

    it("wire() twice in one namespace ends with one link", async () => {
      const plan = planFor(await bench.addNetns("twice"), "calict000000003");
      await bench.wiring.wire(plan);
      const second = await bench.wiring.wire(plan);
      expect(await bench.hostIfIndexOf("calict000000003")).toBe(second.hostIfIndex);
      await bench.wiring.unwire({ hostIface: "calict000000003", hostIfIndex: second.hostIfIndex });
    });

    it("wire() refuses a name that is taken inside the pod, and leaves nothing", async () => {
      const netns = await bench.addNetns("taken");
      await bench.addForeignIface("taken", "eth0");
      await expect(bench.wiring.wire(planFor(netns, "calict000000004"))).rejects.toMatchObject({ code: "IfaceExists" });
      expect(await bench.hostIfIndexOf("calict000000004")).toBeUndefined();
    });

    it("wire() throws NetnsGone and leaves nothing when the namespace is gone", async () => {
      const netns = await bench.addNetns("dead");
      await bench.removeNetns("dead");
      await expect(bench.wiring.wire(planFor(netns, "calict000000005"))).rejects.toMatchObject({ code: "NetnsGone" });
      expect(await bench.hostIfIndexOf("calict000000005")).toBeUndefined();
    });

    it("unwireFromNetns() deletes the pair of exactly this namespace and names", async () => {
      const netns = await bench.addNetns("intent");
      const identity = await bench.wiring.identifyNetns(netns);
      const hostIface = "calict000000006";
      const pod = { netns, identity, contIface: "eth0", hostIface };
      expect(await bench.wiring.unwireFromNetns(pod)).toBe(false);
      const wired = await bench.wiring.wire(planFor(netns, hostIface));
      for (const other of [
        { ...pod, contIface: "eth1" },
        { ...pod, hostIface: "calict000000009" },
        { ...pod, identity: { dev: identity.dev, inode: identity.inode + 1_000_000n } },
      ]) {
        expect(await bench.wiring.unwireFromNetns(other)).toBe(false);
        expect(await bench.hostIfIndexOf(hostIface)).toBe(wired.hostIfIndex);
      }
      expect(await bench.wiring.unwireFromNetns(pod)).toBe(true);
      expect(await bench.hostIfIndexOf(hostIface)).toBeUndefined();
    });

    it("unwireFromNetns() is a no-op when the namespace is gone", async () => {
      const netns = await bench.addNetns("vanished");
      const identity = await bench.wiring.identifyNetns(netns);
      await bench.removeNetns("vanished");
      const pod = { netns, identity, contIface: "eth0", hostIface: "calict000000007" };
      expect(await bench.wiring.unwireFromNetns(pod)).toBe(false);
    });

    it("inspect() tells of a wired pod what wire() made", async () => {
      const plan = planFor(await bench.addNetns("seen"), "calict000000008");
      const { ips, hostIface } = plan;
      const wired = await bench.wiring.wire(plan);
      const facts = await bench.wiring.inspect({ netns: plan.netns, contIface: "eth0", hostIface, ips });
      expect(facts.hostLink).toEqual({
        ifIndex: wired.hostIfIndex,
        mac: "ee:ee:ee:ee:ee:ee",
        mtuBytes: 1400,
        isUp: true,
        peerIfIndex: facts.contLink?.ifIndex,
      });
      expect(facts.contLink).toMatchObject({
        mac: wired.contMAC,
        mtuBytes: 1400,
        isUp: true,
        peerIfIndex: wired.hostIfIndex,
      });
      expect(facts.hostAddrs).toEqual([{ ip: parseIP("fe80::ecee:eeff:feee:eeee"), prefixLength: 64 }]);
      const [v4, v6] = ips;
      expect(facts.contAddrs).toEqual(
        expect.arrayContaining([
          { ip: v4, prefixLength: 32 },
          { ip: v6, prefixLength: 128 },
        ]),
      );
      expect(facts.contRoutes).toEqual(
        expect.arrayContaining([
          { dst: parseCIDR("169.254.1.1/32"), dev: "eth0", protocol: 3, scope: "link" },
          contRoute("0.0.0.0/0", "169.254.1.1"),
          contRoute("::/0", "fe80::ecee:eeff:feee:eeee"),
        ]),
      );
      expect(facts.hostRoutes).toEqual(
        ips.map((ip) => ({ ip, route: { dst: hostCIDR(ip), dev: hostIface, protocol: 80, scope: "link" } })),
      );
      const settings = facts.hostSysctls.map(({ path }) => path);
      expect(settings).toContain(`net/ipv4/conf/${hostIface}/proxy_arp`);
      expect(settings).toContain(`net/ipv6/conf/${hostIface}/proxy_ndp`);
      for (const { path, expected, actual } of facts.hostSysctls) expect(actual, path).toBe(expected);
      await bench.wiring.unwire({ hostIface, hostIfIndex: wired.hostIfIndex });
    });

    it("inspect() says of what is missing that it is, and throws NetnsGone without a namespace", async () => {
      const netns = await bench.addNetns("blank");
      const { ips } = planFor(netns, "");
      const query = { netns, contIface: "eth0", hostIface: "calict00000000a", ips };
      const { hostSysctls, ...facts } = await bench.wiring.inspect(query);
      expect(facts).toEqual({
        hostAddrs: [],
        contAddrs: [],
        contRoutes: [],
        hostRoutes: ips.map((ip) => ({ ip })),
      });
      expect(hostSysctls.filter(({ actual }) => actual !== undefined)).toEqual([]);
      expect(hostSysctls.length).toBeGreaterThan(0);
      await bench.removeNetns("blank");
      await expect(bench.wiring.inspect(query)).rejects.toMatchObject({ code: "NetnsGone" });
    });
  });
}

function contRoute(dst: string, gateway: string): object {
  return { dst: parseCIDR(dst), dev: "eth0", gateway: parseIP(gateway), protocol: 3, scope: "universe" };
}

function planFor(netns: string, hostIface: string): WiringPlan {
  return {
    netns,
    contIface: "eth0",
    hostIface,
    ips: [parseIP("10.244.77.65"), parseIP("fd00:10:244::41")],
    mtuBytes: 1400,
    routes: [parseCIDR("0.0.0.0/0"), parseCIDR("::/0")],
    allowIPForwarding: false,
  };
}
