// SPDX-License-Identifier: Apache-2.0
import { wallMs } from "../lib/clock.ts";
import { describeError } from "../lib/errors.ts";
import type { Finding } from "./calc/findings.ts";
import type { CalcState } from "./calc/state.ts";
import type { ApplyReport, RouteTable } from "./drivers/route-table.ts";
import { FelixLog } from "./felix-log.ts";
import type { FelixOptions } from "./felix-options.ts";
import type { Failure } from "./health.ts";
import { formatKernelRoute } from "./kernel-route.ts";
import type { LocalNetwork } from "./local-network.ts";
import type { RouteManager } from "./managers/route-manager.ts";
import type { TurnReport } from "./ports.ts";
import { type EventReport, mergeEvents, RecentEvents } from "./recent.ts";
import type { Tunnels } from "./tunnels.ts";

/** What the reporter reads of Felix, besides a turn's own report. */
export interface Reported {
  readonly state: CalcState;
  readonly manager: RouteManager;
  readonly table: RouteTable;
  readonly tunnels: Tunnels | undefined;
  readonly network: LocalNetwork;
  readonly findings: () => readonly Finding[];
}

/** Tells what turns did: log, metrics, and the recent repairs and errors for who asks. */
export class Reporter {
  readonly #options: Pick<FelixOptions, "metrics" | "packetFilter" | "clock">;
  readonly #of: Reported;
  readonly #log: FelixLog;
  readonly #repairs = new RecentEvents();
  readonly #errors = new RecentEvents();
  #isFirstApplyDone = false;
  #failure: Failure | undefined;

  constructor(options: Pick<FelixOptions, "log" | "metrics" | "packetFilter" | "clock">, of: Reported) {
    this.#options = options;
    this.#of = of;
    this.#log = new FelixLog(options.log, options.clock.nowMs(), (ifIndex) => of.manager.linkName(ifIndex));
  }

  get isFirstApplyDone(): boolean {
    return this.#isFirstApplyDone;
  }

  /** Why turns fail, and since when; undefined: the last one did not. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** The latest repairs and errors, the packet filter's among them. */
  events(): { readonly repairs: EventReport; readonly errors: EventReport } {
    const [repairs, errors] = [this.#repairs.report(), this.#errors.report()];
    const filter = this.#options.packetFilter?.events();
    if (filter === undefined) return { repairs, errors };
    return { repairs: mergeEvents(repairs, filter.repairs), errors: mergeEvents(errors, filter.errors) };
  }

  started(waitingFor: readonly string[]): void {
    this.#options.metrics.datastoreResyncStarted();
    this.#log.waitingFor(waitingFor);
  }

  /** What others had changed and nothing else tells of. */
  repaired(what: string): void {
    this.#repairs.add(wallMs(this.#options.clock), what);
  }

  /** What others had set on pods' links and is as it was, in words. */
  settingsRestored(restored: readonly string[], nowMs: number): void {
    for (const what of restored) this.repaired(what);
    this.#options.metrics.settingsRestored(restored.length);
    this.#log.settings(restored, nowMs);
  }

  /** Returns when to have another turn for the sake of findings that are not told yet. Units: milliseconds from now. */
  turnDone(report: ApplyReport, turn: TurnReport, nowMs: number): number | undefined {
    const { manager, network, state, table } = this.#of;
    this.#failure = undefined;
    const linkName = (ifIndex: number): string | undefined => manager.linkName(ifIndex);
    const atMs = wallMs(this.#options.clock);
    for (const route of report.restored) this.#repairs.add(atMs, `route ${formatKernelRoute(route, linkName)}`);
    for (const what of turn.tunnels?.restored ?? []) this.#repairs.add(atMs, what);
    this.#log.localAddresses(state.localAddresses, [manager.parent(4), manager.parent(6)]);
    if (!this.#isFirstApplyDone) {
      this.#isFirstApplyDone = true;
      this.#log.firstApply(report, { routes: table.size, durationMs: turn.durationMs, ...state.counts });
    }
    this.#log.mtu(network.podMTUBytes, network.hostMTUBytes);
    if (turn.tunnels !== undefined) this.#log.tunnels(turn.tunnels, nowMs);
    if (report.isResync || hasChanged(report) || (turn.tunnels !== undefined && hasChanged(turn.tunnels))) {
      this.#options.metrics.turn(turn);
      this.#log.turn(turn, report, nowMs);
    }
    this.#log.summary(nowMs);
    const findings = this.#of.findings();
    this.#setGauges(findings);
    return this.#log.findings(findings, nowMs);
  }

  turnFailed(error: unknown, retryInMs: number): void {
    const reason = describeError(error);
    this.#failure = { reason, sinceMs: this.#failure?.sinceMs ?? this.#options.clock.nowMs() };
    this.#errors.add(wallMs(this.#options.clock), reason);
    this.#options.metrics.turnFailed();
    this.#log.turnFailed(error, retryInMs);
  }

  #setGauges(findings: readonly Finding[]): void {
    const { network, state, table, tunnels } = this.#of;
    const counts = new Map<string, number>();
    for (const { code } of findings) counts.set(code, (counts.get(code) ?? 0) + 1);
    this.#options.metrics.gauges({
      routes: table.size,
      pendingRoutes: table.pending,
      tunnelEntries: tunnels?.size ?? 0,
      podMTUBytes: network.podMTUBytes,
      hosts: state.counts.nodes,
      localEndpoints: state.counts.endpoints,
      isInSync: state.inSync,
      findings: counts,
    });
  }
}

function hasChanged({ updated, deleted, failed }: Pick<TurnReport, "updated" | "deleted" | "failed">): boolean {
  return updated + deleted + failed > 0;
}
