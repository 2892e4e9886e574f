// SPDX-License-Identifier: Apache-2.0
import { aborted } from "../lib/aborted.ts";
import type { Clock } from "../lib/clock.ts";
import { type CIDR, formatCIDR } from "../net/cidr.ts";
import { mergeConditions } from "./conditions.ts";
import { judgePools } from "./pool-verdicts.ts";
import type { BlockUse, PoolReporter, PoolSource, PoolVerdict } from "./ports.ts";

export interface PoolKeeperOptions {
  readonly source: PoolSource;
  readonly reporter: PoolReporter;
  readonly clock: Clock;
  /** Judge and report, and write nothing. */
  readonly isDryRun: boolean;
}

/** Blocks and reservations are not watched. */
const PERIOD_MS = 5 * 60_000;
/** After a pass that failed or met a conflict. */
const SOON_MS = 10_000;
/** Changes come in groups. */
const SETTLE_MS = 1000;

/** Keeps the conditions of all IPPools true: a pass after each change, and now and then. */
export class PoolKeeper {
  readonly #options: PoolKeeperOptions;
  /** Of each pool that was seen in this term, every network that it had, the present one too. */
  readonly #seen = new Map<string, CIDR[]>();
  #blocks: readonly BlockUse[] = [];
  #blocksReadMs = Number.NEGATIVE_INFINITY;
  #wake = new AbortController();
  #canWrite = true;

  constructor(options: PoolKeeperOptions) {
    this.#options = options;
  }

  /** Something that pools are judged by has changed. `blocks`: so that the blocks are to be read again. */
  nudge(what: "blocks" | "others"): void {
    if (what === "blocks") this.#blocksReadMs = Number.NEGATIVE_INFINITY;
    this.#wake.abort();
  }

  /** Passes until the signal aborts. A pass that fails is told and tried again. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { source, reporter, clock } = this.#options;
    await Promise.race([source.synced, aborted(signal)]);
    while (!signal.aborted) {
      this.#wake = new AbortController();
      let isDone = false;
      try {
        isDone = await this.pass(signal);
      } catch (error) {
        if (!signal.aborted) reporter.failed("judge the pools", error);
      }
      const early = AbortSignal.any([signal, this.#wake.signal]);
      await clock.sleep(isDone ? PERIOD_MS : SOON_MS, early).catch(() => {});
      await clock.sleep(SETTLE_MS, signal).catch(() => {});
    }
  }

  /** One look at all pools, and the writes that follow from it. @returns false when it should be repeated soon */
  async pass(signal: AbortSignal): Promise<boolean> {
    const { source, reporter, clock } = this.#options;
    const nowMs = clock.nowMs();
    if (nowMs - this.#blocksReadMs >= PERIOD_MS) {
      // Before the pools: a pool that is made now cannot be missing for a block of it.
      this.#blocks = await source.blockUses(signal);
      this.#blocksReadMs = nowMs;
    }
    const facts = await source.poolFacts(signal);
    if (!facts.datastoreReady) {
      reporter.skipped("ClusterInformation default has datastoreReady false");
      return true;
    }
    const report = judgePools(facts, this.#blocks, this.#seen);
    for (const { name, cidr } of facts.pools) if (cidr !== undefined) this.#remember(name, cidr);
    await reporter.pools(report);
    let isDone = true;
    for (const verdict of report.verdicts) isDone = (await this.#write(verdict, signal)) && isDone;
    return isDone;
  }

  async #write(verdict: PoolVerdict, signal: AbortSignal): Promise<boolean> {
    const { source, reporter, clock, isDryRun } = this.#options;
    const { pool } = verdict;
    const conditions = mergeConditions(pool.conditions, verdict.conditions, clock.nowMs());
    if (conditions === undefined || isDryRun || !this.#canWrite) return true;
    signal.throwIfAborted();
    try {
      const outcome = await source.writeConditions(pool, conditions, signal);
      if (outcome === "ok") await reporter.poolChanged(verdict);
      if (outcome === "unsupported") {
        this.#canWrite = false;
        reporter.conditionsUnsupported();
      }
      // Somebody was faster: what he wrote may change the verdict. His write wakes us, too, but perhaps has already.
      return outcome !== "conflict";
    } catch (error) {
      if (signal.aborted) throw error;
      reporter.failed(`write the conditions of IPPool ${pool.name}`, error);
      return false;
    }
  }

  #remember(name: string, cidr: CIDR): void {
    const seen = this.#seen.get(name) ?? [];
    if (!seen.some((other) => formatCIDR(other) === formatCIDR(cidr))) seen.push(cidr);
    this.#seen.set(name, seen);
  }
}
