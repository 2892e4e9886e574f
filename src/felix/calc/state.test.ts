// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { Node } from "../../crds/core.ts";
import type { IPPool } from "../../crds/ip-pool.ts";
import { formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { type Family, formatIP } from "../../net/ip.ts";
import { fakeAffinity, fakeBorrowed, fakeEndpoint, fakeNode, fakePool } from "../fake-resources.ts";
import type { WorkloadEndpoint } from "../ports.ts";
import type { Route } from "./block-routes.ts";
import type { BorrowedBlock } from "./borrowed.ts";
import type { EncapsulationOverrides } from "./encapsulations.ts";
import { CalcState } from "./state.ts";

interface Content {
  readonly nodes?: readonly Node[];
  readonly affinities?: readonly BlockAffinity[];
  readonly pools?: readonly IPPool[];
  readonly endpoints?: readonly WorkloadEndpoint[];
  readonly borrowed?: readonly BorrowedBlock[];
  /** Of this node's address. */
  readonly subnet?: string;
  readonly overrides?: EncapsulationOverrides;
}

interface BaseState extends Content {
  readonly name: string;
  /** Destination and where to, as a person would say it. */
  readonly routes: Readonly<Record<string, string>>;
  /** Ends of tunnels of other nodes, `node tunnelIP nodeIP`; absent: no VXLAN. */
  readonly peers?: Partial<Readonly<Record<Family, readonly string[]>>>;
  /** This node's tunnel address, or `no address`; absent: no IP-in-IP. */
  readonly ipip?: string;
  /** `code subject` of each. */
  readonly findings?: readonly string[];
}

const A = fakeNode("node-a", ["192.0.2.1", "2001:db8::1"]);
const B = fakeNode("node-b", ["192.0.2.2", "2001:db8::2"]);
const C = fakeNode("node-c", ["192.0.2.3"]);
const POOL4 = fakePool("four", "10.0.0.0/16");
const POOL6 = fakePool("six", "fd00::/64");
/** With tunnel addresses; D in another subnet. */
const [VA, VB, VD] = [
  tunnelNode("node-a", ["192.0.2.1", "2001:db8::1"], { 4: "10.0.0.1", 6: "fd00::1" }),
  tunnelNode("node-b", ["192.0.2.2", "2001:db8::2"], { 4: "10.0.0.65", 6: "fd00::41" }),
  tunnelNode("node-d", ["198.51.100.4"], { 4: "10.0.0.129", 6: "fd00::81" }),
];
/** Three pools' worth of blocks, and a node with both kinds of tunnel address. */
const MIXED = {
  nodes: [
    fakeNode("node-a", ["192.0.2.1"], {
      "projectcalico.org/IPv4VXLANTunnelAddr": "10.0.0.1",
      "projectcalico.org/IPv4IPIPTunnelAddr": "10.1.0.1",
    }),
    VB,
    VD,
  ],
  affinities: [
    fakeAffinity("node-b", "10.0.0.64/26"),
    fakeAffinity("node-d", "10.0.0.128/26"),
    fakeAffinity("node-b", "10.1.0.64/26"),
    fakeAffinity("node-b", "10.2.0.64/26"),
  ],
  subnet: "192.0.2.0/24",
};
const MIXED_PEERS = { 4: ["node-b 10.0.0.65 192.0.2.2", "node-d 10.0.0.129 198.51.100.4"] };
const CLUSTER = { nodes: [A, B, C], pools: [POOL4, POOL6] };

function tunnelNode(name: string, ips: readonly string[], tunnels: Partial<Record<Family, string>>): Node {
  const named = Object.entries(tunnels).map(
    ([family, ip]) => [`projectcalico.org/IPv${family}VXLANTunnelAddr`, ip] as const,
  );
  return fakeNode(name, ips, Object.fromEntries(named));
}

/** States that the agent of node-a may see; any one may follow any other. */
const BASE_STATES: readonly BaseState[] = [
  { name: "nothing", routes: {} },
  { name: "nodes and pools only", ...CLUSTER, routes: {} },
  {
    name: "own and remote blocks, both families",
    ...CLUSTER,
    affinities: [
      fakeAffinity("node-a", "10.0.0.0/26"),
      fakeAffinity("node-b", "10.0.0.64/26"),
      fakeAffinity("node-a", "fd00::/122"),
      fakeAffinity("node-b", "fd00::40/122"),
    ],
    routes: {
      "10.0.0.0/26": "blackhole",
      "10.0.0.64/26": "node-b 192.0.2.2",
      "fd00::/122": "blackhole",
      "fd00::40/122": "node-b 2001:db8::2",
    },
  },
  {
    name: "the same blocks, moved to other nodes",
    ...CLUSTER,
    affinities: [fakeAffinity("node-b", "10.0.0.0/26"), fakeAffinity("node-c", "10.0.0.64/26")],
    routes: { "10.0.0.0/26": "node-b 192.0.2.2", "10.0.0.64/26": "node-c 192.0.2.3" },
  },
  {
    name: "local pods in an own block",
    ...CLUSTER,
    affinities: [fakeAffinity("node-a", "10.0.0.0/26")],
    endpoints: [fakeEndpoint("1", 11, "10.0.0.5", "fd00::5"), fakeEndpoint("2", 12, "10.0.0.6")],
    routes: {
      "10.0.0.0/26": "blackhole",
      "10.0.0.5/32": "cali1 11",
      "fd00::5/128": "cali1 11",
      "10.0.0.6/32": "cali2 12",
    },
  },
  {
    name: "blocks of one address: no blackhole, and a local pod comes first",
    ...CLUSTER,
    affinities: [
      fakeAffinity("node-a", "10.0.0.5/32"),
      fakeAffinity("node-a", "10.0.0.7/32"),
      fakeAffinity("node-b", "10.0.0.6/32"),
    ],
    endpoints: [fakeEndpoint("1", 11, "10.0.0.5"), fakeEndpoint("2", 12, "10.0.0.6")],
    routes: { "10.0.0.5/32": "cali1 11", "10.0.0.6/32": "cali2 12" },
  },
  {
    name: "affinities that route nothing",
    ...CLUSTER,
    affinities: [
      fakeAffinity("node-b", "10.0.1.0/26", { state: "pending" }),
      fakeAffinity("node-b", "10.0.1.64/26", { state: "pendingDeletion" }),
      fakeAffinity("node-b", "10.0.1.128/26", { deleted: "true" }),
      fakeAffinity("node-b", "10.0.1.192/26", { type: "virtual" }),
      fakeAffinity("node-b", "10.0.2.0/26", { state: "", type: "host" }),
    ],
    routes: { "10.0.2.0/26": "node-b 192.0.2.2" },
  },
  {
    name: "a disabled pool still counts, a pool of load balancers does not",
    nodes: [A, B],
    pools: [
      fakePool("four", "10.0.0.0/24", { disabled: true }),
      fakePool("lb", "10.0.1.0/24", { allowedUses: ["LoadBalancer"] }),
    ],
    affinities: [fakeAffinity("node-b", "10.0.0.0/26"), fakeAffinity("node-b", "10.0.1.0/26")],
    routes: { "10.0.0.0/26": "node-b 192.0.2.2" },
  },
  {
    name: "IP-in-IP always: to the node's own address, tunnel address or not",
    nodes: [A, B],
    pools: [fakePool("ipip", "10.0.0.0/24", { ipipMode: "Always" })],
    affinities: [
      fakeAffinity("node-a", "10.0.0.0/26"),
      fakeAffinity("node-b", "10.0.0.64/26"),
      fakeAffinity("node-b", "10.0.0.128/26"),
    ],
    routes: {
      "10.0.0.0/26": "blackhole",
      "10.0.0.64/26": "node-b ipip 192.0.2.2",
      "10.0.0.128/26": "node-b ipip 192.0.2.2",
    },
    ipip: "no address",
  },
  {
    name: "IP-in-IP across subnets only: plain inside this node's subnet; a borrowed address and one of a block of its own",
    nodes: [VA, VB, VD],
    pools: [fakePool("ipip", "10.0.0.0/24", { ipipMode: "CrossSubnet" })],
    subnet: "192.0.2.0/24",
    affinities: [
      fakeAffinity("node-b", "10.0.0.64/26"),
      fakeAffinity("node-d", "10.0.0.128/26"),
      fakeAffinity("node-d", "10.0.0.192/32"),
    ],
    borrowed: [fakeBorrowed("10-0-0-64-26", { "10.0.0.70": "node-d" })],
    routes: {
      "10.0.0.64/26": "node-b 192.0.2.2",
      "10.0.0.70/32": "node-d ipip 198.51.100.4",
      "10.0.0.128/26": "node-d ipip 198.51.100.4",
      "10.0.0.192/32": "node-d ipip 198.51.100.4",
    },
    ipip: "no address",
  },
  {
    name: "none, VXLAN and IP-in-IP at once",
    ...MIXED,
    pools: [
      fakePool("one", "10.0.0.0/24", { vxlanMode: "CrossSubnet" }),
      fakePool("two", "10.1.0.0/24", { ipipMode: "Always" }),
      fakePool("three", "10.2.0.0/24"),
    ],
    routes: {
      "10.0.0.64/26": "node-b 192.0.2.2",
      "10.0.0.128/26": "node-d vxlan 10.0.0.129",
      "10.1.0.64/26": "node-b ipip 192.0.2.2",
      "10.2.0.64/26": "node-b 192.0.2.2",
    },
    ipip: "10.1.0.1",
    peers: MIXED_PEERS,
  },
  {
    name: "the same pools, each in the next mode",
    ...MIXED,
    pools: [
      fakePool("one", "10.0.0.0/24", { ipipMode: "CrossSubnet" }),
      fakePool("two", "10.1.0.0/24"),
      fakePool("three", "10.2.0.0/24", { vxlanMode: "Always" }),
    ],
    routes: {
      "10.0.0.64/26": "node-b 192.0.2.2",
      "10.0.0.128/26": "node-d ipip 198.51.100.4",
      "10.1.0.64/26": "node-b 192.0.2.2",
      "10.2.0.64/26": "node-b vxlan 10.0.0.65",
    },
    ipip: "10.1.0.1",
    peers: MIXED_PEERS,
  },
  {
    name: "the same pools, with both encapsulations switched off: told, pool by pool",
    ...MIXED,
    pools: [
      fakePool("one", "10.0.0.0/24", { ipipMode: "CrossSubnet" }),
      fakePool("two", "10.1.0.0/24"),
      fakePool("three", "10.2.0.0/24", { vxlanMode: "Always" }),
    ],
    overrides: { vxlan: false, ipip: false },
    routes: { "10.0.0.64/26": "node-b 192.0.2.2", "10.1.0.64/26": "node-b 192.0.2.2" },
    findings: ["EncapsulationDisabled one", "EncapsulationDisabled three"],
  },
  {
    name: "both switched on, though no pool asks for them",
    ...MIXED,
    pools: [fakePool("one", "10.0.0.0/23"), fakePool("two", "10.1.0.0/24"), fakePool("three", "10.2.0.0/24")],
    overrides: { vxlan: true, ipip: true },
    routes: {
      "10.0.0.64/26": "node-b 192.0.2.2",
      "10.0.0.128/26": "node-d 198.51.100.4",
      "10.1.0.64/26": "node-b 192.0.2.2",
      "10.2.0.64/26": "node-b 192.0.2.2",
    },
    ipip: "10.1.0.1",
    peers: MIXED_PEERS,
  },
  {
    name: "IP-in-IP of IPv6, which there is not",
    ...CLUSTER,
    pools: [fakePool("six", "fd00::/64", { ipipMode: "Always" })],
    affinities: [fakeAffinity("node-b", "fd00::40/122")],
    routes: {},
    findings: ["EncapsulationDisabled six"],
  },
  {
    name: "VXLAN always, beside a plain pool; a disabled pool still counts",
    nodes: [VA, VB, VD],
    pools: [
      fakePool("vxlan", "10.0.0.0/24", { vxlanMode: "Always", disabled: true }),
      fakePool("plain", "10.1.0.0/24"),
    ],
    subnet: "192.0.2.0/24",
    affinities: [
      fakeAffinity("node-a", "10.0.0.0/26"),
      fakeAffinity("node-b", "10.0.0.64/26"),
      fakeAffinity("node-d", "10.0.0.128/26"),
      fakeAffinity("node-b", "10.1.0.64/26"),
    ],
    endpoints: [fakeEndpoint("1", 11, "10.0.0.5")],
    routes: {
      "10.0.0.0/26": "blackhole",
      "10.0.0.5/32": "cali1 11",
      "10.0.0.64/26": "node-b vxlan 10.0.0.65",
      "10.0.0.128/26": "node-d vxlan 10.0.0.129",
      "10.1.0.64/26": "node-b 192.0.2.2",
    },
    peers: { 4: ["node-b 10.0.0.65 192.0.2.2", "node-d 10.0.0.129 198.51.100.4"] },
  },
  {
    name: "VXLAN across subnets only, both families; tunnel addresses of their own blocks and borrowed",
    nodes: [VA, VB, VD],
    pools: [
      fakePool("vxlan", "10.0.0.0/24", { vxlanMode: "CrossSubnet" }),
      fakePool("vxlan-six", "fd00::/64", { vxlanMode: "CrossSubnet" }),
    ],
    subnet: "192.0.2.0/24",
    affinities: [
      fakeAffinity("node-b", "10.0.0.64/26"),
      fakeAffinity("node-d", "10.0.0.129/32"),
      fakeAffinity("node-b", "fd00::40/122"),
    ],
    borrowed: [fakeBorrowed("10-0-0-64-26", { "10.0.0.70": "node-d", "10.0.0.71": "node-a" })],
    routes: {
      "10.0.0.64/26": "node-b 192.0.2.2",
      "10.0.0.70/32": "node-d vxlan 10.0.0.129",
      "10.0.0.129/32": "node-d vxlan 10.0.0.129",
      // The subnet of the IPv6 address is not known.
      "fd00::40/122": "node-b vxlan fd00::41",
    },
    peers: {
      4: ["node-b 10.0.0.65 192.0.2.2", "node-d 10.0.0.129 198.51.100.4"],
      6: ["node-b fd00::41 2001:db8::2"],
    },
  },
  {
    name: "VXLAN with nodes that have no tunnel address, a malformed one, or another's",
    nodes: [
      VA,
      B,
      tunnelNode("node-c", ["192.0.2.3"], { 4: "fd00::1" }),
      VD,
      tunnelNode("node-e", ["192.0.2.5"], { 4: "10.0.0.129" }),
    ],
    pools: [fakePool("vxlan", "10.0.0.0/24", { vxlanMode: "Always" })],
    affinities: [fakeAffinity("node-b", "10.0.0.64/26"), fakeAffinity("node-c", "10.0.0.128/26")],
    routes: { "10.0.0.64/26": "node-b vxlan as before", "10.0.0.128/26": "node-c vxlan as before" },
    peers: { 4: ["node-d 10.0.0.129 198.51.100.4"] },
    findings: [
      "DuplicateVTEP 10.0.0.129",
      "MalformedObject Node node-c",
      "NodeWithoutTunnel node-b IPv4",
      "NodeWithoutTunnel node-c IPv4",
    ],
  },
  {
    name: "no pool: a deleted pool must not cut its running pods off",
    nodes: [A, B],
    affinities: [fakeAffinity("node-a", "10.0.0.0/26"), fakeAffinity("node-b", "10.0.0.64/26")],
    routes: { "10.0.0.0/26": "blackhole", "10.0.0.64/26": "node-b 192.0.2.2" },
    findings: ["BlockOutsidePools 10.0.0.0/26", "BlockOutsidePools 10.0.0.64/26"],
  },
  {
    name: "a node that is gone, and one without an address of the family",
    nodes: [A, C],
    pools: [POOL4, POOL6],
    affinities: [
      fakeAffinity("node-b", "10.0.0.0/26"),
      fakeAffinity("node-b", "10.0.0.64/26"),
      fakeAffinity("node-c", "fd00::40/122"),
    ],
    routes: {},
    findings: ["NodeWithoutAddress node-c IPv6", "UnknownNode node-b"],
  },
  {
    name: "addresses of nodes never become routes",
    ...CLUSTER,
    pools: [POOL4, fakePool("hosts", "192.0.2.0/24")],
    affinities: [fakeAffinity("node-b", "192.0.2.3/32"), fakeAffinity("node-a", "192.0.2.1/32")],
    endpoints: [fakeEndpoint("1", 11, "192.0.2.2")],
    routes: {},
    findings: ["BlockIsHostAddress 192.0.2.1/32", "BlockIsHostAddress 192.0.2.3/32", "WorkloadIsHostAddress 192.0.2.2"],
  },
  {
    name: "a block that holds the address of its owner or of this node gets no route, be it the default route",
    ...CLUSTER,
    affinities: [
      fakeAffinity("node-a", "0.0.0.0/0"),
      fakeAffinity("node-b", "::/0"),
      fakeAffinity("node-b", "192.0.2.2/31"),
      fakeAffinity("node-c", "192.0.2.0/31"),
      fakeAffinity("node-a", "2001:db8::/122"),
      fakeAffinity("node-b", "10.0.0.64/26"),
    ],
    routes: { "10.0.0.64/26": "node-b 192.0.2.2" },
    findings: [
      ...["0.0.0.0/0", "192.0.2.0/31", "192.0.2.2/31", "2001:db8::/122", "::/0"].map(
        (cidr) => `BlockIsHostAddress ${cidr}`,
      ),
      ...["0.0.0.0/0", "192.0.2.0/31", "192.0.2.2/31", "2001:db8::/122", "::/0"].map(
        (cidr) => `BlockOutsidePools ${cidr}`,
      ),
      ...["10.0.0.64/26", "192.0.2.0/31", "192.0.2.2/31", "2001:db8::/122"].map((cidr) => `OverlappingBlocks ${cidr}`),
    ],
  },
  {
    name: "the same block claimed twice: the newest claim, then the name",
    ...CLUSTER,
    affinities: [
      fakeAffinity("node-b", "10.0.0.0/26", {}, "2026-01-02T00:00:00Z"),
      fakeAffinity("node-a", "10.0.0.0/26", {}, "2026-01-01T00:00:00Z"),
      fakeAffinity("node-c", "10.0.0.64/26"),
      fakeAffinity("node-b", "10.0.0.64/26"),
    ],
    routes: { "10.0.0.0/26": "node-b 192.0.2.2", "10.0.0.64/26": "node-b 192.0.2.2" },
    findings: ["DuplicateBlockClaim 10.0.0.0/26", "DuplicateBlockClaim 10.0.0.64/26"],
  },
  {
    name: "a block inside another: both stand, the kernel prefers the smaller",
    ...CLUSTER,
    affinities: [
      fakeAffinity("node-b", "10.0.0.0/24"),
      fakeAffinity("node-c", "10.0.0.64/26"),
      fakeAffinity("node-a", "10.0.1.0/26"),
    ],
    routes: { "10.0.0.0/24": "node-b 192.0.2.2", "10.0.0.64/26": "node-c 192.0.2.3", "10.0.1.0/26": "blackhole" },
    findings: ["OverlappingBlocks 10.0.0.64/26"],
  },
  {
    name: "two pod interfaces with one address: the newer",
    ...CLUSTER,
    endpoints: [fakeEndpoint("1", 12, "10.0.0.5"), fakeEndpoint("2", 11, "10.0.0.5"), fakeEndpoint("3", 0, "10.0.0.6")],
    routes: { "10.0.0.5/32": "cali1 12", "10.0.0.6/32": "cali3 0" },
    findings: ["DuplicateWorkloadAddress 10.0.0.5"],
  },
  {
    name: "annotations: of another node they win, of this node the InternalIP wins",
    nodes: [
      fakeNode("node-a", ["192.0.2.1"], { "projectcalico.org/IPv4Address": "192.0.2.2/24" }),
      fakeNode("node-b", ["192.0.2.2"], { "projectcalico.org/IPv4Address": "198.51.100.2/24" }),
    ],
    pools: [POOL4, fakePool("hosts", "192.0.2.0/24")],
    affinities: [
      fakeAffinity("node-b", "10.0.0.0/26"),
      fakeAffinity("node-b", "192.0.2.1/32"),
      fakeAffinity("node-b", "192.0.2.2/32"),
    ],
    routes: { "10.0.0.0/26": "node-b 198.51.100.2", "192.0.2.2/32": "node-b 198.51.100.2" },
    findings: ["BlockIsHostAddress 192.0.2.1/32"],
  },
  {
    name: "borrowed addresses: past our own blackhole, out of others' blocks, and out of blocks that nobody owns",
    ...CLUSTER,
    affinities: [fakeAffinity("node-a", "10.0.0.0/26"), fakeAffinity("node-b", "10.0.0.64/26")],
    endpoints: [fakeEndpoint("1", 11, "10.0.0.66")],
    borrowed: [
      fakeBorrowed("10-0-0-0-26", { "10.0.0.1": "node-b", "10.0.0.2": "node-c" }),
      // This node's own: one is wired, the other is not (yet).
      fakeBorrowed("10-0-0-64-26", { "10.0.0.65": "node-c", "10.0.0.66": "node-a", "10.0.0.67": "node-a" }),
      fakeBorrowed("10-0-0-128-26", { "10.0.0.129": "node-b" }),
      fakeBorrowed("fd00---122", { "fd00::1": "node-b" }),
    ],
    routes: {
      "10.0.0.0/26": "blackhole",
      "10.0.0.64/26": "node-b 192.0.2.2",
      "10.0.0.66/32": "cali1 11",
      "10.0.0.1/32": "node-b 192.0.2.2",
      "10.0.0.2/32": "node-c 192.0.2.3",
      "10.0.0.65/32": "node-c 192.0.2.3",
      "10.0.0.129/32": "node-b 192.0.2.2",
      "fd00::1/128": "node-b 2001:db8::2",
    },
  },
  {
    name: "the same addresses, borrowed by other nodes, one of them a block of one address",
    ...CLUSTER,
    affinities: [fakeAffinity("node-b", "10.0.0.65/32"), fakeAffinity("node-a", "10.0.0.1/32")],
    borrowed: [
      fakeBorrowed("10-0-0-0-26", { "10.0.0.2": "node-b" }),
      fakeBorrowed("10-0-0-1-32", { "10.0.0.1": "node-c" }),
      fakeBorrowed("10-0-0-64-26", { "10.0.0.66": "node-b" }),
      fakeBorrowed("10-0-0-65-32", { "10.0.0.65": "node-c" }),
    ],
    routes: {
      "10.0.0.1/32": "node-c 192.0.2.3",
      "10.0.0.2/32": "node-b 192.0.2.2",
      "10.0.0.65/32": "node-c 192.0.2.3",
      "10.0.0.66/32": "node-b 192.0.2.2",
    },
  },
  {
    name: "borrowers that are unknown, that lack an address, or that borrowed a node's address",
    ...CLUSTER,
    nodes: [A, C],
    borrowed: [
      fakeBorrowed("10-0-0-0-26", { "10.0.0.1": "node-b", "10.0.0.2": "node-b" }),
      fakeBorrowed("fd00---122", { "fd00::1": "node-c" }),
      fakeBorrowed("192-0-2-0-30", { "192.0.2.1": "node-c" }),
    ],
    routes: {},
    findings: ["NodeWithoutAddress node-c IPv6", "UnknownNode node-b", "WorkloadIsHostAddress 192.0.2.1"],
  },
  {
    name: "borrowed addresses of pools with encapsulation, of Services, and of two blocks that overlap",
    ...CLUSTER,
    pools: [
      fakePool("ipip", "10.0.0.0/24", { ipipMode: "Always" }),
      fakePool("lb", "10.0.1.0/24", { allowedUses: ["LoadBalancer"] }),
    ],
    borrowed: [
      fakeBorrowed("10-0-0-0-26", { "10.0.0.1": "node-b" }),
      fakeBorrowed("10-0-1-0-26", { "10.0.1.1": "node-b" }),
      fakeBorrowed("10-0-2-0-26", { "10.0.2.1": "node-c" }),
      fakeBorrowed("10-0-2-0-27", { "10.0.2.1": "node-b" }),
    ],
    routes: { "10.0.0.1/32": "node-b ipip 192.0.2.2", "10.0.2.1/32": "node-b 192.0.2.2" },
    ipip: "no address",
  },
  {
    name: "malformed objects: ignored and named, the others go on",
    nodes: [A, fakeNode("node-b", ["300.1.1.1", "192.0.2.2"])],
    pools: [POOL4, fakePool("bad", "10.9.0.0/99")],
    affinities: [fakeAffinity("node-b", "10.0.0.0/26"), fakeAffinity("node-b", "10.0.0.64-26")],
    routes: { "10.0.0.0/26": "node-b 192.0.2.2" },
    findings: [
      "MalformedObject BlockAffinity node-b-10-0-0-64-26",
      "MalformedObject IPPool bad",
      "MalformedObject Node node-b",
    ],
  },
];

type Update = (state: CalcState) => void;

function subnetUpdate(subnet: string | undefined): Update {
  return (state) => state.setLocalSubnet(4, subnet === undefined ? undefined : parseCIDR(subnet));
}

function updatesOf(content: Content): Update[] {
  return [
    ...(content.nodes ?? []).map(
      (node): Update =>
        (state) =>
          state.setNode(node),
    ),
    ...(content.affinities ?? []).map(
      (affinity): Update =>
        (state) =>
          state.setAffinity(affinity),
    ),
    ...(content.pools ?? []).map(
      (pool): Update =>
        (state) =>
          state.setPool(pool),
    ),
    ...(content.endpoints ?? []).map(
      (endpoint): Update =>
        (state) =>
          state.setEndpoint(endpoint),
    ),
    ...(content.borrowed ?? []).map(
      ({ name, addresses }): Update =>
        (state) =>
          state.setBorrowed(name, addresses),
    ),
    ...(content.subnet === undefined ? [] : [subnetUpdate(content.subnet)]),
    ...(content.overrides === undefined ? [] : [overridesUpdate(content.overrides)]),
  ];
}

function overridesUpdate(overrides: EncapsulationOverrides): Update {
  return (state) => state.setOverrides(overrides);
}

/** What removes everything of one state that the next one lacks. */
function removalsOf(from: Content, to: Content): Update[] {
  const gone = (was: readonly { metadata: { name: string } }[] = [], is: typeof was = []): string[] =>
    was.map((o) => o.metadata.name).filter((name) => !is.some((o) => o.metadata.name === name));
  return [
    ...gone(from.nodes, to.nodes).map(
      (name): Update =>
        (state) =>
          state.deleteNode(name),
    ),
    ...gone(from.affinities, to.affinities).map(
      (name): Update =>
        (state) =>
          state.deleteAffinity(name),
    ),
    ...gone(from.pools, to.pools).map(
      (name): Update =>
        (state) =>
          state.deletePool(name),
    ),
    ...(from.endpoints ?? [])
      .filter((endpoint) => !(to.endpoints ?? []).some(({ key }) => key === endpoint.key))
      .map(
        ({ key }): Update =>
          (state) =>
            state.deleteEndpoint(key),
      ),
    ...(from.borrowed ?? [])
      .filter((block) => !(to.borrowed ?? []).some(({ name }) => name === block.name))
      .map(
        ({ name }): Update =>
          (state) =>
            state.deleteBorrowed(name),
      ),
    ...(from.subnet === undefined || to.subnet !== undefined ? [] : [subnetUpdate(undefined)]),
    ...(from.overrides === undefined || to.overrides !== undefined ? [] : [overridesUpdate({})]),
  ];
}

/** Follows the deltas alone, as the manager does. */
class Follower {
  readonly state = new CalcState("node-a");
  readonly routes = new Map<string, Route>();

  flush(): void {
    const { updated, removed } = this.state.flush();
    for (const [key, route] of updated) this.routes.set(key, route);
    for (const key of removed) expect(this.routes.delete(key), `${key} was removed but never there`).toBe(true);
  }

  run(updates: readonly Update[], flushEvery: number): void {
    for (const [i, update] of updates.entries()) {
      update(this.state);
      if ((i + 1) % flushEvery === 0) this.flush();
    }
    this.flush();
  }

  expect(base: BaseState): void {
    const said = Object.fromEntries([...this.routes].map(([key, route]) => [key, describeTarget(key, route)]));
    expect(said).toEqual(base.routes);
    for (const family of [4, 6] as const) {
      const peers = this.state
        .vxlan(family)
        ?.peers.map(({ node, tunnelIP, nodeIP }) => `${node} ${formatIP(tunnelIP)} ${formatIP(nodeIP)}`);
      expect(peers).toEqual(base.peers?.[family]);
    }
    const { ipip } = this.state;
    expect(ipip && (ipip.tunnelIP === undefined ? "no address" : formatIP(ipip.tunnelIP))).toBe(base.ipip);
    expect(this.state.findings().map(({ code, subject }) => `${code} ${subject}`)).toEqual(base.findings ?? []);
  }
}

function describeTarget(key: string, { dst, target }: Route): string {
  expect(formatCIDR(dst)).toBe(key);
  if (target.kind === "blackhole") return "blackhole";
  if (target.kind === "remote") return `${target.node} ${formatIP(target.gateway)}`;
  if (target.kind === "ipip") return `${target.node} ipip ${formatIP(target.gateway)}`;
  if (target.kind === "vxlan")
    return `${target.node} vxlan ${target.tunnelIP === undefined ? "as before" : formatIP(target.tunnelIP)}`;
  return `${target.hostIface} ${target.hostIfIndex}`;
}

/** Ways in which one state's updates may arrive. */
const ARRIVALS: Readonly<Record<string, (updates: Update[]) => Update[]>> = {
  "in order": (updates) => updates,
  reversed: (updates) => updates.toReversed(),
  duplicated: (updates) => [...updates, ...updates],
  "each repeated": (updates) => updates.flatMap((update) => [update, update]),
};

const FLUSHES: Readonly<Record<string, number>> = {
  "one flush": Number.POSITIVE_INFINITY,
  "a flush each": 1,
  "by two": 2,
};

describe("CalcState", () => {
  for (const base of BASE_STATES) {
    for (const [arrival, arrange] of Object.entries(ARRIVALS)) {
      for (const [flushes, flushEvery] of Object.entries(FLUSHES)) {
        test(`flush() with ${base.name}; ${arrival}, ${flushes}`, () => {
          const follower = new Follower();
          follower.run(arrange(updatesOf(base)), flushEvery);
          follower.expect(base);
        });
      }
    }

    test(`flush() with ${base.name}, after every other state`, () => {
      for (const previous of BASE_STATES) {
        const follower = new Follower();
        follower.run(updatesOf(previous), 1);
        follower.expect(previous);
        follower.run([...updatesOf(base), ...removalsOf(previous, base)].toReversed(), 2);
        follower.expect(base);
        follower.run([...removalsOf(base, previous), ...updatesOf(previous)], Number.POSITIVE_INFINITY);
        follower.expect(previous);
      }
    });
  }

  test("flush() after an update that changes nothing is empty", () => {
    const state = new CalcState("node-a");
    for (const update of updatesOf(CLUSTER)) update(state);
    state.setAffinity(fakeAffinity("node-b", "10.0.0.0/26"));
    state.flush();
    for (const update of updatesOf(CLUSTER)) update(state);
    state.setAffinity(fakeAffinity("node-b", "10.0.0.0/26"));
    expect(state.flush()).toEqual({ updated: new Map(), removed: new Set() });
  });

  test("a block that moves to another node is one update, not a removal", () => {
    const state = new CalcState("node-a");
    for (const update of updatesOf(CLUSTER)) update(state);
    state.setAffinity(fakeAffinity("node-b", "10.0.0.0/26"));
    state.flush();
    state.deleteAffinity(fakeAffinity("node-b", "10.0.0.0/26").metadata.name);
    state.setAffinity(fakeAffinity("node-c", "10.0.0.0/26"));
    const { updated, removed } = state.flush();
    expect([...updated.keys()]).toEqual(["10.0.0.0/26"]);
    expect([...removed]).toEqual([]);
  });

  test("inSync needs nodes, affinities, pools and endpoints", () => {
    const state = new CalcState("node-a");
    for (const input of ["nodes", "endpoints", "pools"] as const) state.markSynced(input);
    expect(state.inSync).toBe(false);
    expect(state.waitingFor).toEqual(["affinities"]);
    state.markSynced("affinities");
    expect(state.inSync).toBe(true);
  });
});
