// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import type { Logger } from "../ports.ts";
import type { Conntrack } from "./ports.ts";

/** Without a reason, abort makes an error with its stack. */
const OVER = "over";
/** How long released addresses wait for others to share their pass through the table. */
const COALESCE_MS = 100;
/** After a pass, this many times its length passes before the next, so that passes take a fifth of a core at most. */
const REST_FACTOR = 4;
const RETRY_MS = 1000;

/**
 * Forgets the tracked connections of addresses whose pod is gone, before another pod gets the address: it would be sent
 * the packets of flows that it never began.
 *
 * Nobody who releases waits for it. An ADD does, when it was given an address so soon that the flush is still to come.
 *
 * Invariants: one pass at a time; an address is due, under way or forgotten, and due again when its pass failed or when
 * it is released while its pass is under way, which may have begun before the link was gone.
 */
export class ConntrackFlusher {
  readonly #conntrack: Conntrack;
  readonly #clock: Clock;
  readonly #log: Logger;
  #due = new Set<IP>();
  #underWay: { readonly ips: ReadonlySet<IP>; readonly done: Promise<void> } | undefined;
  #timer: AbortController | undefined;
  #restMs = 0;
  #isUntracked = false;

  constructor({ conntrack, clock, log }: { conntrack: Conntrack; clock: Clock; log: Logger }) {
    this.#conntrack = conntrack;
    this.#clock = clock;
    this.#log = log;
  }

  /** To be called when nothing routes to the addresses any more, so that no entry comes afterwards. */
  released(ips: readonly IP[]): void {
    for (const ip of ips) this.#due.add(ip);
    this.#schedule();
  }

  /**
   * Resolves when no flush of the addresses is to come: at once, unless they were released a moment ago.
   *
   * @throws NetlinkError, KernelWorkerError; the address must not be used then
   */
  async settled(ips: readonly IP[]): Promise<void> {
    const isOpen = (ip: IP): boolean => this.#due.has(ip) || this.#underWay?.ips.has(ip) === true;
    while (ips.some(isOpen)) await this.#pass();
  }

  /** Flushes what is due, for a process that ends. @throws as `settled` */
  async drain(): Promise<void> {
    while (this.#due.size > 0 || this.#underWay !== undefined) await this.#pass();
  }

  /** The next pass, or the end of the one under way, whose failure leaves its addresses due. */
  #pass(): Promise<void> {
    if (this.#underWay !== undefined) return this.#underWay.done.catch(() => {});
    this.#timer?.abort(OVER);
    this.#timer = undefined;
    const ips = this.#due;
    this.#due = new Set();
    const done = this.#flush(ips).finally(() => {
      this.#underWay = undefined;
      this.#schedule();
    });
    this.#underWay = { ips, done };
    return done;
  }

  async #flush(ips: ReadonlySet<IP>): Promise<void> {
    const startMs = this.#clock.nowMs();
    try {
      const outcome = await this.#conntrack.flush([...ips]);
      const durationMs = this.#clock.nowMs() - startMs;
      this.#restMs = durationMs * REST_FACTOR;
      if (outcome.kind === "flushed") {
        this.#log.debug({ addresses: ips.size, entries: outcome.entries, durationMs }, "Tracked connections flushed");
      } else if (!this.#isUntracked) {
        this.#isUntracked = true;
        this.#log.debug(
          { reason: outcome.reason },
          "Connections are not tracked here: released addresses need no flush",
        );
      }
    } catch (error) {
      for (const ip of ips) this.#due.add(ip);
      this.#restMs = RETRY_MS;
      const fields = { err: error, ips: [...ips].slice(0, 10).map(formatIP), addresses: ips.size };
      this.#log.warn(fields, "Tracked connections of released addresses could not be flushed; it is tried again");
      throw error;
    }
  }

  #schedule(): void {
    if (this.#due.size === 0 || this.#timer !== undefined || this.#underWay !== undefined) return;
    const timer = new AbortController();
    this.#timer = timer;
    this.#clock
      .sleep(Math.max(COALESCE_MS, this.#restMs), timer.signal)
      .then(() => this.#pass())
      // Logged where it happened; or the timer was stopped by a pass that came before.
      .catch(() => {});
  }
}
