// SPDX-License-Identifier: Apache-2.0
import type { KernelChange } from "./ports.ts";
import { ResyncSchedule } from "./resync-schedule.ts";

/** Between two listings of links: other people's containers must not cost one each. Units: milliseconds. */
const LINKS_SPACING_MS = 1000;
/** A link that flaps loses its IPv4 routes without a notification of its own. Units: milliseconds. */
const RESYNC_AFTER_LINK_MS = 5000;

/**
 * When links and routes are listed again: soon after a hint, and never so often that listing is all that Felix does.
 * Units: Unix milliseconds.
 */
export class ListingSchedule {
  readonly #resync: ResyncSchedule;
  #areLinksDirty = true;
  #linksAllowedMs = 0;

  /** @param refreshMs between two full resyncs. Units: milliseconds. */
  constructor(refreshMs: number) {
    this.#resync = new ResyncSchedule(refreshMs);
  }

  get resyncDueMs(): number {
    return this.#resync.dueMs;
  }

  /** No listing of links before; a route that waits for one may ignore it. */
  get linksAllowedMs(): number {
    return this.#linksAllowedMs;
  }

  get areLinksDirty(): boolean {
    return this.#areLinksDirty;
  }

  /** When links have to be listed; undefined: nothing has changed. What comes during a listing is news for the next one. */
  get linksDueMs(): number | undefined {
    return this.#areLinksDirty ? this.#linksAllowedMs : undefined;
  }

  configure(refreshMs: number, nowMs: number): void {
    this.#resync.configure(refreshMs, nowMs);
  }

  /** Links have to be listed; @param isUrgent whatever was listed a moment ago */
  markLinks(isUrgent = false): void {
    this.#areLinksDirty = true;
    if (isUrgent) this.#linksAllowedMs = 0;
  }

  linksListed(nowMs: number): void {
    this.#linksAllowedMs = nowMs + LINKS_SPACING_MS;
  }

  /** From now on, changes are news again. Before the listing: what comes meanwhile asks for another one. */
  beginLinks(): void {
    this.#areLinksDirty = false;
  }

  /** As above. */
  beginResync(nowMs: number): void {
    this.#resync.begin(nowMs);
  }

  /** The time that it took decides when the next one may be. */
  resynced(startedMs: number, endMs: number): void {
    this.#resync.done(startedMs, endMs);
  }

  /** Somebody changed links, addresses or routes. */
  onKernelChange(kind: Exclude<KernelChange["kind"], "neigh" | "forwarding" | "linkSetting">, nowMs: number): void {
    // Tunnels are few and ours: unlike other people's links, they need not wait.
    if (kind !== "route") this.markLinks(kind === "tunnel");
    if (isAboutRoutes(kind)) this.#resync.hint(nowMs);
    else this.#resync.hintLater(nowMs, RESYNC_AFTER_LINK_MS);
  }
}

export function isAboutRoutes(kind: KernelChange["kind"]): boolean {
  return kind === "route" || kind === "overrun";
}
