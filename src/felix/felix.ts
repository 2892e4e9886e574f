// SPDX-License-Identifier: Apache-2.0
import { formatCIDR, hostCIDR } from "../net/cidr.ts";
import type { IP } from "../net/ip.ts";
import { ApplyLoop } from "./apply-loop.ts";
import type { Finding } from "./calc/findings.ts";
import { ownAddressesOf } from "./calc/node-addresses.ts";
import { CalcState } from "./calc/state.ts";
import { NodeStatusDriver } from "./drivers/node-status.ts";
import { PodLinkSettings } from "./drivers/pod-link-settings.ts";
import { type ApplyReport, RouteTable } from "./drivers/route-table.ts";
import type { FelixOptions, FelixSettings } from "./felix-options.ts";
import { Forwarding } from "./forwarding.ts";
import { felixHealth } from "./health.ts";
import { Inputs } from "./inputs.ts";
import { isAboutRoutes, ListingSchedule } from "./listing-schedule.ts";
import { LocalNetwork } from "./local-network.ts";
import { wantGatewayRoute } from "./managers/gateway-route.ts";
import { RouteManager } from "./managers/route-manager.ts";
import { VXLAN_DEFAULTS } from "./managers/vxlan-manager.ts";
import { duplicateFindings } from "./node-address/duplicates.ts";
import { isBehindNode } from "./ownership.ts";
import type { Health, KernelChange, KernelRoute, TurnReport, WorkloadEndpoint } from "./ports.ts";
import { Reporter } from "./reporter.ts";
import { addressReports, countRoutes, type FelixReport, tunnelStatuses } from "./status.ts";
import { Tunnels } from "./tunnels.ts";

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
  /** Of this node and its ends of tunnels; [] while its Node is not known. */
  readonly ownAddresses: readonly IP[];
  /** What a person should know about the present state. */
  findings(): readonly Finding[];
  /** Everything at once, for `gingham node status`. */
  status(): FelixReport;
}

const REFRESH_MS = 90_000;
/** For the sake of gauges and findings alone: one turn for all the pods of a burst. Units: milliseconds. */
const LAZY_WAKE_MS = 1000;

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
  readonly #inputs: Inputs;
  readonly #schedule: ListingSchedule;
  readonly #manager = new RouteManager();
  readonly #network: LocalNetwork;
  readonly #forwarding: Forwarding;
  readonly #tunnels: Tunnels | undefined;
  readonly #podLinks: PodLinkSettings | undefined;
  readonly #table: RouteTable;
  readonly #nodeStatus: NodeStatusDriver | undefined;
  readonly #reporter: Reporter;
  readonly #loop: ApplyLoop;
  #stopWatching: (() => void) | undefined;
  #isForwardingOff = false;
  /** Endpoints whose link and routes the wiring has made since the last turn. */
  readonly #wired: WorkloadEndpoint[] = [];

  constructor(options: FelixOptions) {
    const { nodeName, dataplane, clock, random, log, tunnels: port, vxlan: settings = VXLAN_DEFAULTS } = options;
    const { podLinks, routeRefreshMs: refreshMs = REFRESH_MS } = options;
    this.#options = options;
    const state = new CalcState(nodeName);
    const manager = this.#manager;
    this.#state = state;
    state.setOverrides(options.encapsulation ?? {});
    this.#inputs = new Inputs(options, state, () => this.#loop.wake());
    this.#schedule = new ListingSchedule(refreshMs);
    this.#network = new LocalNetwork(state, manager, options.mtu);
    this.#forwarding = new Forwarding(options.enableForwarding);
    this.#tunnels = port && new Tunnels({ port, settings, clock, random });
    this.#podLinks = podLinks && new PodLinkSettings({ port: podLinks, clock, refreshMs });
    const linkName = (ifIndex: number): string | undefined => manager.linkName(ifIndex);
    const isUndecided = (route: KernelRoute): boolean =>
      isBehindNode(route, linkName) && clock.nowMs() < this.#inputs.borrowedDueMs;
    this.#table = new RouteTable({ dataplane, clock, random, linkName, onForeign: wantGatewayRoute, isUndecided });
    this.#nodeStatus = options.nodeStatus && new NodeStatusDriver({ writer: options.nodeStatus, clock, random, log });
    const [table, tunnels, network] = [this.#table, this.#tunnels, this.#network];
    this.#reporter = new Reporter(options, {
      state,
      manager,
      table,
      tunnels,
      network,
      findings: () => this.findings(),
    });
    this.#loop = new ApplyLoop({
      clock,
      random,
      turn: async () => await this.#turn(),
      onError: (error, retryInMs) => this.#reporter.turnFailed(error, retryInMs),
    });
    this.health = felixHealth(clock, () => ({
      lastBeatMs: this.#loop.lastBeatMs,
      turnStartedMs: this.#loop.turnStartedMs,
      waitingFor: this.#inputs.waitingFor,
      isMonitorUp: this.#stopWatching !== undefined,
      isFirstApplyDone: this.#reporter.isFirstApplyDone,
      packetFilter: options.packetFilter?.readiness,
      nodeAddressProblem: this.#addressFindings().at(0)?.message,
      failure: this.#reporter.failure,
    }));
  }

  endpointUp(endpoint: WorkloadEndpoint): void {
    this.#inputs.setEndpoint(endpoint);
    // Not made yet: there is nothing to write, and what the kernel has for these addresses is left alone from now on.
    if (endpoint.hostIfIndex === 0) return;
    if (endpoint.isWired === true) {
      this.#wired.push(endpoint);
      this.#loop.wakeWithin(LAZY_WAKE_MS);
      return;
    }
    if (this.#manager.linkName(endpoint.hostIfIndex) !== endpoint.hostIface) this.#schedule.markLinks(true);
    this.#loop.wake();
  }

  endpointDown({ key }: Pick<WorkloadEndpoint, "key">): void {
    this.#inputs.deleteEndpoint(key);
    // The kernel drops the route with the link, which is about to be deleted.
    this.#loop.wakeWithin(LAZY_WAKE_MS);
  }

  start(): void {
    this.#inputs.start();
    // Before the first listing, so that no change falls between the two.
    this.#stopWatching = this.#options.dataplane.watch((change) => this.#onKernelChange(change));
    this.#reporter.started(this.#inputs.waitingFor);
    this.#options.packetFilter?.start();
    this.#loop.start();
  }

  configure({ vxlan, mtu, encapsulation, routeRefreshMs }: FelixSettings): void {
    this.#tunnels?.configure(vxlan);
    this.#network.configure(mtu);
    this.#state.setOverrides(encapsulation);
    this.#schedule.configure(routeRefreshMs, this.#options.clock.nowMs());
    this.#podLinks?.configure(routeRefreshMs);
    this.#loop.wake();
  }

  async stop(): Promise<void> {
    this.#inputs.stop();
    this.#stopWatching?.();
    this.#stopWatching = undefined;
    await Promise.all([this.#loop.stop(), this.#nodeStatus?.stop(), this.#options.packetFilter?.stop()]);
  }

  findings(): readonly Finding[] {
    return [
      ...this.#forwarding.findings(),
      ...(this.#podLinks?.findings() ?? []),
      ...(this.#options.packetFilter?.findings() ?? []),
      ...this.#addressFindings(),
      ...this.#state.findings(),
      ...this.#manager.findings(),
      ...this.#table.findings(),
      ...(this.#tunnels?.findings() ?? []),
      ...(this.#options.moreFindings?.() ?? []),
      ...this.#network.findings(),
    ];
  }

  status(): FelixReport {
    const [state, manager, table] = [this.#state, this.#manager, this.#table];
    return {
      addresses: addressReports(state, manager),
      mtu: { hostBytes: this.#network.hostMTUBytes, podBytes: this.podMTUBytes },
      routes: { wanted: countRoutes(state.routes.values()), inKernel: table.size, pending: table.pending },
      tunnels: tunnelStatuses(state, manager),
      ...this.#reporter.events(),
      findings: this.findings(),
    };
  }

  get podMTUBytes(): number {
    return this.#network.podMTUBytes;
  }

  get ownAddresses(): readonly IP[] {
    return ownAddressesOf(this.#state.localAddresses);
  }

  /** Why this node's addresses are not certain. */
  #addressFindings(): readonly Finding[] {
    return [...duplicateFindings(this.#duplicates), ...(this.#options.nodeAddress?.findings() ?? [])];
  }

  get #duplicates(): ReturnType<CalcState["duplicates"]> {
    return this.#options.ignoresDuplicates === true ? new Map() : this.#state.duplicates();
  }

  #onKernelChange({ kind }: KernelChange): void {
    const nowMs = this.#options.clock.nowMs();
    if (kind === "neigh" || kind === "overrun") this.#tunnels?.onEntriesChanged();
    if (kind === "linkSetting" || kind === "overrun") this.#podLinks?.onChange();
    if (kind === "forwarding") this.#isForwardingOff = true;
    else if (kind !== "neigh" && kind !== "linkSetting") this.#schedule.onKernelChange(kind, nowMs);
    const isUrgent = kind === "neigh" || kind === "forwarding" || kind === "linkSetting" || isAboutRoutes(kind);
    if (isUrgent || this.#mayReadLinks(nowMs)) this.#loop.wake();
    else this.#loop.wakeWithin(LAZY_WAKE_MS);
  }

  async #turn(): Promise<number | undefined> {
    const startedMs = this.#options.clock.nowMs();
    await this.#lookAround(startedMs);
    if (this.#inputs.waitingFor.length > 0) return this.#linksInMs(this.#options.clock.nowMs());
    this.#network.noteSubnets();
    this.#network.noteMTU();
    await this.#tunnels?.applyDevices({
      needs: () => this.#network.tunnelNeeds(),
      readLinks: () => this.#readLinks(),
    });
    this.#convertRoutes();
    const isResync = startedMs >= this.#schedule.resyncDueMs;
    if (isResync) {
      this.#schedule.beginResync(startedMs);
      this.#table.requestResync();
      this.#tunnels?.requestResync();
    }
    this.#keepForwarding(isResync);
    // After forwarding of all links together, which each of them follows.
    const restored = (await this.#podLinks?.apply(this.#state.endpoints)) ?? [];
    this.#reporter.settingsRestored(restored, startedMs);
    const [report, turn] = await this.#apply(startedMs);
    const nowMs = this.#options.clock.nowMs();
    const findingsInMs = this.#reporter.turnDone(report, turn, nowMs);
    this.#checkNodeStatus();
    const detectMs = Math.max(
      this.#options.nodeAddress?.dueMs ?? Number.POSITIVE_INFINITY,
      this.#schedule.linksAllowedMs,
    );
    const waits = [
      this.#linksInMs(nowMs),
      this.#schedule.resyncDueMs - nowMs,
      this.#podLinks && this.#podLinks.dueMs - nowMs,
      report.againInMs,
      this.#tunnels?.againInMs,
      findingsInMs,
      detectMs - nowMs,
    ].filter((ms) => ms !== undefined);
    return Math.max(0, Math.min(...waits));
  }

  #keepForwarding(isResync: boolean): void {
    this.#forwarding.enable((family) => this.#state.hasPoolOf(family), isResync || this.#isForwardingOff);
    if (this.#isForwardingOff) this.#reporter.repaired("forwarding");
    this.#isForwardingOff = false;
  }

  /** Links, and the addresses on them, as far as it is time for it. */
  async #lookAround(nowMs: number): Promise<void> {
    const { nodeAddress } = this.#options;
    if (nodeAddress !== undefined && nowMs >= nodeAddress.dueMs) this.#schedule.markLinks();
    if (this.#schedule.areLinksDirty && this.#mayReadLinks(nowMs)) await this.#readLinks();
    if (nodeAddress !== undefined) this.#state.setDetected(await nodeAddress.detect());
    this.#manager.onLocalAddresses(this.#state.localAddresses);
  }

  /** Nobody else wakes the loop for what has changed while links were listed. */
  #linksInMs(nowMs: number): number | undefined {
    const { linksDueMs } = this.#schedule;
    return linksDueMs === undefined ? undefined : Math.max(0, linksDueMs - nowMs);
  }

  #mayReadLinks(nowMs: number): boolean {
    return nowMs >= this.#schedule.linksAllowedMs || this.#manager.isWaiting;
  }

  async #readLinks(): Promise<void> {
    const { dataplane, clock } = this.#options;
    this.#schedule.beginLinks();
    try {
      const [links, addrs] = await Promise.all([dataplane.listLinks(), dataplane.listAddrs()]);
      this.#manager.onLinks(links, addrs);
      this.#options.nodeAddress?.onLinks(links, addrs);
      this.#options.onAddresses?.(addrs);
      this.#tunnels?.onLinks(links, addrs);
      this.#schedule.linksListed(clock.nowMs());
    } catch (error) {
      this.#schedule.markLinks();
      throw error;
    }
    this.#table.onLinks((ifIndex) => this.#manager.isUp(ifIndex));
    this.#network.noteMTU();
  }

  /** Calculation ▶ manager ▶ table. What the wiring has just made is in the kernel already. */
  #convertRoutes(): void {
    const wired = this.#wired.splice(0);
    for (const { hostIface, hostIfIndex } of wired) this.#manager.onWorkloadLink(hostIfIndex, hostIface);
    this.#manager.onRoutes(this.#state.flush());
    this.#manager.completeDeferredWork(this.#table);
    for (const { ips, hostIfIndex } of wired) {
      for (const ip of ips) this.#table.confirm(formatCIDR(hostCIDR(ip)), hostIfIndex);
    }
  }

  /** Table ▶ kernel. Entries of tunnels come before the routes that need them, and go after. */
  async #apply(startedMs: number): Promise<readonly [ApplyReport, TurnReport]> {
    const { clock } = this.#options;
    await this.#tunnels?.update();
    const appliedAtMs = clock.nowMs();
    const report = await this.#table.apply();
    const endMs = clock.nowMs();
    await this.#tunnels?.sweep(
      (ifIndex) => this.#table.leadsThrough(ifIndex),
      () => this.#schedule.markLinks(true),
    );
    const tunnels = this.#tunnels?.takeReport();
    if (report.isResync) this.#schedule.resynced(appliedAtMs, endMs);
    const { updated, deleted, failed } = report;
    const turn = {
      durationMs: endMs - startedMs,
      ...(report.isResync ? { resyncMs: endMs - appliedAtMs } : {}),
      updated,
      deleted,
      failed,
      restored: report.restored.length,
      replacedForeign: report.replacedForeign.length,
      ...(tunnels && { tunnels }),
    };
    return [report, turn];
  }

  #checkNodeStatus(): void {
    const node = this.#inputs.localNode;
    if (node === undefined || this.#state.localAddresses === undefined) return;
    const encapsulationUnsupported = this.#tunnels?.unsupported;
    const claims = this.#network.claims(this.#duplicates);
    this.#nodeStatus?.check(node, { ...claims, ...(encapsulationUnsupported && { encapsulationUnsupported }) });
  }
}
