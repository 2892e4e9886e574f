// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { DeltaTracker } from "../../lib/delta-tracker.ts";
import { describeError } from "../../lib/errors.ts";
import type { Finding } from "../calc/findings.ts";
import type { VTEP } from "../calc/vxlan.ts";
import { entriesFor, entryKey, formatEntry, sameEntry } from "../managers/vxlan-manager.ts";
import type { TunnelDataplane, TunnelEntry } from "../ports.ts";
import { FailureLedger } from "./failure-ledger.ts";

const BACKOFF = { baseMs: 100, maxMs: 30_000 };

/** What one call did. */
export interface EntryReport {
  readonly updated: number;
  readonly deleted: number;
  readonly failed: number;
  /** Entries that were right before, and that others had removed or changed. */
  readonly restored: readonly string[];
}

const NOTHING: EntryReport = { updated: 0, deleted: 0, failed: 0, restored: [] };

/**
 * Makes the permanent entries of one VXLAN device agree with the peers, by the smallest difference.
 *
 * Invariants: every permanent entry of the device is ours (see `ownership.ts`); a fresh agent reads before it writes, and
 * what agrees is not touched; `update` and `sweep` alone talk to the kernel. New entries are written before the routes
 * that need them, and old ones deleted after the routes that needed them: `update`, routes, `sweep`. A node that moves to
 * another address is one replace of its forwarding entry; the old key is gone by then, and its deletion finds nothing.
 */
export class TunnelEntries {
  readonly #port: TunnelDataplane;
  readonly #tracker = new DeltaTracker<string, TunnelEntry>(sameEntry);
  readonly #failures: FailureLedger;
  readonly #lost = new Set<string>();
  #peers: readonly VTEP[] = [];
  #ifIndex: number | undefined;
  #resyncWanted = true;

  constructor(options: { readonly port: TunnelDataplane; readonly clock: Clock; readonly random: () => number }) {
    this.#port = options.port;
    this.#failures = new FailureLedger({ ...options, backoff: BACKOFF });
  }

  get size(): number {
    return this.#tracker.dataplane.size;
  }

  get nextRetryMs(): number | undefined {
    return this.#failures.nextRetryMs;
  }

  /** @param ifIndex undefined: there is no device, so nothing to do */
  want(peers: readonly VTEP[], ifIndex: number | undefined): void {
    if (peers === this.#peers && ifIndex === this.#ifIndex) return;
    if (ifIndex !== this.#ifIndex) {
      // Another device, which has nothing of the old one's.
      this.#tracker.replaceDataplane([]);
      this.#lost.clear();
      this.#resyncWanted = true;
    }
    this.#peers = peers;
    this.#ifIndex = ifIndex;
    const desired = ifIndex === undefined ? new Map<string, TunnelEntry>() : entriesFor(peers, ifIndex);
    for (const key of [...this.#tracker.desired.keys()]) {
      if (!desired.has(key)) this.#tracker.deleteDesired(key);
    }
    for (const [key, entry] of desired) {
      const previous = this.#tracker.desired.get(key);
      if (previous !== undefined && sameEntry(previous, entry) && previous.ifIndex === entry.ifIndex) continue;
      this.#failures.succeeded(key);
      this.#lost.delete(key);
      this.#tracker.setDesired(key, entry);
    }
  }

  requestResync(): void {
    this.#resyncWanted = true;
  }

  /** Writes what is missing or wrong. Errors: rejects when the listing or the kernel's side as such fails. */
  async update(): Promise<EntryReport> {
    if (this.#ifIndex === undefined) return NOTHING;
    if (this.#resyncWanted) await this.#resync(this.#ifIndex);
    const due = [...this.#tracker.pendingUpdates].filter(([key]) => this.#failures.isDue(key));
    if (due.length === 0) return NOTHING;
    const outcomes = await this.#port.replaceEntries(due.map(([, entry]) => entry));
    const accepted = this.#settle(due, outcomes);
    this.#tracker.settleUpdates((key) => accepted.has(key));
    const restored = [...accepted].flatMap(([key, entry]) => (this.#lost.delete(key) ? [formatEntry(entry)] : []));
    return { updated: accepted.size, deleted: 0, failed: due.length - accepted.size, restored };
  }

  /** Deletes what no peer needs any more. Errors: as `update`. */
  async sweep(): Promise<EntryReport> {
    const pending = this.#tracker.pendingDeletions;
    this.#failures.keepOnly((key) => this.#tracker.pendingUpdates.has(key) || pending.has(key));
    const due = [...pending].filter(([key]) => this.#failures.isDue(key));
    if (this.#ifIndex === undefined || due.length === 0) return NOTHING;
    const outcomes = await this.#port.deleteEntries(due.map(([, entry]) => entry));
    const accepted = this.#settle(due, outcomes);
    this.#tracker.settleDeletions((key) => accepted.has(key));
    return { updated: 0, deleted: accepted.size, failed: due.length - accepted.size, restored: [] };
  }

  /** Entries that the kernel refused. */
  findings(): readonly Finding[] {
    return this.#failures.messages().map(([key, message]) => ({
      code: "TunnelRefused",
      subject: key,
      message: `Kernel refused ${message}; retrying`,
    }));
  }

  async #resync(ifIndex: number): Promise<void> {
    // Cleared before the listing, since what is asked for meanwhile needs another one; and set again if it fails.
    this.#resyncWanted = false;
    const entries = await this.#port.listEntries(ifIndex).catch((error: unknown) => {
      this.#resyncWanted = true;
      throw error;
    });
    const actual = new Map(entries.map((entry) => [entryKey(entry), entry]));
    for (const [key, desired] of this.#tracker.desired) {
      const there = actual.get(key);
      const isRight = there !== undefined && sameEntry(there, desired);
      if (!isRight && !this.#tracker.pendingUpdates.has(key)) this.#lost.add(key);
    }
    this.#tracker.replaceDataplane(actual);
  }

  /** Returns what the kernel accepted, and remembers the failures of the rest. */
  #settle(
    sent: readonly (readonly [string, TunnelEntry])[],
    outcomes: readonly (Error | undefined)[],
  ): Map<string, TunnelEntry> {
    const accepted = new Map<string, TunnelEntry>();
    for (const [i, [key, entry]] of sent.entries()) {
      const error = outcomes[i];
      if (error === undefined) {
        this.#failures.succeeded(key);
        accepted.set(key, entry);
      } else this.#failures.failed(key, `${formatEntry(entry)}: ${describeError(error)}`);
    }
    return accepted;
  }
}
