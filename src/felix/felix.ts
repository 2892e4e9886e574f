// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { IPPool } from "../crds/ip-pool.ts";
import type { Clock } from "../lib/clock.ts";
import { describeError } from "../lib/errors.ts";
import { cidrOf, cidrSize, formatCIDR, hostCIDR } from "../net/cidr.ts";
import { type Family, formatIP } from "../net/ip.ts";
import { ApplyLoop } from "./apply-loop.ts";
import type { BorrowedBlock } from "./calc/borrowed.ts";
import type { Finding } from "./calc/findings.ts";
import {
  FALLBACK_MTU_BYTES,
  hostMTU,
  largePods,
  MTU_IFACE_PATTERN,
  type MTUSettings,
  podMTU,
  tunnelMTU,
} from "./calc/mtu.ts";
import { addressOf } from "./calc/node-addresses.ts";
import type { NodeClaims } from "./calc/node-status.ts";
import { CalcState } from "./calc/state.ts";
import { NodeStatusDriver } from "./drivers/node-status.ts";
import type { NodeWriter } from "./drivers/node-writer.ts";
import { type ApplyReport, RouteTable } from "./drivers/route-table.ts";
import { FelixLog } from "./felix-log.ts";
import { felixHealth } from "./health.ts";
import { formatKernelRoute } from "./kernel-route.ts";
import { wantGatewayRoute } from "./managers/gateway-route.ts";
import { RouteManager } from "./managers/route-manager.ts";
import { VXLAN_DEFAULTS, type VXLANSettings } from "./managers/vxlan-manager.ts";
import type { NodeAddressDetector } from "./node-address/detector.ts";
import { duplicateFindings } from "./node-address/duplicates.ts";
import { VXLAN_DEVICES } from "./ownership.ts";
import type { PacketFilter } from "./packet-filter.ts";
import type {
  FelixMetrics,
  Health,
  KernelAddr,
  KernelChange,
  KernelRoute,
  Logger,
  RouteDataplane,
  Source,
  TunnelDataplane,
  TurnReport,
  WorkloadEndpoint,
} from "./ports.ts";
import { mergeEvents, RecentEvents } from "./recent.ts";
import { addressReports, countRoutes, type FelixReport, tunnelStatuses } from "./status.ts";
import { type TunnelNeed, Tunnels } from "./tunnels.ts";

export interface FelixOptions {
  readonly nodeName: string;
  readonly dataplane: RouteDataplane;
  readonly sources: {
    readonly nodes: Source<Node>;
    readonly affinities: Source<BlockAffinity>;
    readonly pools: Source<IPPool>;
    /** Blocks of which others than the owner have addresses, by name. Nothing waits for it; absent: there are none. */
    readonly borrowed?: Source<BorrowedBlock>;
  };
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
  readonly mtu?: MTUSettings;
  /** Absent: the table in nftables is left alone. Felix starts, feeds and stops it. */
  readonly packetFilter?: PacketFilter;
  /** Between two full resyncs. Units: milliseconds. @default 90_000 */
  readonly routeRefreshMs?: number;
  /** Fulfilled when all settings are known, as `configure` has told them. Absent: these are all. */
  readonly configured?: Promise<void>;
}

/** What may change while Felix runs. */
export type FelixSettings = Required<Pick<FelixOptions, "vxlan" | "mtu" | "routeRefreshMs">>;

export interface Felix {
  /** A pod's interface is wanted (hostIfIndex 0), or is there. Again with the same key: it changed. */
  endpointUp(endpoint: WorkloadEndpoint): void;
  /** Idempotent. */
  endpointDown(endpoint: Pick<WorkloadEndpoint, "key">): void;
  /** Begins to work. Call it once all recorded endpoints are up: routes of pods unknown by then are removed in time. */
  start(): void;
  /** Takes other settings while it runs; a VXLAN device of another network identifier or port is made anew. */
  configure(settings: FelixSettings): void;
  /** Ends the work, and leaves the kernel as it is. */
  stop(): Promise<void>;
  readonly health: Health;
  /** MTU of new pods: what fits every encapsulation in use; 0 while links are not known. Units: bytes. */
  readonly podMTUBytes: number;
  /** What a person should know about the present state. */
  findings(): readonly Finding[];
  /** Everything at once, for `gingham node status`. */
  status(): FelixReport;
}

/** After a hint that routes changed. Listings may take a tenth of the time. Units: milliseconds. */
const RESYNC_SPACING_MS = 200;
const RESYNC_SPACING_FACTOR = 10;
/** Between two listings of links: other people's containers must not cost one each. Units: milliseconds. */
const LINKS_SPACING_MS = 1000;
const LAZY_WAKE_MS = 1000;
/** What an earlier process has borrowed routes for is kept until they are known, and at most so long. Units: milliseconds. */
const BORROWED_GRACE_MS = 60_000;
/** A link that flaps loses its IPv4 routes without a notification of its own. Units: milliseconds. */
const RESYNC_AFTER_LINK_MS = 5000;

/** The node agent's dataplane side: sources and kernel notifications in, routes out. See docs/DESIGN.md. */
export function createFelix(options: FelixOptions): Felix {
  return new FelixAgent(options);
}

/**
 * Drives calc ▶ manager ▶ driver, one turn at a time.
 *
 * Invariants: callbacks only record and wake the loop; a turn reads links, flushes the calculation through the manager
 * into the table, and applies. Nothing is written to the kernel before settings, nodes, affinities and pools are in
 * sync and the recorded endpoints are loaded; borrowed addresses, for which all blocks have to be read, come later.
 */
class FelixAgent implements Felix {
  readonly health: Health;
  readonly #options: FelixOptions;
  readonly #state: CalcState;
  readonly #manager = new RouteManager();
  readonly #table: RouteTable;
  readonly #tunnels: Tunnels | undefined;
  #mtu: MTUSettings;
  #routeRefreshMs: number;
  #isConfigured: boolean;
  readonly #loop: ApplyLoop;
  readonly #log: FelixLog;
  readonly #nodeStatus: NodeStatusDriver | undefined;
  #localNode: Node | undefined;
  readonly #stops: (() => void)[] = [];
  readonly #stopping = new AbortController();
  /** Endpoints whose link and routes the wiring has made since the last turn. */
  readonly #wired: WorkloadEndpoint[] = [];
  #lazyWake: Promise<void> | undefined;
  #areLinksDirty = true;
  /** As last known: a link that is down for a moment is no reason for another one. Units: bytes. */
  #hostMTUBytes: number | undefined;
  #linksAllowedMs = 0;
  #resyncDueMs = 0;
  #resyncAllowedMs = 0;
  #isMonitorUp = false;
  #isFirstApplyDone = false;
  /** Until when routes that may be those of borrowed addresses are left alone. Units: Unix milliseconds. */
  #borrowedDueMs = 0;
  #lastError: string | undefined;
  readonly #repairs = new RecentEvents();
  readonly #errors = new RecentEvents();
  #forwardingError: Finding | undefined;

  constructor(options: FelixOptions) {
    const { nodeName, dataplane, clock, random, log } = options;
    this.#options = options;
    this.#state = new CalcState(nodeName);
    const linkName = (ifIndex: number): string | undefined => this.#manager.linkName(ifIndex);
    const isUndecided = (route: KernelRoute): boolean =>
      isBehindNode(route, linkName) && clock.nowMs() < this.#borrowedDueMs;
    this.#table = new RouteTable({ dataplane, clock, random, linkName, onForeign: wantGatewayRoute, isUndecided });
    const { tunnels: port, vxlan: settings = VXLAN_DEFAULTS } = options;
    this.#tunnels = port && new Tunnels({ port, settings, clock, random });
    this.#mtu = options.mtu ?? { mtuIfacePattern: new RegExp(MTU_IFACE_PATTERN) };
    this.#routeRefreshMs = options.routeRefreshMs ?? 90_000;
    this.#isConfigured = options.configured === undefined;
    this.#log = new FelixLog(log, clock.nowMs(), linkName);
    this.#nodeStatus =
      options.nodeStatus === undefined
        ? undefined
        : new NodeStatusDriver({ writer: options.nodeStatus, clock, random, log });
    this.#loop = new ApplyLoop({
      clock,
      random,
      turn: async () => await this.#turn(),
      onError: (error, retryInMs) => this.#turnFailed(error, retryInMs),
    });
    this.health = felixHealth(clock, () => ({
      lastBeatMs: this.#loop.lastBeatMs,
      turnStartedMs: this.#loop.turnStartedMs,
      waitingFor: this.#waitingFor,
      isMonitorUp: this.#isMonitorUp,
      isFirstApplyDone: this.#isFirstApplyDone,
      packetFilter: options.packetFilter?.readiness,
      nodeAddressProblem: this.#addressFindings().at(0)?.message,
      lastError: this.#lastError,
    }));
  }

  endpointUp(endpoint: WorkloadEndpoint): void {
    this.#state.setEndpoint(endpoint);
    this.#filter?.state.setEndpoint(endpoint);
    this.#filter?.wake();
    // Not made yet: there is nothing to write, and what the kernel has for these addresses is left alone from now on.
    if (endpoint.hostIfIndex === 0) return;
    if (endpoint.isWired === true) {
      this.#wired.push(endpoint);
      this.#wakeLazily();
      return;
    }
    const isLinkKnown = this.#manager.linkName(endpoint.hostIfIndex) === endpoint.hostIface;
    if (!isLinkKnown) {
      this.#areLinksDirty = true;
      this.#linksAllowedMs = 0;
    }
    this.#loop.wake();
  }

  endpointDown(endpoint: Pick<WorkloadEndpoint, "key">): void {
    this.#state.deleteEndpoint(endpoint.key);
    this.#filter?.state.deleteEndpoint(endpoint.key);
    this.#filter?.wake();
    this.#loop.wake();
  }

  start(): void {
    const { sources, dataplane, metrics } = this.#options;
    this.#state.markSynced("endpoints");
    metrics.datastoreResyncStarted();
    const state = this.#state;
    this.#follow(sources.nodes, {
      onSet: (node) => this.#setNode(node),
      onDelete: (name) => {
        state.deleteNode(name);
        this.#filter?.state.deleteNode(name);
      },
      onSynced: () => state.markSynced("nodes"),
    });
    this.#follow(sources.affinities, {
      onSet: (affinity) => state.setAffinity(affinity),
      onDelete: (name) => state.deleteAffinity(name),
      onSynced: () => state.markSynced("affinities"),
    });
    this.#follow(sources.pools, {
      onSet: (pool) => {
        state.setPool(pool);
        this.#filter?.state.setPool(pool);
      },
      onDelete: (name) => {
        state.deletePool(name);
        this.#filter?.state.deletePool(name);
      },
      onSynced: () => state.markSynced("pools"),
    });
    if (sources.borrowed !== undefined) {
      this.#borrowedDueMs = this.#options.clock.nowMs() + BORROWED_GRACE_MS;
      this.#follow(sources.borrowed, {
        onSet: ({ name, addresses }) => state.setBorrowed(name, addresses),
        onDelete: (name) => state.deleteBorrowed(name),
        onSynced: () => {
          this.#borrowedDueMs = 0;
        },
      });
    }
    // Before the first listing, so that no change falls between the two.
    this.#stops.push(dataplane.watch((change) => this.#onKernelChange(change)));
    this.#isMonitorUp = true;
    void this.#options.configured?.then(() => {
      this.#isConfigured = true;
      this.#noteSynced();
    });
    this.#log.waitingFor(this.#waitingFor);
    this.#filter?.start();
    this.#loop.start();
  }

  configure({ vxlan, mtu, routeRefreshMs }: FelixSettings): void {
    this.#tunnels?.configure(vxlan);
    this.#mtu = mtu;
    this.#routeRefreshMs = routeRefreshMs;
    this.#resyncDueMs = Math.min(this.#resyncDueMs, this.#options.clock.nowMs() + routeRefreshMs);
    this.#loop.wake();
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0)) stop();
    this.#stopping.abort();
    this.#isMonitorUp = false;
    await Promise.all([this.#loop.stop(), this.#nodeStatus?.stop(), this.#filter?.stop()]);
  }

  findings(): readonly Finding[] {
    const own = this.#forwardingError === undefined ? [] : [this.#forwardingError];
    const filter = this.#filter?.findings() ?? [];
    const routes = [...this.#state.findings(), ...this.#manager.findings(), ...this.#table.findings()];
    return [
      ...own,
      ...filter,
      ...this.#addressFindings(),
      ...routes,
      ...(this.#tunnels?.findings() ?? []),
      ...(this.#options.moreFindings?.() ?? []),
      ...largePods(this.#manager.links, this.podMTUBytes),
    ];
  }

  status(): FelixReport {
    const [state, manager, table] = [this.#state, this.#manager, this.#table];
    const filter = this.#filter?.events();
    return {
      addresses: addressReports(state, manager),
      mtu: { hostBytes: this.#hostMTUBytes ?? 0, podBytes: this.podMTUBytes },
      routes: { wanted: countRoutes(state.routes.values()), inKernel: table.size, pending: table.pending },
      tunnels: tunnelStatuses(state, manager),
      repairs: filter === undefined ? this.#repairs.report() : mergeEvents(this.#repairs.report(), filter.repairs),
      errors: filter === undefined ? this.#errors.report() : mergeEvents(this.#errors.report(), filter.errors),
      findings: this.findings(),
    };
  }

  get podMTUBytes(): number {
    const hostBytes = this.#hostMTUBytes;
    return hostBytes === undefined ? 0 : podMTU(hostBytes, this.#state.encapsulations, this.#mtu);
  }

  /** Takes what a source has, and each change after it. Doubled news does no harm. */
  #follow<T>(
    source: Source<T>,
    {
      onSet,
      onDelete,
      onSynced,
    }: { onSet: (object: T) => void; onDelete: (name: string) => void; onSynced: () => void },
  ): void {
    const stop = source.onChange((change) => {
      if (change.new === undefined) onDelete(change.key);
      else onSet(change.new);
      this.#filter?.wake();
      this.#loop.wake();
    });
    this.#stops.push(stop);
    for (const object of source.list()) onSet(object);
    void source.synced.then(() => {
      onSynced();
      this.#noteSynced();
    });
  }

  /** What has to be known before anything is written. */
  get #waitingFor(): readonly string[] {
    return [...(this.#isConfigured ? [] : ["settings"]), ...this.#state.waitingFor];
  }

  #noteSynced(): void {
    if (this.#waitingFor.length === 0) this.#filter?.markSynced();
    this.#loop.wake();
  }

  get #filter(): PacketFilter | undefined {
    return this.#options.packetFilter;
  }

  /** A turn for the sake of the gauges and findings alone: one for all the pods of a burst. */
  #wakeLazily(): void {
    if (this.#lazyWake !== undefined) return;
    this.#lazyWake = this.#options.clock.sleep(LAZY_WAKE_MS, this.#stopping.signal).then(
      () => {
        this.#lazyWake = undefined;
        this.#loop.wake();
      },
      () => {},
    );
  }

  /** Why this node's addresses are not certain. */
  #addressFindings(): readonly Finding[] {
    return [...duplicateFindings(this.#duplicates), ...(this.#options.nodeAddress?.findings() ?? [])];
  }

  get #duplicates(): ReturnType<CalcState["duplicates"]> {
    return this.#options.ignoresDuplicates === true ? new Map() : this.#state.duplicates();
  }

  #setNode(node: Node): void {
    if (node.metadata.name === this.#options.nodeName) {
      this.#localNode = node;
      this.#options.nodeAddress?.onNode(node);
    }
    this.#state.setNode(node);
    this.#filter?.state.setNode(node);
  }

  #onKernelChange({ kind }: KernelChange): void {
    const nowMs = this.#options.clock.nowMs();
    if (kind === "neigh" || kind === "overrun") this.#tunnels?.onEntriesChanged();
    if (kind === "neigh") {
      this.#loop.wake();
      return;
    }
    if (kind !== "route") this.#areLinksDirty = true;
    // Few and ours: unlike other people's links, they need not wait.
    if (kind === "tunnel") this.#linksAllowedMs = 0;
    const isAboutRoutes = kind === "route" || kind === "overrun";
    const dueMs = isAboutRoutes ? Math.max(nowMs, this.#resyncAllowedMs) : nowMs + RESYNC_AFTER_LINK_MS;
    this.#resyncDueMs = Math.min(this.#resyncDueMs, dueMs);
    if (isAboutRoutes || this.#mayReadLinks(nowMs)) this.#loop.wake();
    else this.#wakeLazily();
  }

  async #turn(): Promise<number | undefined> {
    const { clock } = this.#options;
    const startedMs = clock.nowMs();
    const { nodeAddress } = this.#options;
    if (nodeAddress !== undefined && startedMs >= nodeAddress.dueMs) this.#areLinksDirty = true;
    if (this.#areLinksDirty && this.#mayReadLinks(startedMs)) await this.#readLinks();
    if (nodeAddress !== undefined) this.#state.setDetected(await nodeAddress.detect());
    this.#manager.onLocalAddresses(this.#state.localAddresses);
    if (this.#waitingFor.length > 0) return undefined;
    this.#noteSubnets();
    this.#noteMTU();
    await this.#tunnels?.applyDevices({ needs: () => this.#tunnelNeeds(), readLinks: () => this.#readLinks() });

    const wired = this.#wired.splice(0);
    for (const { hostIface, hostIfIndex } of wired) this.#manager.onWorkloadLink(hostIfIndex, hostIface);
    this.#manager.onRoutes(this.#state.flush());
    this.#manager.completeDeferredWork(this.#table);
    for (const { ips, hostIfIndex } of wired) {
      for (const ip of ips) this.#table.confirm(formatCIDR(hostCIDR(ip)), hostIfIndex);
    }
    if (startedMs >= this.#resyncDueMs) {
      // Moved on before the listing: a hint that comes meanwhile asks for another one.
      this.#resyncDueMs = startedMs + this.#routeRefreshMs;
      this.#table.requestResync();
      this.#tunnels?.requestResync();
      this.#enableForwarding();
    }
    await this.#tunnels?.update();
    const appliedAtMs = clock.nowMs();
    const report = await this.#table.apply();
    const endMs = clock.nowMs();
    await this.#tunnels?.sweep();
    const tunnels = this.#tunnels?.takeReport();
    if (report.isResync) {
      this.#resyncAllowedMs = endMs + Math.max(RESYNC_SPACING_MS, RESYNC_SPACING_FACTOR * (endMs - appliedAtMs));
    }
    this.#tell(report, {
      durationMs: endMs - startedMs,
      ...(report.isResync ? { resyncMs: endMs - appliedAtMs } : {}),
      updated: report.updated,
      deleted: report.deleted,
      failed: report.failed,
      restored: report.restored.length,
      replacedForeign: report.replacedForeign.length,
      ...(tunnels && { tunnels }),
    });
    this.#checkNodeStatus();
    return this.#againInMs(report);
  }

  /** What CrossSubnet pools go by. While an address is away from its link, the last answer counts. */
  #noteSubnets(): void {
    const local = this.#state.localAddresses;
    for (const family of [4, 6] as const) {
      const address = local && addressOf(local, family);
      const length = this.#prefixLength(family) ?? address?.prefixLength;
      if (address === undefined) this.#state.setLocalSubnet(family, undefined);
      else if (length !== undefined) this.#state.setLocalSubnet(family, cidrOf(address.ip, length));
    }
  }

  /** Of this node's subnet: as somebody has set it, else as its link has it. */
  #prefixLength(family: Family): number | undefined {
    const local = this.#state.localAddresses;
    const address = local && addressOf(local, family);
    const parent = this.#manager.parent(family);
    return address?.method === "explicit" && parent !== undefined ? address.prefixLength : parent?.prefixLength;
  }

  #noteMTU(): void {
    const parents = [this.#manager.parent(4), this.#manager.parent(6)];
    const found = hostMTU(this.#manager.links, this.#mtu.mtuIfacePattern, parents);
    this.#hostMTUBytes = found ?? this.#hostMTUBytes ?? FALLBACK_MTU_BYTES;
  }

  #tunnelNeeds(): Readonly<Record<Family, TunnelNeed>> {
    const hostBytes = this.#hostMTUBytes ?? FALLBACK_MTU_BYTES;
    const need = (family: Family): TunnelNeed => ({
      network: this.#state.vxlan(family),
      parent: this.#manager.parent(family),
      mtuBytes: tunnelMTU(hostBytes, "vxlan", family, this.#mtu),
    });
    return { 4: need(4), 6: need(6) };
  }

  #mayReadLinks(nowMs: number): boolean {
    return nowMs >= this.#linksAllowedMs || this.#manager.isWaiting;
  }

  async #readLinks(): Promise<void> {
    const { dataplane } = this.#options;
    this.#areLinksDirty = false;
    try {
      const [links, addrs] = await Promise.all([dataplane.listLinks(), dataplane.listAddrs()]);
      this.#manager.onLinks(links, addrs);
      this.#options.nodeAddress?.onLinks(links, addrs);
      this.#options.onAddresses?.(addrs);
      this.#tunnels?.onLinks(links, addrs);
      this.#linksAllowedMs = this.#options.clock.nowMs() + LINKS_SPACING_MS;
    } catch (error) {
      this.#areLinksDirty = true;
      throw error;
    }
    this.#table.onLinks((ifIndex) => this.#manager.isUp(ifIndex));
    this.#noteMTU();
  }

  /**
   * IPv6 only once a pool of it is there: a host that forwards IPv6 stops listening to router advertisements, and so may
   * lose its own default route.
   */
  #enableForwarding(): void {
    const families = ([4, 6] as const).filter((family) => family === 4 || this.#state.hasPoolOf(family));
    try {
      this.#options.enableForwarding(families);
      this.#forwardingError = undefined;
    } catch (error) {
      const subject = families.map((family) => `IPv${family}`).join(" and ");
      const message = `Cannot switch on forwarding of ${subject}: ${describeError(error)}; pods reach nothing beyond their node`;
      this.#forwardingError = { code: "ForwardingOff", subject, message };
    }
  }

  #tell(report: ApplyReport, turn: TurnReport): void {
    const { clock, metrics } = this.#options;
    const nowMs = clock.nowMs();
    this.#lastError = undefined;
    const linkName = (ifIndex: number): string | undefined => this.#manager.linkName(ifIndex);
    for (const route of report.restored) this.#repairs.add(nowMs, `route ${formatKernelRoute(route, linkName)}`);
    for (const what of turn.tunnels?.restored ?? []) this.#repairs.add(nowMs, what);
    this.#log.localAddresses(this.#state.localAddresses, [this.#manager.parent(4), this.#manager.parent(6)]);
    if (!this.#isFirstApplyDone) {
      this.#isFirstApplyDone = true;
      this.#log.firstApply(report, { routes: this.#table.size, durationMs: turn.durationMs, ...this.#state.counts });
    }
    this.#log.mtu(this.podMTUBytes, this.#hostMTUBytes ?? 0);
    if (turn.tunnels !== undefined) this.#log.tunnels(turn.tunnels, nowMs);
    const tunnelChanges =
      turn.tunnels === undefined ? 0 : turn.tunnels.updated + turn.tunnels.deleted + turn.tunnels.failed;
    const didWork = report.isResync || report.updated + report.deleted + report.failed + tunnelChanges > 0;
    if (didWork) {
      metrics.turn(turn);
      this.#log.turn(turn, report, nowMs);
    }
    this.#log.summary(nowMs);
    const findings = new Map<string, number>();
    for (const { code } of this.findings()) findings.set(code, (findings.get(code) ?? 0) + 1);
    metrics.gauges({
      routes: this.#table.size,
      pendingRoutes: this.#table.pending,
      tunnelEntries: this.#tunnels?.size ?? 0,
      podMTUBytes: this.podMTUBytes,
      hosts: this.#state.counts.nodes,
      localEndpoints: this.#state.counts.endpoints,
      isInSync: this.#state.inSync,
      findings,
    });
  }

  #turnFailed(error: unknown, retryInMs: number): void {
    this.#lastError = describeError(error);
    this.#errors.add(this.#options.clock.nowMs(), this.#lastError);
    this.#options.metrics.turnFailed();
    this.#log.turnFailed(error, retryInMs);
  }

  #checkNodeStatus(): void {
    const node = this.#localNode;
    const local = this.#state.localAddresses;
    if (this.#nodeStatus === undefined || node === undefined || local === undefined) return;
    const addresses: Partial<Record<Family, string>> = {};
    const duplicates = this.#duplicates;
    for (const family of [4, 6] as const) {
      const address = addressOf(local, family);
      const length = this.#prefixLength(family);
      if (this.#state.hasNone(family)) addresses[family] = "";
      // Whoever had it first said so before: the other one is the newcomer, and must not say it.
      else if (address !== undefined && length !== undefined && !duplicates.has(address.ip))
        addresses[family] = `${formatIP(address.ip)}/${length}`;
    }
    this.#nodeStatus.check(node, { addresses } satisfies NodeClaims);
  }

  #againInMs(report: ApplyReport): number {
    const nowMs = this.#options.clock.nowMs();
    const findingsInMs = this.#log.findings(this.findings(), nowMs);
    const detectInMs =
      Math.max(this.#options.nodeAddress?.dueMs ?? Number.POSITIVE_INFINITY, this.#linksAllowedMs) - nowMs;
    const waits = [
      this.#resyncDueMs - nowMs,
      report.againInMs,
      this.#tunnels?.againInMs,
      findingsInMs,
      detectInMs,
    ].filter((ms) => ms !== undefined);
    return Math.max(0, Math.min(...waits));
  }
}

/** Whether this may be the route of an address that another node has borrowed; its tunnel address needs no gateway. */
function isBehindNode(
  { dst, gateway, ifIndex }: KernelRoute,
  linkName: (ifIndex: number) => string | undefined,
): boolean {
  const devices: readonly (string | undefined)[] = Object.values(VXLAN_DEVICES);
  return (
    cidrSize(dst) === 1 && (gateway !== undefined || (ifIndex !== undefined && devices.includes(linkName(ifIndex))))
  );
}
