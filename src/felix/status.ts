// SPDX-License-Identifier: Apache-2.0
import { type Family, formatIP } from "../net/ip.ts";
import type { Route } from "./calc/block-routes.ts";
import type { Finding } from "./calc/findings.ts";
import { type AddressMethod, addressOf } from "./calc/node-addresses.ts";
import type { CalcState } from "./calc/state.ts";
import type { RouteManager } from "./managers/route-manager.ts";
import { IPIP_DEVICE, VXLAN_DEVICES } from "./ownership.ts";
import type { HealthReport } from "./ports.ts";
import type { EventReport } from "./recent.ts";

export type RouteKind = Route["target"]["kind"];

/** What Felix has done and does, as plain data for `gingham node status`. */
export interface FelixReport {
  readonly addresses: readonly AddressReport[];
  readonly mtu: { readonly hostBytes: number; readonly podBytes: number };
  readonly routes: {
    /** Wanted, by where they lead. */
    readonly wanted: Readonly<Record<RouteKind, number>>;
    /** Ours in the kernel, the one to the pods' gateway among them. */
    readonly inKernel: number;
    /** Wanted, and not in the kernel. */
    readonly pending: number;
  };
  readonly tunnels: readonly TunnelStatus[];
  readonly repairs: EventReport;
  readonly errors: EventReport;
  readonly findings: readonly Finding[];
}

export interface AddressReport {
  /** `192.0.2.1/24`; without a length while no link carries it. */
  readonly address: string;
  readonly method: AddressMethod;
  readonly link?: string;
}

export interface TunnelStatus {
  readonly device: string;
  /** Absent: the device is not there. */
  readonly link?: { readonly isUp: boolean; readonly mtuBytes: number; readonly addresses: readonly string[] };
  /** Nodes at other ends. */
  readonly peers: number;
}

/** All that a node's agent tells of itself. */
export interface NodeReport extends FelixReport {
  readonly node: string;
  readonly pid: number;
  /** Units: Unix milliseconds. */
  readonly startedMs: number;
  readonly readiness: HealthReport;
  /** Own blocks, as the allocator last saw them. */
  readonly blocks: readonly BlockReport[];
}

export interface BlockReport {
  readonly cidr: string;
  readonly used: number;
  readonly free: number;
  /** Of the used ones, those that other nodes have. */
  readonly borrowed: number;
}

export function addressReports(state: CalcState, manager: RouteManager): readonly AddressReport[] {
  const local = state.localAddresses;
  return ([4, 6] as const).flatMap((family) => {
    const address = local && addressOf(local, family);
    if (address === undefined) return [];
    const parent = manager.parent(family);
    const length =
      address.method === "explicit" ? (address.prefixLength ?? parent?.prefixLength) : parent?.prefixLength;
    const text = formatIP(address.ip) + (length === undefined ? "" : `/${length}`);
    return [{ address: text, method: address.method, ...(parent !== undefined && { link: parent.name }) }];
  });
}

export function countRoutes(routes: Iterable<Route>): Readonly<Record<RouteKind, number>> {
  const counts: Record<RouteKind, number> = { workload: 0, blackhole: 0, remote: 0, ipip: 0, vxlan: 0 };
  for (const { target } of routes) counts[target.kind]++;
  return counts;
}

/** Devices that are there, or that a pool needs. */
export function tunnelStatuses(state: CalcState, manager: RouteManager): readonly TunnelStatus[] {
  const vxlan = ([4, 6] as const).flatMap((family: Family) => {
    const network = state.vxlan(family);
    return statusOf(VXLAN_DEVICES[family], manager, network?.peers.length);
  });
  const ipipRoutes = [...state.routes.values()].flatMap(({ target }) => (target.kind === "ipip" ? [target.node] : []));
  return [...statusOf(IPIP_DEVICE, manager, state.ipip && new Set(ipipRoutes).size), ...vxlan];
}

/** @param peers undefined: no pool needs the device */
function statusOf(device: string, manager: RouteManager, peers: number | undefined): readonly TunnelStatus[] {
  const link = [...manager.links].find(({ name }) => name === device);
  if (peers === undefined && (link === undefined || (device === IPIP_DEVICE && !link.up))) return [];
  const addrs = manager.addrs.filter(({ ifIndex }) => ifIndex === link?.ifIndex);
  const addresses = addrs.map(({ ip, prefixLength }) => `${formatIP(ip)}/${prefixLength}`);
  return [
    {
      device,
      ...(link !== undefined && { link: { isUp: link.up, mtuBytes: link.mtuBytes, addresses } }),
      peers: peers ?? 0,
    },
  ];
}
