// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { DeltaTracker } from "../../lib/delta-tracker.ts";
import { describeError } from "../../lib/errors.ts";
import type { Backoff } from "../../lib/retry.ts";
import type { Finding } from "../calc/findings.ts";
import { formatKernelRoute, routeKey, sameKernelRoute } from "../kernel-route.ts";
import type { RouteSink } from "../managers/route-manager.ts";
import { ownerOfRoute } from "../ownership.ts";
import type { KernelRoute, RouteDataplane, RouteResult } from "../ports.ts";
import { FailureLedger } from "./failure-ledger.ts";

/** Source: linux/rtnetlink.h. */
const RTPROT_KERNEL = 2;

export interface RouteTableOptions {
  readonly dataplane: RouteDataplane;
  readonly clock: Clock;
  readonly random: () => number;
  readonly linkName: (ifIndex: number) => string | undefined;
  /** How long an unknown route of ours to a pod is left alone. Units: milliseconds. @default 10_000 */
  readonly workloadGraceMs?: number;
  readonly backoff?: Backoff;
  /** Called with the routes of others after each listing, before anything is written: for wishes that depend on them. */
  readonly onForeign?: (foreign: Iterable<KernelRoute>, sink: RouteSink) => void;
  /** True for an unknown route of ours that may turn out to be right: it is left alone until the answer is false. */
  readonly isUndecided?: (route: KernelRoute) => boolean;
}

/** What one `apply` did. */
export interface ApplyReport {
  readonly isResync: boolean;
  readonly updated: number;
  readonly deleted: number;
  readonly failed: number;
  /** Routes that were right before, and that others had removed or changed. */
  readonly restored: readonly KernelRoute[];
  /** Routes of others that stood where a desired one belongs. */
  readonly replacedForeign: readonly KernelRoute[];
  /** When to apply again although nothing changes: a failed route, or the end of a grace. Units: milliseconds from now. */
  readonly againInMs?: number;
}

/**
 * Makes the main table agree with the desired routes, by the smallest difference.
 *
 * Invariants: the tracker's dataplane view holds our routes only (see `ownership.ts`), foreign ones are kept aside to be
 * reported when a desired route takes their place; nothing foreign is ever deleted. `want`, `hold`, `drop` and
 * `onLinks` are synchronous and only record; `apply` alone talks to the kernel, and only one call of it runs at a time
 * (the apply loop is single-flight).
 *
 * Hazards, each of which cost somebody an outage:
 * - A fresh agent knows nothing: the first `apply` reads the kernel before it writes, and what agrees is not touched.
 * - An ADD writes its route before Felix hears of the pod. An unknown route to a pod is left for a grace.
 * - A route whose link is missing is held: neither written (it would fail) nor deleted (the link may be back at once).
 * - A block that moves to another node is one replace of its key, never delete and add, so no packet falls between.
 *   New keys are written before old ones are deleted. Blackholes need no order: /32s inside them are more specific.
 * - A bridge of another plugin makes a block a segment of this node. The kernel keeps its route beside a blackhole of the same
 *   destination, and uses the older one; so a blackhole gives way to it.
 * - One route that the kernel refuses must not starve the others: it stays dirty, with its error, and is retried later.
 */
export class RouteTable implements RouteSink {
  readonly #options: RouteTableOptions;
  readonly #tracker = new DeltaTracker<string, KernelRoute>(sameKernelRoute);
  readonly #foreign = new Map<string, KernelRoute>();
  readonly #held = new Set<string>();
  readonly #failures: FailureLedger;
  /** Since when a route to a pod is unknown, by key. Units: Unix milliseconds. */
  readonly #unknownSince = new Map<string, number>();
  /** Desired keys that were in sync and whose route others then took away. */
  readonly #lost = new Set<string>();
  /** Keys for which the kernel has a route of its own, since a link has an address of that network. */
  #connected: ReadonlySet<string> = new Set();
  /** Desired blackholes that give way to these. */
  readonly #yielded = new Map<string, KernelRoute>();
  /** Further routes of ours under a key that is taken: the kernel allows several. */
  #surplus: KernelRoute[] = [];
  #resyncWanted = true;

  constructor(options: RouteTableOptions) {
    this.#options = options;
    this.#failures = new FailureLedger({ ...options, backoff: options.backoff ?? { baseMs: 100, maxMs: 30_000 } });
  }

  /** Number of our routes in the kernel, as far as is known. */
  get size(): number {
    return this.#tracker.dataplane.size;
  }

  /** Number of desired routes that the kernel does not have. */
  get pending(): number {
    return this.#tracker.pendingUpdates.size;
  }

  /** Whether the kernel has a route of ours over that link, as far as is known. */
  leadsThrough(ifIndex: number): boolean {
    for (const route of this.#tracker.dataplane.values()) if (route.ifIndex === ifIndex) return true;
    return false;
  }

  want(key: string, route: KernelRoute): void {
    // Whatever made it wait may have taken it out of the kernel without a word.
    if (this.#held.delete(key)) this.#tracker.deleteDataplane(key);
    if (this.#yields(key, route)) {
      this.#tracker.deleteDesired(key);
      this.#yielded.set(key, route);
      return;
    }
    this.#yielded.delete(key);
    const previous = this.#tracker.desired.get(key);
    if (previous !== undefined && sameKernelRoute(previous, route)) return;
    this.#forget(key);
    this.#tracker.setDesired(key, route);
  }

  hold(key: string): void {
    this.drop(key);
    this.#held.add(key);
  }

  drop(key: string): void {
    this.#held.delete(key);
    this.#yielded.delete(key);
    this.#forget(key);
    this.#tracker.deleteDesired(key);
  }

  /** The route over this link was just written by somebody else of ours, as it is desired. */
  confirm(key: string, ifIndex: number): void {
    const desired = this.#tracker.desired.get(key);
    if (desired?.ifIndex === ifIndex) this.#tracker.setDataplane(key, desired);
  }

  requestResync(): void {
    this.#resyncWanted = true;
  }

  /** The kernel has dropped the routes of links that are down or gone (those of IPv4 without a notification). */
  onLinks(isUp: (ifIndex: number) => boolean): void {
    for (const [key, { ifIndex }] of this.#tracker.dataplane) {
      if (ifIndex !== undefined && !isUp(ifIndex)) this.#tracker.deleteDataplane(key);
    }
  }

  /** Routes that the kernel refused and that are still desired. */
  findings(): readonly Finding[] {
    return this.#failures.messages().map(([key, message]) => ({
      code: "RouteRefused",
      subject: key,
      message: `Kernel refused ${message}; retrying`,
    }));
  }

  /** Errors: rejects when a listing or the kernel's side as such fails; a single bad route is counted in the report. */
  async apply(): Promise<ApplyReport> {
    const isResync = this.#resyncWanted;
    if (isResync) await this.#resync();
    const updates = await this.#update();
    const deletes = await this.#delete();
    // What others put right meanwhile needs no retry.
    this.#failures.keepOnly((key) => this.#tracker.pendingUpdates.has(key) || this.#tracker.pendingDeletions.has(key));
    const againInMs = this.#againInMs();
    return {
      isResync,
      updated: updates.updated,
      deleted: deletes.deleted,
      failed: updates.failed + deletes.failed,
      restored: updates.restored,
      replacedForeign: updates.replacedForeign,
      ...(againInMs === undefined ? {} : { againInMs }),
    };
  }

  async #resync(): Promise<void> {
    const { dataplane } = this.#options;
    // Cleared before the listing, since what is asked for meanwhile needs another one; and set again if it fails.
    this.#resyncWanted = false;
    const routes = await Promise.all([dataplane.listRoutes(4), dataplane.listRoutes(6)]).catch((error: unknown) => {
      this.#resyncWanted = true;
      throw error;
    });
    const ours = new Map<string, KernelRoute>();
    const surplus: KernelRoute[] = [];
    this.#foreign.clear();
    const connected = new Set<string>();
    for (const route of routes.flat()) {
      const key = routeKey(route);
      if (route.protocol === RTPROT_KERNEL) connected.add(key);
      const isTaken = ours.has(key) || this.#foreign.has(key);
      // The first route of a key is the one that the kernel uses.
      if (this.#isForeign(route)) {
        if (!isTaken) this.#foreign.set(key, route);
      } else if (isTaken) surplus.push(route);
      else ours.set(key, route);
    }
    this.#giveWayTo(connected);
    this.#options.onForeign?.(this.#foreign.values(), this);
    for (const [key, desired] of this.#tracker.desired) {
      const actual = ours.get(key);
      if (actual === undefined || !sameKernelRoute(actual, desired)) this.#noteLost(key);
    }
    this.#surplus = surplus;
    this.#tracker.replaceDataplane(ours);
  }

  #giveWayTo(connected: ReadonlySet<string>): void {
    this.#connected = connected;
    const concerned = [...connected].flatMap((key) => this.#tracker.desired.get(key) ?? []);
    for (const route of [...concerned, ...this.#yielded.values()]) this.want(routeKey(route), route);
  }

  #yields(key: string, { type }: KernelRoute): boolean {
    return type === "blackhole" && this.#connected.has(key);
  }

  #noteLost(key: string): void {
    const isInSync = this.#tracker.desired.has(key) && !this.#tracker.pendingUpdates.has(key);
    if (isInSync) this.#lost.add(key);
  }

  async #update(): Promise<Pick<ApplyReport, "updated" | "failed" | "restored" | "replacedForeign">> {
    const due = [...this.#tracker.pendingUpdates].filter(([key]) => this.#failures.isDue(key));
    if (due.length === 0) return { updated: 0, failed: 0, restored: [], replacedForeign: [] };
    const results = await this.#options.dataplane.replaceRoutes(due.map(([, route]) => route));
    const accepted = this.#settle(due, results);
    this.#tracker.settleUpdates((key) => accepted.has(key));

    const restored: KernelRoute[] = [];
    const replacedForeign: KernelRoute[] = [];
    for (const [key, route] of accepted) {
      if (this.#lost.delete(key)) restored.push(route);
      const foreign = this.#foreign.get(key);
      if (foreign !== undefined) replacedForeign.push(foreign);
      this.#foreign.delete(key);
    }
    return { updated: accepted.size, failed: due.length - accepted.size, restored, replacedForeign };
  }

  async #delete(): Promise<Pick<ApplyReport, "deleted" | "failed">> {
    const due = [...this.#tracker.pendingDeletions].filter(([key, route]) => this.#mayDelete(key, route));
    for (const key of this.#unknownSince.keys()) {
      if (!this.#tracker.pendingDeletions.has(key)) this.#unknownSince.delete(key);
    }
    // What else lies under a taken key is never retried on its own: the next resync finds it again.
    const surplus = this.#surplus;
    this.#surplus = [];
    if (due.length + surplus.length === 0) return { deleted: 0, failed: 0 };
    const results = await this.#options.dataplane.deleteRoutes([...due.map(([, route]) => route), ...surplus]);
    const accepted = this.#settle(due, results);
    this.#tracker.settleDeletions((key) => accepted.has(key));
    const deletedSurplus = results.slice(due.length).filter(({ error }) => error === undefined).length;
    const deleted = accepted.size + deletedSurplus;
    return { deleted, failed: due.length + surplus.length - deleted };
  }

  /** Returns what the kernel accepted, and remembers the failures of the rest. */
  #settle(
    sent: readonly (readonly [string, KernelRoute])[],
    results: readonly RouteResult[],
  ): Map<string, KernelRoute> {
    const accepted = new Map<string, KernelRoute>();
    for (const [i, [key, route]] of sent.entries()) {
      const result = results[i];
      if (result !== undefined && result.error === undefined) {
        this.#failures.succeeded(key);
        accepted.set(key, route);
      } else {
        const why = result === undefined ? "the kernel worker gave no result" : describeError(result.error);
        this.#failures.failed(key, `route ${formatKernelRoute(route, this.#options.linkName)}: ${why}`);
      }
    }
    return accepted;
  }

  #mayDelete(key: string, route: KernelRoute): boolean {
    if (this.#held.has(key) || !this.#failures.isDue(key)) return false;
    if (this.#options.isUndecided?.(route) === true) return false;
    if (ownerOfRoute(route, this.#options.linkName) !== "workload") return true;
    const nowMs = this.#options.clock.nowMs();
    const since = this.#unknownSince.get(key);
    if (since === undefined) this.#unknownSince.set(key, nowMs);
    return nowMs - (since ?? nowMs) >= this.#graceMs;
  }

  #againInMs(): number | undefined {
    let dueMs = this.#failures.nextRetryMs ?? Number.POSITIVE_INFINITY;
    for (const [key, since] of this.#unknownSince) {
      if (!this.#held.has(key) && !this.#failures.has(key)) dueMs = Math.min(dueMs, since + this.#graceMs);
    }
    return dueMs === Number.POSITIVE_INFINITY ? undefined : Math.max(1, dueMs - this.#options.clock.nowMs());
  }

  get #graceMs(): number {
    return this.#options.workloadGraceMs ?? 10_000;
  }

  #isForeign(route: KernelRoute): boolean {
    return ownerOfRoute(route, this.#options.linkName) === "foreign";
  }

  /** A new wish for a key is a new start: no back-off from the old one, and no loss to be repaired. */
  #forget(key: string): void {
    this.#failures.succeeded(key);
    this.#lost.delete(key);
  }
}
