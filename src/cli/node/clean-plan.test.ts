// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { AttachmentRecord } from "../../cni/types.ts";
import type { KernelLink, KernelRoute } from "../../felix/ports.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { parseMAC } from "../../net/mac.ts";
import { type CleanFacts, describeStep, planClean } from "./clean-plan.ts";

const VXLAN = { vni: 4096, port: 4789, learning: false };

function link(ifIndex: number, name: string, more: Partial<KernelLink> = {}): KernelLink {
  return { ifIndex, name, up: true, mtuBytes: 1500, ...more };
}

function route(dst: string, protocol: number, more: Partial<KernelRoute> = {}): KernelRoute {
  return { dst: parseCIDR(dst), type: "unicast", metric: 0, protocol, onlink: false, scope: "link", ...more };
}

const NETNS = { path: "/run/netns/x", identity: { dev: 1n, inode: 2n }, vantage: { mntns: 1n, pidns: 1n } };
const pod = { namespace: "default", name: "web" };

function whole(hostIface: string, hostIfIndex: number, bootID = "boot"): AttachmentRecord {
  const mac = parseMAC("02:00:00:00:00:01");
  const result = { host: { name: hostIface, mac }, container: { name: "eth0", mac } };
  const base = { handleID: "h", atMs: 1, pod, bootID, netns: NETNS, allocations: [], hostIface, hostIfIndex };
  // Only what a plan reads.
  return { ...base, state: "whole", result } as unknown as AttachmentRecord;
}

const NOTHING: CleanFacts = {
  links: [],
  addrs: [],
  routes: [],
  attachments: [],
  bootID: "boot",
  hasTable: false,
  confSteps: [],
  programs: [],
  paths: [],
};

function plan(facts: Partial<CleanFacts>): readonly string[] {
  return planClean({ ...NOTHING, ...facts }).map(describeStep);
}

describe("planClean()", () => {
  test("has nothing to do where there is nothing", () => {
    expect(plan({})).toEqual([]);
  });

  test("begins with what makes the runtime call us, and ends with what says what there was", () => {
    const facts: Partial<CleanFacts> = {
      confSteps: [
        { kind: "restoreConf", path: "/n/10-calico.conflist.gingham-bak", to: "10-calico.conflist" },
        { kind: "removeConf", path: "/n/10-gingham.conflist" },
      ],
      programs: ["/opt/cni/bin/gingham"],
      routes: [route("10.0.0.64/26", 80, { ifIndex: 2 })],
      hasTable: true,
      paths: ["/var/lib/gingham/attachments"],
    };
    const conf = [
      "network configuration /n/10-calico.conflist.gingham-bak gets its name 10-calico.conflist back",
      "network configuration /n/10-gingham.conflist",
    ];
    const own = ["table inet gingham of nftables", "/var/lib/gingham/attachments"];
    expect(plan({ ...facts, links: [link(2, "eth0")] })).toEqual([
      ...conf,
      "route 10.0.0.64/26 dev eth0 proto 80",
      "program /opt/cni/bin/gingham",
      ...own,
    ]);
    // Calico's configuration may name a plugin that we have installed.
    expect(planClean({ ...NOTHING, ...facts }, { keepsPods: true }).map(describeStep)).toEqual([...conf, ...own]);
  });

  test("takes links by record, name and index, and of this boot", () => {
    const attachments = [whole("cali1", 5), whole("cali2", 6), whole("cali3", 7), whole("cali4", 8, "earlier")].map(
      (record) => ({ contIface: "eth0", record }),
    );
    const links = [link(5, "cali1"), link(60, "cali2"), link(7, "other"), link(8, "cali4"), link(9, "cali9")];
    expect(plan({ links, attachments })).toEqual(["link cali1, of pod default/web, which loses its network"]);
  });

  test("takes the links of a DEL and of an ADD that did not end", () => {
    const releasing: AttachmentRecord = {
      state: "releasing",
      handleID: "h",
      atMs: 1,
      link: { bootID: "boot", hostIface: "cali1", hostIfIndex: 5 },
    };
    const executor = { pid: 1, startTicks: 1 };
    const intent = { state: "intent", handleID: "h", atMs: 1, bootID: "boot", netns: NETNS, executor } as const;
    const records: AttachmentRecord[] = [releasing, { ...intent, hostIface: "cali2" }, intent];
    const attachments = records.map((record) => ({ contIface: "eth0", record }));
    expect(plan({ links: [link(5, "cali1")], attachments })).toEqual([
      "link cali1",
      "link cali2 of an unfinished ADD, if it is there",
    ]);
  });

  test("takes routes of protocol 80 wherever they lead, and no others", () => {
    const routes = [
      route("10.0.0.0/26", 80, { type: "blackhole", metric: 5 }),
      route("10.0.0.5/32", 80, { ifIndex: 5 }),
      route("10.0.0.6/32", 3, { ifIndex: 5 }),
      route("10.9.0.0/16", 12, { ifIndex: 2 }),
      route("10.8.0.0/16", 4, { type: "blackhole" }),
      route("fd00::40/122", 80, { ifIndex: 2 }),
    ];
    expect(plan({ links: [link(2, "eth0"), link(5, "cali1")], routes })).toEqual([
      "route 10.0.0.5/32 dev cali1 proto 80",
      "route fd00::40/122 dev eth0 proto 80",
      "route blackhole 10.0.0.0/26 proto 80 metric 5",
    ]);
  });

  test("takes the tunnel address off the IP-in-IP device, which it knows by its own blocks, and nobody else's", () => {
    const links = [link(7, "tunl0", { ipip: {} })];
    const addr = (ip: string) => ({ ifIndex: 7, ip: parseIP(ip), prefixLength: 32 });
    const addrs = [addr("10.0.0.1"), addr("10.0.0.65")];
    const routes = [route("10.0.0.0/26", 80, { type: "blackhole" })];
    const [step] = planClean({ ...NOTHING, links, addrs, routes }).filter(({ kind }) => kind === "ipip");
    expect(step).toEqual({ kind: "ipip", changes: [{ kind: "deleteAddr", ...addr("10.0.0.1") }] });
    expect(plan({ links, addrs })).toEqual([]);
    expect(plan({ links, addrs: [addr("10.0.0.1")], routes })).toContain("tunnel address of link tunl0");
  });

  test("takes the VXLAN devices by name and kind", () => {
    const links = [
      link(7, "vxlan.calico", { vxlan: VXLAN }),
      link(8, "vxlan-v6.calico"),
      link(9, "flannel.1", { vxlan: VXLAN }),
    ];
    expect(plan({ links })).toEqual(["link vxlan.calico, with its neighbours and forwarding entries"]);
  });

  test("takes table and files at the end", () => {
    const attachments = [{ contIface: "eth0", record: whole("cali1", 5) }];
    const paths = ["/var/lib/gingham/attachments", "/run/gingham/agent.sock"];
    expect(plan({ links: [link(5, "cali1")], attachments, hasTable: true, paths }).slice(1)).toEqual([
      "table inet gingham of nftables",
      ...paths,
    ]);
  });
});
