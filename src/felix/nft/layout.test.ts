// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseIP } from "../../net/ip.ts";
import { layoutOf } from "./layout.ts";
import { type FilterSettings, IPIP, type Tunnel, VXLAN } from "./settings.ts";

const PLAIN: FilterSettings = { natOutgoing: true, natOutgoingExclusions: "IPPoolsOnly", randomFully: false };

function rulesOf(chain: string, settings: Partial<FilterSettings> = {}, tunnels: readonly Tunnel[] = []): string[] {
  const { chains } = layoutOf({ ...PLAIN, ...settings }, tunnels);
  return chains.find(({ name }) => name === chain)?.rules.map(({ text }) => text) ?? [];
}

describe("layoutOf()", () => {
  test("a packet of a pod ends in a drop, unless the route back or an allowed prefix lets it go", () => {
    expect(rulesOf("prerouting")).toEqual(['iifname "cali*" goto from-workload']);
    expect(rulesOf("from-workload")).toEqual([
      "ip daddr 127.0.0.0/8 counter name loopback-from-pod drop",
      "ip6 daddr { fe80::/10, ff02::/16 } icmpv6 type { 130, 131, 132, 133, 135, 136, 143 } accept",
      "ip6 saddr { ::, fe80::/10 } udp sport 546 udp dport 547 accept",
      "ip6 saddr { ::, fe80::/10 } counter name unknown-source drop",
      "fib saddr . iif oif exists accept",
      "iifname . ip saddr @allowed-sources-v4 accept",
      "iifname . ip6 saddr @allowed-sources-v6 accept",
      "counter name unknown-source drop",
    ]);
  });

  test("natOutgoing masquerades from NAT pools to what is in no pool", () => {
    expect(rulesOf("postrouting")).toEqual([
      "ip saddr @nat-pools-v4 ip daddr != @all-pools-v4 masquerade",
      "ip6 saddr @nat-pools-v6 ip6 daddr != @all-pools-v6 masquerade",
    ]);
    // With nothing to translate there is no chain, for whose sake the kernel would track every connection.
    const { chains } = layoutOf({ ...PLAIN, natOutgoing: false }, []);
    expect(chains.map(({ name }) => name)).toEqual(["prerouting", "from-workload"]);
  });

  test("natOutgoing by one link, and pods that may send packets of tunnels themselves", () => {
    expect(rulesOf("postrouting", { natOutgoingInterface: "eth*" })[0]).toBe(
      'ip saddr @nat-pools-v4 ip daddr != @all-pools-v4 oifname "eth*" masquerade',
    );
    const dropped = (settings: Partial<FilterSettings>): readonly string[] =>
      rulesOf("from-workload", settings, [VXLAN[4], IPIP]).filter((text) => text.includes("tunnel-from-pod"));
    expect(dropped({})).toHaveLength(2);
    expect(dropped({ tunnelsFromPods: ["VXLAN"] })).toEqual(["ip protocol 4 counter name tunnel-from-pod drop"]);
    expect(dropped({ tunnelsFromPods: ["VXLAN", "IPIP"] })).toEqual([]);
  });

  test("each setting of natOutgoing is in its rules", () => {
    const settings = {
      natPortRange: { min: 32_768, max: 60_999 },
      natOutgoingAddress: parseIP("2001:db8::7"),
      natOutgoingExclusions: "IPPoolsAndHostIPs",
      randomFully: true,
    } as const;
    const [from4, from6] = [
      "ip saddr @nat-pools-v4 ip daddr != @all-pools-v4 ip daddr != @nodes-v4",
      "ip6 saddr @nat-pools-v6 ip6 daddr != @all-pools-v6 ip6 daddr != @nodes-v6",
    ];
    expect(rulesOf("postrouting", settings)).toEqual([
      `${from4} meta l4proto { tcp, udp } masquerade to :32768-60999 fully-random`,
      `${from4} masquerade fully-random`,
      `${from6} meta l4proto { tcp, udp } snat ip6 to [2001:db8::7]:32768-60999 fully-random`,
      `${from6} snat ip6 to 2001:db8::7 fully-random`,
    ]);
  });

  test("with VXLAN, UDP that is masqueraded into a tunnel keeps to the wider side of its port", () => {
    const into = (device: string, nfproto: string): string =>
      `oifname "${device}" meta nfproto ${nfproto} fib saddr type local fib saddr . oif type != local`;
    expect(rulesOf("postrouting", { natOutgoing: false }, [VXLAN[4], IPIP])).toEqual([
      `${into("vxlan.calico", "ipv4")} meta l4proto udp masquerade to :4790-65535`,
      `${into("vxlan.calico", "ipv4")} masquerade`,
      `${into("tunl0", "ipv4")} meta l4proto udp masquerade to :4790-65535`,
      `${into("tunl0", "ipv4")} masquerade`,
    ]);
    expect(rulesOf("postrouting", { natOutgoing: false }, [IPIP])).toEqual([`${into("tunl0", "ipv4")} masquerade`]);
  });

  test("VXLAN packets are not tracked, coming and going; those of pods are dropped before", () => {
    const untracked = "meta nfproto ipv4 udp dport 4789 notrack";
    expect(rulesOf("prerouting", {}, [VXLAN[4], IPIP])).toEqual(['iifname "cali*" goto from-workload', untracked]);
    expect(rulesOf("output", {}, [VXLAN[4], IPIP])).toEqual([untracked]);
    expect(layoutOf(PLAIN, [IPIP]).chains.map(({ name }) => name)).not.toContain("output");
  });

  test("tunnel packets are dropped when pods send them, and when others than nodes do", () => {
    expect(rulesOf("input")).toEqual([]);
    expect(rulesOf("input", {}, [VXLAN[6], IPIP])).toEqual([
      "meta nfproto ipv6 udp dport 4789 ip6 saddr != @nodes-v6 counter name tunnel-from-stranger drop",
      "ip protocol 4 ip saddr != @nodes-v4 counter name tunnel-from-stranger drop",
    ]);
    const rules = rulesOf("from-workload", {}, [VXLAN[4]]);
    const guard = rules.indexOf("meta nfproto ipv4 udp dport 4789 counter name tunnel-from-pod drop");
    expect(guard).toBeGreaterThan(0);
    expect(guard).toBeLessThan(rules.indexOf("fib saddr . iif oif exists accept"));
  });
});
