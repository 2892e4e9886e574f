// SPDX-License-Identifier: Apache-2.0
import { type Clock, wallMs } from "../lib/clock.ts";
import { describeError } from "../lib/errors.ts";
import { ApplyLoop } from "./apply-loop.ts";
import { FilterState } from "./calc/filter-state.ts";
import type { Finding } from "./calc/findings.ts";
import { type FilterReport, FilterTable } from "./drivers/filter-table.ts";
import { type Failure, keptCheck } from "./health.ts";
import { elementsOf } from "./nft/elements.ts";
import { layoutOf } from "./nft/layout.ts";
import type { PacketFilterMetrics, PacketFilterPort } from "./nft/ports.ts";
import { renderTable } from "./nft/render.ts";
import type { FilterSettings } from "./nft/settings.ts";
import type { Elements, Layout } from "./nft/table.ts";
import type { Check, Logger } from "./ports.ts";
import { type EventReport, RecentEvents } from "./recent.ts";
import { ResyncSchedule } from "./resync-schedule.ts";

export interface PacketFilterOptions {
  readonly port: PacketFilterPort;
  readonly settings: FilterSettings;
  /** Between two readings of the kernel's table. Units: milliseconds. @default 60_000 */
  readonly refreshMs?: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: PacketFilterMetrics;
}

const REFRESH_MS = 60_000;
/** Between two lines of the log about repairs. Units: milliseconds. */
const REPAIRS_EVERY_MS = 10_000;
/** Names in one line. */
const SAMPLE = 5;
/** For so long after a write of ours, a notification may be its echo, and is a reason to look only. Units: milliseconds. */
const ECHO_MS = 1000;

/**
 * Keeps the table `inet gingham`, in a loop of its own: routes never wait for nft, nor nft for routes.
 *
 * Invariants: while not all pools and nodes are known, sets that are there keep their elements; a table is only made where
 * there is none, so that strangers are dropped from the beginning. `stop` leaves the table as it is. An endpoint
 * without allowed source prefixes does not wake the loop.
 */
export class PacketFilter {
  readonly state: FilterState = new FilterState();
  readonly #options: PacketFilterOptions;
  readonly #table: FilterTable;
  readonly #loop: ApplyLoop;
  readonly #firstTry = Promise.withResolvers<void>();
  #settings: FilterSettings;
  readonly #schedule: ResyncSchedule;
  /** The kernel has no fully-random, which it said when it was asked for. */
  #lacksRandomFully = false;
  #isInSync = false;
  #isProgrammed = false;
  #seenVersion = 0;
  #stopWatching: () => void = () => {};
  #failure: Failure | undefined;
  readonly #repairs = new RecentEvents();
  readonly #errors = new RecentEvents();
  #counters = new Map<string, number>();
  #repaired: string[] = [];
  #repairsDueMs = 0;
  /** What others have done since the last reading, as far as it is certain. */
  #damage: string[] = [];
  #wroteMs = Number.NEGATIVE_INFINITY;

  constructor(options: PacketFilterOptions) {
    this.#options = options;
    this.#settings = options.settings;
    this.#schedule = new ResyncSchedule(options.refreshMs ?? REFRESH_MS);
    this.#table = new FilterTable(options.port);
    this.#loop = new ApplyLoop({
      clock: options.clock,
      random: options.random,
      turn: async () => await this.#turn(),
      onError: (error, retryInMs) => this.#failed(error, retryInMs),
    });
  }

  /** Fulfilled once the table is there, or could not be made at the first try. */
  get firstTry(): Promise<void> {
    return this.#firstTry.promise;
  }

  /** Takes other settings while it runs. */
  configure(settings: FilterSettings, refreshMs: number): void {
    this.#settings = this.#lacksRandomFully ? { ...settings, randomFully: false } : settings;
    this.#schedule.configure(refreshMs, this.#options.clock.nowMs());
    this.#loop.wake();
  }

  start(): void {
    // Before the first reading, so that no change falls between the two.
    this.#stopWatching = this.#options.port.watch((damage) => this.#onForeignChange(damage));
    this.#loop.start();
  }

  async stop(): Promise<void> {
    this.#stopWatching();
    await this.#loop.stop();
  }

  /** To be called after changes of the state; those that do not matter cost nothing. */
  wake(): void {
    if (this.state.version === this.#seenVersion) return;
    this.#seenVersion = this.state.version;
    this.#loop.wake();
  }

  /** From now on the state is complete. */
  markSynced(): void {
    if (this.#isInSync) return;
    this.#isInSync = true;
    this.#loop.wake();
  }

  /** Whether rules and sets have been in the kernel as they should be, and if not, why. */
  get readiness(): Check {
    if (this.#isProgrammed) {
      const kept = keptCheck(this.#failure, this.#options.clock.nowMs());
      return this.#failure === undefined ? { ok: true, detail: "programmed" } : kept;
    }
    const failure = this.#failure === undefined ? "" : `; the last try failed: ${this.#failure.reason}`;
    return { ok: false, detail: `not programmed yet${failure}` };
  }

  /** What was repaired, and what went wrong, for `gingham node status`. */
  events(): { readonly repairs: EventReport; readonly errors: EventReport } {
    return { repairs: this.#repairs.report(), errors: this.#errors.report() };
  }

  findings(): readonly Finding[] {
    if (this.#failure === undefined) return [];
    const effect = this.#isProgrammed
      ? "later changes of pools and nodes are not in it"
      : "pods can send from any address, and nothing is masqueraded";
    const message = `Cannot keep the table inet gingham: ${this.#failure.reason}; ${effect}`;
    return [{ code: "PacketFilterOff", subject: "inet gingham", message }];
  }

  #onForeignChange(damage: readonly string[]): void {
    const nowMs = this.#options.clock.nowMs();
    // Were ours ever taken for another's, to answer each with a write would never end.
    if (nowMs - this.#wroteMs > ECHO_MS) this.#damage.push(...damage);
    this.#schedule.hint(nowMs);
    this.#loop.wake();
  }

  async #turn(): Promise<number> {
    const { clock, metrics } = this.#options;
    const startedMs = clock.nowMs();
    const isResync = startedMs >= this.#schedule.dueMs;
    if (isResync) {
      this.#schedule.begin(startedMs);
      this.#table.requestResync(this.#damage);
      this.#damage = [];
    }
    const isInSync = this.#isInSync;
    const desired = this.#desired(isInSync);
    let report: FilterReport;
    try {
      report = await this.#table.apply(desired);
    } catch (error) {
      if (!(await this.#isOnlyRandomFully(desired))) throw error;
      this.#lacksRandomFully = true;
      this.#settings = { ...this.#settings, randomFully: false };
      this.#options.log.warn(
        { err: describeError(error) },
        "this kernel refuses fully-random masquerading; ports are chosen in order",
      );
      report = await this.#table.apply(this.#desired(isInSync));
    }
    if (report.wrote !== "nothing") {
      this.#wroteMs = clock.nowMs();
      // What was told meanwhile may have been put right by it.
      this.#damage = [];
    }
    this.#tell(report, isInSync);
    if (isResync) this.#schedule.done(startedMs, clock.nowMs());
    if (report.counters !== undefined || report.wrote !== "nothing") metrics.filterTurn(true);
    const repairsDueMs = this.#repaired.length > 0 ? this.#repairsDueMs : Number.POSITIVE_INFINITY;
    const dueMs = Math.min(this.#schedule.dueMs, repairsDueMs);
    return Math.max(0, dueMs - clock.nowMs());
  }

  #desired(isInSync: boolean): { readonly layout: Layout; readonly elements: Elements | undefined } {
    const layout = this.#layout(this.#settings);
    if (!isInSync) return { layout, elements: undefined };
    const hasNodes =
      this.state.tunnels(this.#settings).length > 0 || this.#settings.natOutgoingExclusions === "IPPoolsAndHostIPs";
    const { externalNodes = [] } = this.#settings;
    return { layout, elements: elementsOf({ ...this.state.contents(hasNodes), ...(hasNodes && { externalNodes }) }) };
  }

  #layout(settings: FilterSettings): Layout {
    const natOutgoing = settings.natOutgoing && this.state.hasNAT;
    return layoutOf({ ...settings, natOutgoing }, this.state.tunnels(this.#settings));
  }

  /** Whether what the kernel has just refused would be taken without that option. */
  async #isOnlyRandomFully({ elements }: { readonly elements: Elements | undefined }): Promise<boolean> {
    if (!this.#settings.randomFully) return false;
    const { port } = this.#options;
    const check = async (randomFully: boolean): Promise<boolean> => {
      const layout = this.#layout({ ...this.#settings, randomFully });
      const script = renderTable(layout, elements ?? new Map<string, ReadonlySet<string>>());
      return await port.check(script).then(
        () => true,
        () => false,
      );
    };
    return !(await check(true)) && (await check(false));
  }

  #tell({ wrote, repaired, counters }: FilterReport, isInSync: boolean): void {
    const { clock, log, metrics } = this.#options;
    this.#failure = undefined;
    if (isInSync && !this.#isProgrammed) {
      this.#isProgrammed = true;
      const did = { table: "written", elements: "its sets brought up to date", nothing: "adopted as it was" }[wrote];
      log.info({ wrote }, `packet filter: table inet gingham ${did}`);
    } else if (wrote !== "nothing") log.debug({ wrote }, "packet filter changed");
    this.#firstTry.resolve();
    this.#tellRepairs(repaired, clock.nowMs());
    if (counters !== undefined) {
      for (const [name, packets] of counters) {
        // A table that was written anew counts from nothing.
        const before = this.#counters.get(name) ?? 0;
        const since = packets >= before ? packets - before : packets;
        if (since > 0) metrics.filterDropped(name, since);
      }
      this.#counters = new Map(counters);
    }
    if (wrote === "table") this.#counters.clear();
  }

  #tellRepairs(repaired: readonly string[], nowMs: number): void {
    const { log, metrics } = this.#options;
    if (repaired.length > 0) metrics.filterRepaired(repaired.length);
    for (const what of repaired) this.#repairs.add(wallMs(this.#options.clock), `table inet gingham, ${what}`);
    this.#repaired.push(...repaired);
    if (this.#repaired.length === 0 || nowMs < this.#repairsDueMs) return;
    const count = this.#repaired.length;
    const more = count > SAMPLE ? [`and ${count - SAMPLE} more`] : [];
    const changes = [...this.#repaired.slice(0, SAMPLE), ...more];
    log.warn({ changes, count }, "table inet gingham was changed by another program; restored");
    this.#repaired = [];
    this.#repairsDueMs = nowMs + REPAIRS_EVERY_MS;
  }

  #failed(error: unknown, retryInMs: number): void {
    const { log, metrics } = this.#options;
    const message = describeError(error);
    metrics.filterTurn(false);
    this.#errors.add(wallMs(this.#options.clock), message);
    // Once for each reason: the finding goes on to tell of it.
    if (message !== this.#failure?.reason)
      log.error({ err: message, retryInMs: Math.round(retryInMs) }, "cannot program the packet filter; will retry");
    this.#failure = { reason: message, sinceMs: this.#failure?.sinceMs ?? this.#options.clock.nowMs() };
    this.#firstTry.resolve();
  }
}
