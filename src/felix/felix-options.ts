// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { IPPool } from "../crds/ip-pool.ts";
import type { Clock } from "../lib/clock.ts";
import type { Family } from "../net/ip.ts";
import type { BorrowedBlock } from "./calc/borrowed.ts";
import type { EncapsulationOverrides } from "./calc/encapsulations.ts";
import type { Finding } from "./calc/findings.ts";
import type { MTUSettings } from "./calc/mtu.ts";
import type { NodeWriter } from "./drivers/node-writer.ts";
import type { VXLANSettings } from "./managers/vxlan-manager.ts";
import type { NodeAddressDetector } from "./node-address/detector.ts";
import type { PacketFilter } from "./packet-filter.ts";
import type { FelixMetrics, KernelAddr, Logger, PodLinks, RouteDataplane, Source, TunnelDataplane } from "./ports.ts";

export interface FelixOptions {
  readonly nodeName: string;
  readonly dataplane: RouteDataplane;
  readonly sources: FelixSources;
  readonly clock: Clock;
  /** From 0 (included) to 1. */
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: FelixMetrics;
  /** Sets ip_forward and its like. Throws when it cannot; that is reported and does not stop anything. */
  readonly enableForwarding: (families: readonly Family[]) => void;
  /** Hears this machine's addresses whenever they were read. */
  readonly onAddresses?: (addrs: readonly KernelAddr[]) => void;
  /** What other parts of the agent have found out; told and counted with Felix's own. */
  readonly moreFindings?: () => readonly Finding[];
  /** Absent: this node's addresses are what its object says. */
  readonly nodeAddress?: NodeAddressDetector;
  /** Go on although another node has this node's address. @default false */
  readonly ignoresDuplicates?: boolean;
  /** Absent: the Node object is left alone. */
  readonly nodeStatus?: NodeWriter;
  /** Absent: routes in VXLAN wait. */
  readonly tunnels?: TunnelDataplane;
  readonly vxlan?: VXLANSettings;
  /** Absent: what others set on pods' links stays. */
  readonly podLinks?: PodLinks;
  readonly mtu?: MTUSettings;
  readonly encapsulation?: EncapsulationOverrides;
  /** Absent: the table in nftables is left alone. Felix starts, feeds and stops it. */
  readonly packetFilter?: PacketFilter;
  /** Between two full resyncs. Units: milliseconds. @default 90_000 */
  readonly routeRefreshMs?: number;
  /** Fulfilled when all settings are known, as `configure` has told them. Absent: these are all. */
  readonly configured?: Promise<void>;
}

export interface FelixSources {
  readonly nodes: Source<Node>;
  readonly affinities: Source<BlockAffinity>;
  readonly pools: Source<IPPool>;
  /** Blocks of which others than the owner have addresses, by name. Nothing waits for it; absent: there are none. */
  readonly borrowed?: Source<BorrowedBlock>;
}

/** What may change while Felix runs. */
export type FelixSettings = Required<Pick<FelixOptions, "vxlan" | "mtu" | "encapsulation" | "routeRefreshMs">>;
