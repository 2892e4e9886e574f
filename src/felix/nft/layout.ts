// SPDX-License-Identifier: Apache-2.0
import { type Family, familyOf, formatIP, type IP } from "../../net/ip.ts";
import { WORKLOAD_IFACE_PREFIX } from "../ownership.ts";
import { type FilterSettings, type Tunnel, VXLAN_PORT } from "./settings.ts";
import type { Chain, Layout, Rule, SetType } from "./table.ts";

/** Names of the sets of each family. */
export const SETS = {
  /** CIDRs of the pools whose traffic is masqueraded when it leaves the cluster. */
  natPools: { 4: "nat-pools-v4", 6: "nat-pools-v6" },
  /** CIDRs of all pools: what is not masqueraded. */
  allPools: { 4: "all-pools-v4", 6: "all-pools-v6" },
  /** Addresses of the nodes, while a rule needs them. */
  nodes: { 4: "nodes-v4", 6: "nodes-v6" },
  /** By interface: what a pod may send from beside its own addresses. */
  allowedSources: { 4: "allowed-sources-v4", 6: "allowed-sources-v6" },
} as const;

export const COUNTERS = {
  /** Of packets from a pod's interface to whose source no route leads back over it. */
  unknownSource: "unknown-source",
  /** Of packets from a pod to the node's own loopback. */
  loopbackFromPod: "loopback-from-pod",
  /** Of packets by which a pod would reach into the network between nodes. */
  tunnelFromPod: "tunnel-from-pod",
  /** Of tunnel packets from machines that are no nodes. */
  tunnelFromStranger: "tunnel-from-stranger",
} as const;

/** NF_IP_PRI_RAW: before connection tracking, so that what is dropped leaves no entry. */
const RAW = -300;
const FILTER = 0;
/** After kube-proxy's and portmap's (100), whose choice of source counts. Source: calico-interop 4.12. */
const AFTER_SRCNAT = 110;

/** MLD's query, report, done and its version 2's report; RS, NS, NA. Of routers (RA, redirect) a pod is none. Source: RFC 4861, RFC 3810. */
const LINK_ICMPV6 = "{ 130, 131, 132, 133, 135, 136, 143 }";

/** The unspecified address, and what each link has for itself. */
const NO_ROUTE_TELLS = "{ ::, fe80::/10 }";

const WORD = { 4: "ip", 6: "ip6" } as const;
const FAMILIES = [4, 6] as const;

/**
 * The table without its elements.
 *
 * A packet from a pod's interface goes on only if the kernel's own route back to its source leads over that interface: the
 * host route of the pod, which ADD writes last and DEL's link takes along. So an interface without an endpoint, a pod
 * before its ADD is complete, and a source that is another's are one case, and nothing is written here for any pod.
 *
 * @param tunnels those that any pool uses
 */
export function layoutOf(settings: FilterSettings, tunnels: readonly Tunnel[]): Layout {
  const sets: Record<string, SetType> = {};
  for (const family of FAMILIES) {
    sets[SETS.natPools[family]] = `ipv${family}_addr`;
    sets[SETS.allPools[family]] = `ipv${family}_addr`;
    sets[SETS.nodes[family]] = `ipv${family}_addr`;
    sets[SETS.allowedSources[family]] = `ifname . ipv${family}_addr`;
  }
  const chains: readonly Chain[] = [
    {
      name: "prerouting",
      hook: { type: "filter", hook: "prerouting", priority: RAW },
      rules: [
        {
          text: `iifname "${WORKLOAD_IFACE_PREFIX}*" goto from-workload`,
          why: "pods speak from their own addresses only",
        },
        ...untracked(tunnels),
      ],
    },
    { name: "output", hook: { type: "filter", hook: "output", priority: RAW }, rules: untracked(tunnels) },
    fromWorkload(tunnels.filter(({ name }) => settings.tunnelsFromPods?.includes(name) !== true)),
    { name: "input", hook: { type: "filter", hook: "input", priority: FILTER }, rules: tunnelGuards(tunnels) },
    {
      name: "postrouting",
      hook: { type: "nat", hook: "postrouting", priority: AFTER_SRCNAT },
      rules: [...tunnelSourceRules(settings, tunnels), ...natOutgoingRules(settings)],
    },
  ];
  // A chain with nothing in it costs each packet, and one for NAT has the kernel track every connection.
  return { counters: Object.values(COUNTERS), sets, chains: chains.filter(({ rules }) => rules.length > 0) };
}

/** @param tunnels whose packets are for nodes alone */
function fromWorkload(tunnels: readonly Tunnel[]): Chain {
  const drop = `counter name ${COUNTERS.unknownSource} drop`;
  return {
    name: "from-workload",
    rules: [
      // route_localnet, which Calico's pods have on the host's side, would deliver it to what listens on 127.0.0.1 alone.
      {
        text: `ip daddr 127.0.0.0/8 counter name ${COUNTERS.loopbackFromPod} drop`,
        why: "the node's loopback is its own",
      },
      // As with ARP, whoever is on the link may ask who else is; nothing of it is forwarded.
      {
        text: `ip6 daddr { fe80::/10, ff02::/16 } icmpv6 type ${LINK_ICMPV6} accept`,
        why: "neighbours and multicast groups",
      },
      { text: `ip6 saddr ${NO_ROUTE_TELLS} udp sport 546 udp dport 547 accept`, why: "DHCPv6" },
      { text: `ip6 saddr ${NO_ROUTE_TELLS} ${drop}`, why: "every link has these sources" },
      ...tunnels.map(({ match, name }) => ({
        text: `${match} counter name ${COUNTERS.tunnelFromPod} drop`,
        why: `${name} is for nodes`,
      })),
      { text: "fib saddr . iif oif exists accept", why: "the route back leads here" },
      ...FAMILIES.map((family) => ({
        text: `iifname . ${WORD[family]} saddr @${SETS.allowedSources[family]} accept`,
        why: "allowedSourcePrefixes of the pod",
      })),
      { text: drop, why: "no route leads back to the source" },
    ],
  };
}

/** A node's tunnels are one flow for each of their flows, and nobody asks about them. Source: calico-interop 4.4. */
function untracked(tunnels: readonly Tunnel[]): readonly Rule[] {
  const vxlan = tunnels.filter(({ name }) => name === "VXLAN");
  return vxlan.map(({ match }) => ({ text: `${match} notrack`, why: "the packets inside are tracked" }));
}

/** Whoever could send us tunnel packets could speak for any pod. Source: calico-interop 4.4. */
function tunnelGuards(tunnels: readonly Tunnel[]): readonly Rule[] {
  return tunnels.map(({ match, name, family }) => ({
    text: `${match} ${WORD[family]} saddr != @${SETS.nodes[family]} counter name ${COUNTERS.tunnelFromStranger} drop`,
    why: `${name} from nodes only`,
  }));
}

/**
 * A process of this machine that bound itself to another address of it must be answered over the tunnel, too.
 *
 * UDP keeps away from the tunnel's own port, since a reply to that one would go to the guard. Source: calico-interop 4.9.
 */
function tunnelSourceRules(
  { randomFully, vxlanPort = VXLAN_PORT }: FilterSettings,
  tunnels: readonly Tunnel[],
): readonly Rule[] {
  const hasVXLAN = tunnels.some(({ name }) => name === "VXLAN");
  return tunnels.flatMap(({ device, family }) => {
    const match = `oifname "${device}" meta nfproto ipv${family} fib saddr type local fib saddr . oif type != local`;
    const why = `replies come back over ${device}`;
    const masquerade = ["masquerade", ...(randomFully ? ["fully-random"] : [])].join(" ");
    const udp = `${match} meta l4proto udp masquerade to :${widerSide(vxlanPort)}${randomFully ? " fully-random" : ""}`;
    return [...(hasVXLAN ? [{ text: udp, why }] : []), { text: `${match} ${masquerade}`, why }];
  });
}

function widerSide(port: number): string {
  const [min, max] = [1024, 65_535];
  return port - min > max - port ? `${min}-${port - 1}` : `${port + 1}-${max}`;
}

/** Source: calico-interop 4.9. */
function natOutgoingRules(settings: FilterSettings): readonly Rule[] {
  const { natOutgoing, natPortRange, natOutgoingExclusions, natOutgoingInterface, randomFully } = settings;
  if (!natOutgoing) return [];
  return FAMILIES.flatMap((family) => {
    const ip = WORD[family];
    const leaves = [
      `${ip} saddr @${SETS.natPools[family]} ${ip} daddr != @${SETS.allPools[family]}`,
      ...(natOutgoingInterface === undefined ? [] : [`oifname "${natOutgoingInterface}"`]),
      ...(natOutgoingExclusions === "IPPoolsAndHostIPs" ? [`${ip} daddr != @${SETS.nodes[family]}`] : []),
    ].join(" ");
    const ports = natPortRange === undefined ? undefined : `:${natPortRange.min}-${natPortRange.max}`;
    const nat = (range: string | undefined): string =>
      [translation(family, settings.natOutgoingAddress, range), ...(randomFully ? ["fully-random"] : [])].join(" ");
    const why = "natOutgoing";
    return [
      ...(ports === undefined ? [] : [{ text: `${leaves} meta l4proto { tcp, udp } ${nat(ports)}`, why }]),
      { text: `${leaves} ${nat(undefined)}`, why },
    ];
  });
}

function translation(family: Family, address: IP | undefined, ports: string | undefined): string {
  if (address === undefined || familyOf(address) !== family) {
    return ports === undefined ? "masquerade" : `masquerade to ${ports}`;
  }
  const to = family === 6 && ports !== undefined ? `[${formatIP(address)}]` : formatIP(address);
  return `snat ${WORD[family]} to ${to}${ports ?? ""}`;
}
