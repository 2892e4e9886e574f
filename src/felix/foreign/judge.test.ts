// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import type { KernelRoute } from "../ports.ts";
import { judgeForeign } from "./judge.ts";
import type { ConfigFile, Configured, ForeignFacts, ForwardChain, InputChain, OwnNeeds } from "./ports.ts";

const NEEDS: OwnNeeds = { pools: ["10.0.0.0/16"], families: [4] };

/** A machine on which nothing is wrong. */
function machine(
  more: Partial<Omit<ForeignFacts, "files">> & { readonly files?: Partial<ForeignFacts["files"]> } = {},
): ForeignFacts {
  return {
    programs: new Set(["systemd", "sshd"]),
    forwardChains: [],
    inputChains: [],
    legacyCalico: [],
    chains: [],
    links: [],
    routes: [],
    reversePath: new Map([["all", 0]]),
    forwarding: { 4: true, 6: false },
    ...more,
    files: {
      networkManager: [],
      networkd: [],
      firewalldTrusted: [],
      firewalldPolicies: [],
      ufw: [],
      sysctl: [],
      ...more.files,
    },
  };
}

const text = (content: string, path = "/etc/x.conf"): readonly ConfigFile[] => [{ path, text: content }];

function codes(facts: Parameters<typeof machine>[0], needs: OwnNeeds = NEEDS): readonly string[] {
  return judgeForeign(machine(facts), needs).map(({ code, subject }) => `${code} ${subject}`);
}

/** A program, a file of its, and whether it harms. */
const PROGRAMS: readonly [string, Configured, string, string | undefined][] = [
  ["NetworkManager", "networkManager", "", "NetworkManagerManages NetworkManager"],
  [
    "NetworkManager",
    "networkManager",
    "[keyfile]\nunmanaged-devices=interface-name:eth9",
    "NetworkManagerManages NetworkManager",
  ],
  [
    "NetworkManager",
    "networkManager",
    "#unmanaged-devices=interface-name:cali*",
    "NetworkManagerManages NetworkManager",
  ],
  ["NetworkManager", "networkManager", "[keyfile]\nunmanaged-devices += interface-name:cali*;mac:x", undefined],
  ["systemd-network", "networkd", "", "NetworkdRemovesRoutes systemd-networkd"],
  ["systemd-network", "networkd", "#ManageForeignRoutes=no", "NetworkdRemovesRoutes systemd-networkd"],
  ["systemd-network", "networkd", "[Network]\nManageForeignRoutes = false", undefined],
  [
    "systemd-network",
    "networkd",
    "ManageForeignRoutes=no\nManageForeignRoutes=yes",
    "NetworkdRemovesRoutes systemd-networkd",
  ],
];

describe("judgeForeign()", () => {
  test("has nothing to say about a machine where all is well", () => {
    expect(codes({})).toEqual([]);
  });

  test.each(PROGRAMS)("%s with %s %j: %s", (program, file, content, expected) => {
    const files = { [file]: text(content) };
    expect(codes({ files, programs: new Set([program]) })).toEqual(expected === undefined ? [] : [expected]);
    // Not running, it does no harm, whatever its files say.
    expect(codes({ files })).toEqual([]);
  });
});

describe("judgeForeign() on firewalld", () => {
  const ZONE = '<zone target="ACCEPT"><interface name="cali+"/></zone>';
  const POLICY = '<policy target="ACCEPT">\n  <ingress-zone name="ANY"/>\n  <egress-zone name="trusted"/>\n</policy>';
  const told = (zone: string, policy: string): string | undefined =>
    judgeForeign(
      machine({
        programs: new Set(["firewalld"]),
        files: { firewalldTrusted: text(zone), firewalldPolicies: text(policy) },
      }),
      NEEDS,
    )[0]?.message;

  test.each<[string, string, string, boolean]>([
    ["nothing", "", "", true],
    ["pods' interfaces, and a policy for what goes to them", ZONE, POLICY, false],
    ["pods' interfaces only", ZONE, "", true],
    ["the policy only", "", POLICY, true],
    ["the pool and the policy", '<zone><source address="10.0.0.0/8"/></zone>', POLICY, false],
    ["a part of the pool and the policy", '<zone><source address="10.0.0.0/17"/></zone>', POLICY, true],
    ["another interface and the policy", '<zone><interface name="eth0"/></zone>', POLICY, true],
    ["a policy that goes on", ZONE, POLICY.replace("ACCEPT", "CONTINUE"), true],
    ["a policy for some", ZONE, POLICY.replace("ANY", "home"), true],
  ])("with %s", (_, zone, policy, isTold) => {
    expect(told(zone, policy) !== undefined).toBe(isTold);
  });

  test("names the line that ends it", () => {
    expect(told("", "")).toBe(
      "firewalld rejects forwarded packets of pods: firewall-cmd --permanent --zone=trusted --add-interface=cali+ && firewall-cmd --permanent --new-policy=to-pods && firewall-cmd --permanent --policy=to-pods --set-target=ACCEPT && firewall-cmd --permanent --policy=to-pods --add-ingress-zone=ANY && firewall-cmd --permanent --policy=to-pods --add-egress-zone=trusted && firewall-cmd --reload",
    );
    expect(told(ZONE, "")).toContain("rejects packets that other nodes and clients send to pods: ");
  });

  test("of its own chain nothing more is told", () => {
    const chain = { family: "inet", table: "firewalld", chain: "filter_FORWARD" };
    const dropping: ForwardChain = { ...chain, policy: "drop", acceptsFrom: [], acceptsTo: [] };
    expect(codes({ programs: new Set(["firewalld"]), forwardChains: [dropping] })).toEqual([
      "FirewalldBlocks firewalld",
    ]);
  });
});

describe("judgeForeign() on chains that drop VXLAN", () => {
  const chain: InputChain = { family: "ip", table: "filter", chain: "INPUT", acceptsUDP: [{ min: 53, max: 53 }] };
  const WITH_VXLAN: OwnNeeds = { ...NEEDS, vxlan: { port: 4789, families: [4] } };
  const told = (more: Parameters<typeof machine>[0], needs = WITH_VXLAN): string | undefined =>
    judgeForeign(machine(more), needs).find(({ code }) => code === "TunnelDropped")?.message;

  test.each<[string, Partial<InputChain>, OwnNeeds, boolean]>([
    ["accepts other ports", {}, WITH_VXLAN, true],
    ["accepts its port", { acceptsUDP: [{ min: 4789, max: 4789 }] }, WITH_VXLAN, false],
    [
      "accepts more",
      {
        acceptsUDP: [
          { min: 53, max: 53 },
          { min: 0, max: 65_535 },
        ],
      },
      WITH_VXLAN,
      false,
    ],
    ["is of the other family", { family: "ip6" }, WITH_VXLAN, false],
    ["is of both families", { family: "inet" }, WITH_VXLAN, true],
    ["has a node without VXLAN", {}, NEEDS, false],
  ])("one that %s", (_, more, needs, isTold) => {
    expect(told({ inputChains: [{ ...chain, ...more }] }, needs) !== undefined).toBe(isTold);
  });

  test("the fix is that of whoever made it", () => {
    const fix = (more: Parameters<typeof machine>[0]) => told(more)?.replace(/.*not heard: /, "");
    expect(fix({ inputChains: [chain] })).toBe("iptables -I INPUT -p udp --dport 4789 -j ACCEPT");
    expect(fix({ inputChains: [chain], files: { ufw: text("ENABLED=yes\n") } })).toBe("ufw allow 4789/udp");
    const firewalld = { ...chain, family: "inet", table: "firewalld", chain: "filter_INPUT" };
    expect(fix({ inputChains: [firewalld], programs: new Set(["firewalld"]) })).toBe(
      "firewall-cmd --permanent --add-port=4789/udp && firewall-cmd --reload, in the zone of the link between nodes",
    );
    expect(fix({ inputChains: [{ ...chain, family: "inet", table: "mine", chain: "in" }] })).toBe(
      "nft insert rule inet mine in udp dport 4789 accept, and in the file that makes this table",
    );
  });
});

describe("judgeForeign() on chains that drop", () => {
  const chain: ForwardChain = {
    family: "ip",
    table: "filter",
    chain: "FORWARD",
    policy: "drop",
    acceptsFrom: [],
    acceptsTo: [],
  };
  const fix = (more: Parameters<typeof machine>[0]): string | undefined =>
    judgeForeign(machine(more), NEEDS)[0]?.message.replace(/.*: /, "");

  test.each<[string, Partial<ForwardChain>, boolean]>([
    ["drops and accepts nothing", {}, true],
    ["accepts what comes from pods only", { acceptsFrom: ["cali*"] }, true],
    ["accepts both", { acceptsFrom: ["eth0", "cali*"], acceptsTo: ["cali*"] }, false],
    ["accepts everything", { acceptsFrom: ["*"], acceptsTo: ["*"] }, false],
    ["accepts the pool, or more", { acceptsFrom: ["10.0.0.0/8"], acceptsTo: ["10.0.0.0/16"] }, false],
    ["accepts a part of the pool", { acceptsFrom: ["10.0.0.0/17"], acceptsTo: ["10.0.0.0/16"] }, true],
    [
      "accepts the pool one way, and pods' interfaces the other",
      { acceptsFrom: ["10.0.0.0/16"], acceptsTo: ["cali*"] },
      false,
    ],
    ["has no policy to drop", { policy: "accept" }, false],
    ["is of a family that no pool has", { family: "ip6" }, false],
    ["is of both families", { family: "inet", table: "mine", chain: "fwd" }, true],
    ["is a bridge's", { family: "bridge" }, false],
  ])("one that %s", (_, more, isTold) => {
    expect(codes({ forwardChains: [{ ...chain, ...more }] })).toHaveLength(isTold ? 1 : 0);
  });

  test("the fix is that of whoever made it", () => {
    expect(fix({ forwardChains: [chain] })).toBe(
      "iptables -I FORWARD -i cali+ -j ACCEPT && iptables -I FORWARD -o cali+ -j ACCEPT",
    );
    expect(fix({ forwardChains: [{ ...chain, isLegacy: true }] })).toContain("iptables-legacy -I FORWARD");
    expect(
      fix({ forwardChains: [chain], chains: [{ family: "ip", table: "filter", chain: "DOCKER-USER" }] }),
    ).toContain("iptables -I DOCKER-USER -i cali+ -j ACCEPT");
    expect(fix({ forwardChains: [chain], files: { ufw: text('ENABLED="yes"\n') } })).toBe(
      "ufw route allow in on cali+ && ufw route allow out on cali+",
    );
    expect(fix({ forwardChains: [chain], files: { ufw: text("ENABLED=no\n") } })).toContain("iptables -I FORWARD");
    expect(fix({ forwardChains: [{ ...chain, family: "inet", table: "mine", chain: "fwd" }] })).toBe(
      'nft insert rule inet mine fwd iifname "cali*" accept && nft insert rule inet mine fwd oifname "cali*" accept, and in the file that makes this table',
    );
  });
});

describe("judgeForeign() on kernel settings", () => {
  const vxlan = { ifIndex: 5, name: "vxlan.calico", up: true, mtuBytes: 1450 };

  test.each([
    [0, 0, false],
    [1, 0, true],
    [0, 1, true],
    [1, 2, false],
    [2, 1, false],
  ])("rp_filter all=%i and vxlan.calico=%i", (all, own, isTold) => {
    const reversePath = new Map([
      ["all", all],
      ["vxlan.calico", own],
      ["eth0", 1],
    ]);
    const eth0 = { ...vxlan, ifIndex: 2, name: "eth0" };
    expect(codes({ links: [eth0, vxlan], reversePath })).toEqual(isTold ? ["StrictReversePath vxlan.calico"] : []);
  });

  test("forwarding that is off, or will be with the next reading of a file", () => {
    const off = "ForwardingSwitchedOff net.ipv4.ip_forward";
    expect(codes({ forwarding: { 4: false, 6: false } })).toEqual([off]);
    expect(codes({ files: { sysctl: text("net.ipv4.ip_forward = 0") } })).toEqual([off]);
    expect(codes({ files: { sysctl: text("-net/ipv4/ip_forward=0") } })).toEqual([off]);
    expect(codes({ files: { sysctl: text("net.ipv4.ip_forward=0\nnet.ipv4.ip_forward=1") } })).toEqual([]);
    expect(codes({ files: { sysctl: text("# net.ipv4.ip_forward=0") } })).toEqual([]);
    expect(codes({}, { ...NEEDS, families: [4, 6] })).toEqual(["ForwardingSwitchedOff net.ipv6.conf.all.forwarding"]);
  });
});

describe("judgeForeign() on Calico", () => {
  const route = (ifIndex: number, protocol: number): KernelRoute => ({
    dst: parseCIDR(`10.0.0.${ifIndex}/32`),
    type: "unicast",
    metric: 0,
    protocol,
    ifIndex,
    onlink: false,
    scope: "link",
  });
  const link = (ifIndex: number, name: string) => ({ ifIndex, name, up: true, mtuBytes: 1500 });
  const left = {
    links: [link(6, "cali6"), link(7, "cali7"), link(8, "eth1"), link(9, "vxlan.calico"), link(10, "wireguard.cali")],
    routes: [
      route(6, 3),
      route(7, 3),
      route(8, 3),
      route(7, 80),
      { ...route(7, 3), metric: 1024 },
      { ...route(9, 3), gateway: parseIP("10.0.9.0") },
      route(9, 80),
      route(9, 4),
    ],
    chains: [
      { family: "ip", table: "calico", chain: "filter-FORWARD" },
      { family: "ip", table: "calico", chain: "filter-cali-x" },
      { family: "arp", table: "calico-arp", chain: "filter-OUTPUT" },
      { family: "ip", table: "filter", chain: "cali-FORWARD" },
      { family: "ip", table: "filter", chain: "FORWARD" },
    ],
  };

  test("tells of what its agent left, and not of what is ours or another's", () => {
    const [finding, ...more] = judgeForeign(machine(left), NEEDS);
    expect(more).toEqual([]);
    expect(finding?.message).toBe(
      "A Calico agent has left routes of protocol 3 beside ours (1), routes of protocol 3 into the tunnel (1), table ip calico of nftables, table arp calico-arp of nftables, chains cali-* of iptables (1), device wireguard.cali: gingham node clean --calico-leftovers shows them, and removes them when you agree",
    );
  });

  test("a tunnel that our agent has no routes into yet is still in use", () => {
    const routes = [{ ...route(9, 3), gateway: parseIP("10.0.9.0") }];
    expect(codes({ links: left.links.slice(0, 4), routes })).toEqual([]);
  });

  test("while its agent runs, that is what it tells", () => {
    expect(codes({ ...left, programs: new Set(["calico-node"]) })).toEqual(["CalicoAgentRuns calico-node"]);
  });
});
