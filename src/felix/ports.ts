// SPDX-License-Identifier: Apache-2.0
import type { Node, Taint } from "../crds/core.ts";
import type { CIDR } from "../net/cidr.ts";
import type { Family, IP } from "../net/ip.ts";
import type { MAC } from "../net/mac.ts";

/** A route of the main table in the terms that Felix compares. Two routes are the same key when family, dst and metric are. */
export interface KernelRoute {
  readonly dst: CIDR;
  readonly type: "unicast" | "blackhole";
  /** 0 is the kernel's default (IPv6 reads it back as 1024; the adapter hides that). */
  readonly metric: number;
  /** rtm_protocol. Ours is 80, see `ownership.ts`. */
  readonly protocol: number;
  /** Device by index; absent for blackholes. */
  readonly ifIndex?: number;
  readonly gateway?: IP;
  /** RTNH_F_ONLINK: the gateway is on the link whatever the addresses say. */
  readonly onlink: boolean;
  readonly scope: "universe" | "link";
}

export interface KernelLink {
  readonly ifIndex: number;
  readonly name: string;
  readonly up: boolean;
  readonly mtuBytes: number;
  /** Of VXLAN devices only. */
  readonly mac?: MAC;
  readonly vxlan?: VXLANProperties;
  /** Of IP-in-IP devices only. */
  readonly ipip?: IPIPProperties;
}

/** What makes an IP-in-IP device what it is. */
export interface IPIPProperties {
  /** The one other end of a point-to-point tunnel; absent: each route says where to. */
  readonly remoteIP?: IP;
}

/** What makes a VXLAN device what it is; none of it can be changed while it is there. */
export interface VXLANProperties {
  /** VXLAN network identifier. */
  readonly vni: number;
  /** UDP destination port. */
  readonly port: number;
  /** Source of the outer packets. */
  readonly localIP?: IP;
  /** The link that the outer packets leave by. */
  readonly parentIfIndex?: number;
  /** Whether it learns from packets where an address is. */
  readonly learning: boolean;
}

export interface KernelAddr {
  readonly ifIndex: number;
  readonly ip: IP;
  readonly prefixLength: number;
  /** Of IPv4: further addresses of a subnet that the link has already. */
  readonly isSecondary?: true;
  /** Of IPv6: temporary, deprecated, or not proved to be nobody else's. */
  readonly isTransient?: true;
}

/** Outcome of one change of a batch; one bad route never stops the others. */
export interface RouteResult {
  readonly route: KernelRoute;
  readonly error?: Error;
}

/** What a kernel notification is about; `forwarding`: it was switched off; `linkSetting`: so was one link's own, or its proxy ARP or NDP; `tunnel`: a VXLAN or IP-in-IP device as such, `neigh`: its entries; `overrun`: events were lost, and only a full resync helps. */
export interface KernelChange {
  readonly kind: "route" | "link" | "addr" | "tunnel" | "neigh" | "forwarding" | "linkSetting" | "overrun";
}

/** What Felix asks of the kernel. Implemented by `netlink/ops/route-dataplane`, in a worker thread. */
export interface RouteDataplane {
  /** All routes of the main table of one family, retried while the kernel says that the dump was interrupted. */
  listRoutes(family: Family): Promise<readonly KernelRoute[]>;
  listLinks(): Promise<readonly KernelLink[]>;
  listAddrs(): Promise<readonly KernelAddr[]>;
  /** Creates or replaces each route (NLM_F_CREATE | NLM_F_REPLACE). Shape: results in the order of the routes. */
  replaceRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]>;
  /**
   * Deletes each route, where type, protocol, device and gateway agree, too; one that is gone already, or is another's
   * by now, is a success. Shape: results in the order of the routes.
   */
  deleteRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]>;
  /**
   * Calls back, soon after, when routes, links or tunnel entries changed in the kernel; without what, so lost, doubled and reordered
   * notifications do no harm. Each `route` costs Felix a listing, so the adapter leaves out what cannot matter: the echo
   * of this object's own writes, other tables, new routes of protocol 80 (the wiring's). Returns how to stop.
   */
  watch(onChange: (change: KernelChange) => void): () => void;
}

/** A pod's link, by what decides its settings. */
export type PodLink = Pick<WorkloadEndpoint, "hostIface" | "ips">;

/** A file under /proc/sys/net, and what the wiring writes to it. */
export interface LinkSetting {
  readonly path: readonly string[];
  readonly value: 0 | 1;
}

/** What Felix asks of the kernel for the settings of pods' links. Implemented by `netlink/ops/pod-links`. */
export interface PodLinks {
  /** The settings that no longer are what the wiring made them; a link that is gone has none. Cost: some five files for each link. */
  listChanged(links: readonly PodLink[]): Promise<readonly LinkSetting[]>;
  /** Writes each; that the link is gone is no error. Shape: outcomes in the order of the settings, undefined: done. */
  write(settings: readonly LinkSetting[]): Promise<readonly (Error | undefined)[]>;
}

/** A permanent entry of a VXLAN device. Together they say where the other ends are. Source: calico-interop 4.4. */
export type TunnelEntry =
  /** Which MAC the gateway of a route has. */
  | { readonly kind: "neigh"; readonly ifIndex: number; readonly ip: IP; readonly mac: MAC }
  /** To which node frames for a MAC go. */
  | { readonly kind: "fdb"; readonly ifIndex: number; readonly mac: MAC; readonly remote: IP };

/** One step towards a device as it should be. */
export type DeviceChange =
  | { readonly kind: "create"; readonly device: VXLANDevice }
  /** Makes the IP-in-IP device that takes all packets, down and without an address; to be read back. */
  | { readonly kind: "createIPIP"; readonly name: string }
  /** And puts it up. */
  | { readonly kind: "set"; readonly ifIndex: number; readonly mtuBytes: number; readonly mac?: MAC }
  | { readonly kind: "down"; readonly ifIndex: number }
  | { readonly kind: "delete"; readonly ifIndex: number }
  | {
      readonly kind: "addAddr" | "deleteAddr";
      readonly ifIndex: number;
      readonly ip: IP;
      readonly prefixLength: number;
    };

/** A VXLAN device to be made: up, without an address. */
export interface VXLANDevice extends Required<VXLANProperties> {
  readonly name: string;
  readonly mac: MAC;
  readonly mtuBytes: number;
}

/** What Felix asks of the kernel for tunnels. Implemented by `netlink/ops/tunnel-dataplane`; links are listed with routes. */
export interface TunnelDataplane {
  /**
   * Errors: rejects with what the kernel said; with `KindUnsupportedError` where it has no such devices. A link or address
   * that is gone already is no error when it should go, nor is an IP-in-IP device that comes with the module when it is made.
   */
  changeDevice(change: DeviceChange): Promise<void>;
  /**
   * The permanent entries of one device; from then on `watch` of the routes tells when others change them. The kernel does
   * not say who changed a forwarding entry, so it tells of this object's own, too, and the next listing finds nothing new.
   * A device that is gone has none.
   */
  listEntries(ifIndex: number): Promise<readonly TunnelEntry[]>;
  /** Creates or replaces each entry. Shape: outcomes in the order of the entries, undefined: done. */
  replaceEntries(entries: readonly TunnelEntry[]): Promise<readonly (Error | undefined)[]>;
  /** Deletes each entry; one that is gone already is no error. Shape: as above. */
  deleteEntries(entries: readonly TunnelEntry[]): Promise<readonly (Error | undefined)[]>;
}

/** This node's own object. */
export interface NodeStatusPort {
  get(): Promise<Node>;
  /** PUT of nodes/status; the resourceVersion makes it a compare-and-swap. */
  updateStatus(node: Node): Promise<unknown>;
  /** Merge patch of the spec; the resourceVersion of the node, as it was read, makes it a compare-and-swap. */
  setTaints(node: Node, taints: readonly Taint[]): Promise<unknown>;
}

/** A pod interface of this node: what the attachment records say. */
export interface WorkloadEndpoint {
  /** Identity of the attachment. */
  readonly key: string;
  readonly hostIface: string;
  /** 0 until the kernel has made the link: whatever the kernel has for its addresses is left alone meanwhile. */
  readonly hostIfIndex: number;
  readonly ips: readonly IP[];
  /** The wiring has just made the link and its routes, so there is nothing to read and nothing to write. */
  readonly isWired?: boolean;
  /** CIDRs that the pod may send from beside its own addresses. Source: calico-interop 3.7. */
  readonly allowedSourcePrefixes?: readonly string[];
}

/** The methods of a pino logger that are used here. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** All objects of a kind, as an informer's cache has them. */
export interface Source<T> {
  list(): Iterable<T>;
  /** Fulfilled when the first list is complete, and the handlers have heard of it. */
  readonly synced: Promise<void>;
  /** Calls back with each difference from now on; `new` is undefined when the object is gone. Returns how to stop. */
  onChange(handler: (change: SourceChange<T>) => void): () => void;
}

export interface SourceChange<T> {
  /** The object's name. */
  readonly key: string;
  readonly new: T | undefined;
}

/** One part of a probe, in words for people. */
export interface Check {
  readonly ok: boolean;
  readonly detail: string;
}

/** Outcome of one probe: the parts of it by name, so that a reader sees which one fails. */
export interface HealthReport {
  readonly ok: boolean;
  readonly checks: Readonly<Record<string, Check>>;
}

export interface Health {
  /** False: only a restart helps. */
  liveness(): HealthReport;
  /** False: this node's routes cannot be relied on yet. */
  readiness(): HealthReport;
}

/** What was done to VXLAN devices and their entries. */
export interface TunnelReport {
  readonly updated: number;
  readonly deleted: number;
  readonly failed: number;
  /** What was right before, and what others had removed or changed, in words. */
  readonly restored: readonly string[];
}

/** What one turn of the apply loop did. */
export interface TurnReport {
  readonly durationMs: number;
  /** Present when all routes were listed. Units: milliseconds. */
  readonly resyncMs?: number;
  readonly updated: number;
  readonly deleted: number;
  readonly failed: number;
  readonly restored: number;
  readonly replacedForeign: number;
  readonly tunnels?: TunnelReport;
}

/** What there is at the end of a turn. */
export interface FelixGauges {
  /** Ours in the kernel. */
  readonly routes: number;
  readonly pendingRoutes: number;
  /** Neighbours and forwarding entries of VXLAN devices. */
  readonly tunnelEntries: number;
  readonly podMTUBytes: number;
  readonly hosts: number;
  readonly localEndpoints: number;
  readonly isInSync: boolean;
  /** Number of findings by code. */
  readonly findings: ReadonlyMap<string, number>;
}

/** Where Felix counts. Created in `main` and passed in. */
export interface FelixMetrics {
  datastoreResyncStarted(): void;
  turn(report: TurnReport): void;
  settingsRestored(count: number): void;
  turnFailed(): void;
  gauges(gauges: FelixGauges): void;
}
