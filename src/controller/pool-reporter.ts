// SPDX-License-Identifier: Apache-2.0
import type { Event } from "../crds/core.ts";
import { HEALTHY } from "../crds/ip-pool.ts";
import type { Clock } from "../lib/clock.ts";
import { type EventText, IPAM_CONFIG_OBJECT, newEvent } from "./event.ts";
import { blocksText } from "./pool-blocks.ts";
import type { OrphanedBlocks, PoolReport, PoolReporter, PoolVerdict } from "./ports.ts";
import type { Logger } from "./reporter.ts";

export interface PoolReporterOptions {
  readonly log: Logger;
  readonly metrics: { pools(report: PoolReport): void; failed(): void };
  /** Writes an Event; best effort. */
  readonly emit: (event: Event) => Promise<void>;
  readonly clock: Clock;
  /** Name of this process, for the events. */
  readonly instance: string;
}

/**
 * Tells log, metrics and events of pools. The log has each problem once, when it appears. A pool that is gone has no
 * condition, so blocks that it left behind are told in an Event that names it.
 */
export function createPoolReporter(options: PoolReporterOptions): PoolReporter {
  const { log, metrics, emit, clock, instance } = options;
  let toldBefore: ReadonlySet<string> = new Set();
  let orphansBefore: ReadonlySet<string> = new Set();
  let events = 0;
  const tell = async (text: Omit<EventText, "name">): Promise<void> => {
    const nowMs = clock.nowMs();
    const name = `gingham-pools.${nowMs.toString(16)}.${events++}`;
    await emit(newEvent({ ...text, name }, { nowMs, instance })).catch((err: unknown) =>
      log.warn({ err }, "An Event could not be written"),
    );
  };
  return {
    pools: async (report) => {
      metrics.pools(report);
      const told = new Set<string>();
      for (const { pool, problems } of report.verdicts) {
        for (const { reason, message } of problems) {
          // Not by the message, which has counts.
          const key = `${pool.name} ${reason}`;
          told.add(key);
          if (!toldBefore.has(key)) log.warn({ pool: pool.name, reason }, `IPPool ${pool.name}: ${message}`);
        }
      }
      for (const key of toldBefore) if (!told.has(key)) log.info({ problem: key }, "An IPPool's problem is over");
      toldBefore = told;
      // Those of a pool that is there are in its condition.
      const there = new Set(report.verdicts.map(({ pool }) => pool.name));
      const orphans = report.orphans.filter(({ formerPool = "" }) => !there.has(formerPool));
      for (const orphan of orphans) {
        if (orphansBefore.has(orphan.formerPool ?? "")) continue;
        const message = orphansText(orphan);
        log.warn({ pool: orphan.formerPool, reason: "OrphanedBlocks" }, message);
        await tell({ involvedObject: objectOf(orphan), type: "Warning", reason: "OrphanedBlocks", message });
      }
      orphansBefore = new Set(orphans.map(({ formerPool = "" }) => formerPool));
    },
    poolChanged: async ({ pool, problems }: PoolVerdict) => {
      const { apiVersion, kind, metadata } = pool.object;
      const uid = metadata.uid === undefined ? {} : { uid: metadata.uid };
      const involvedObject = { apiVersion, kind, name: pool.name, ...uid };
      const before = pool.conditions.find(({ type }) => type === HEALTHY)?.reason ?? "OK";
      const [first] = problems;
      // Counts in the message are no news.
      if (before === (first?.reason ?? "OK")) return;
      const message = problems.map((problem) => problem.message).join(". ");
      if (first !== undefined) await tell({ involvedObject, type: "Warning", reason: first.reason, message });
      else
        await tell({
          involvedObject,
          type: "Normal",
          reason: "Healthy",
          message: "Nothing is wrong with the pool now",
        });
    },
    failed: (what, err) => {
      metrics.failed();
      log.warn({ op: what, err }, `Cannot ${what}; it is tried again`);
    },
    skipped: (why) => log.warn({ why }, "Pools are not judged for now"),
    conditionsUnsupported: () =>
      log.warn(
        {},
        "The installed kind IPPool keeps no conditions; what is wrong with pools is told here and in metrics only",
      ),
  };
}

function orphansText({ formerPool, blocks }: OrphanedBlocks): string {
  const whose = formerPool === undefined ? "No IPPool has" : `IPPool ${formerPool} is gone, and no other has`;
  const then = "their pods keep them, and their traffic is neither encapsulated nor masqueraded";
  return `${whose} the blocks ${blocksText(blocks)}: ${then}; make the pool again, disabled, or restart these pods`;
}

function objectOf({ formerPool }: OrphanedBlocks): Event["involvedObject"] {
  if (formerPool === undefined) return IPAM_CONFIG_OBJECT;
  return { apiVersion: IPAM_CONFIG_OBJECT.apiVersion, kind: "IPPool", name: formerPool };
}
