// SPDX-License-Identifier: Apache-2.0
import type { CIDR } from "../net/cidr.ts";
import type { Family, IP } from "../net/ip.ts";

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
}

export interface KernelAddr {
  readonly ifIndex: number;
  readonly ip: IP;
  readonly prefixLength: number;
}

/** Outcome of one change of a batch; one bad route never stops the others. */
export interface RouteResult {
  readonly route: KernelRoute;
  readonly error?: Error;
}

/** What a kernel notification is about; `overrun`: events were lost, and only a full resync helps. */
export interface KernelChange {
  readonly kind: "route" | "link" | "addr" | "overrun";
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
   * Calls back, soon after, when routes or links changed in the kernel; without what, so lost, doubled and reordered
   * notifications do no harm. Each `route` costs Felix a listing, so the adapter leaves out what cannot matter: the echo
   * of this object's own writes, other tables, new routes of protocol 80 (the wiring's). Returns how to stop.
   */
  watch(onChange: (change: KernelChange) => void): () => void;
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

/** Outcome of one probe: the parts of it by name, so that a reader sees which one fails. */
export interface HealthReport {
  readonly ok: boolean;
  readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly detail: string }>>;
}

export interface Health {
  /** False: only a restart helps. */
  liveness(): HealthReport;
  /** False: this node's routes cannot be relied on yet. */
  readiness(): HealthReport;
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
}

/** What there is at the end of a turn. */
export interface FelixGauges {
  /** Ours in the kernel. */
  readonly routes: number;
  readonly pendingRoutes: number;
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
  turnFailed(): void;
  gauges(gauges: FelixGauges): void;
}
