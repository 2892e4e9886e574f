// SPDX-License-Identifier: Apache-2.0
import type { Event } from "../crds/core.ts";
import type { Clock } from "../lib/clock.ts";
import { IPAM_CONFIG_OBJECT, newEvent } from "./event.ts";
import type { CollectorSettings, Freed, Reporter } from "./ports.ts";

/** The methods of a pino logger that are used here. */
export interface Logger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface ReporterOptions {
  readonly log: Logger;
  readonly metrics: {
    census: Reporter["census"];
    freed(things: readonly Freed[]): void;
    failed(): void;
  };
  /** Writes an Event; best effort. */
  readonly emit: (event: Event) => Promise<void>;
  readonly clock: Clock;
  /** Name of this process, for the events. */
  readonly instance: string;
}

/** So many things an event names; the log has all of them. */
const NAMED = 10;

/** Tells log, metrics and events. A line for each thing in the log; one event for each node and kind of a batch. */
export function createReporter(options: ReporterOptions): Reporter {
  const { log, metrics, emit, clock, instance } = options;
  let damagedBefore = "";
  return {
    census: (plan, settings: CollectorSettings) => {
      metrics.census(plan, settings);
      const damaged = plan.damaged.join(" ");
      if (damaged !== damagedBefore && damaged !== "")
        log.error({ blocks: plan.damaged }, "Blocks contradict themselves and are left alone; correct or delete them");
      damagedBefore = damaged;
    },
    freed: async (things, isDryRun) => {
      for (const thing of things) log.info({ ...thing }, isDryRun ? "Would be freed" : "Freed");
      if (isDryRun) return;
      metrics.freed(things);
      let at = 0;
      for (const [, group] of Map.groupBy(things, ({ kind, node }) => `${node} ${kind}`)) {
        const event = renderEvent(group, { nowMs: clock.nowMs(), instance, suffix: String(at++) });
        if (event !== undefined)
          await emit(event).catch((err: unknown) => log.warn({ err }, "An Event could not be written"));
      }
    },
    failed: (what, err) => {
      metrics.failed();
      log.warn({ op: what, err }, `Cannot ${what}; it is tried again`);
    },
    skipped: (why) => log.warn({ why }, "Nothing is collected for now"),
  };
}

/** What was freed of one kind behind one node, as an Event of that Node, or of IPAM's settings when none is known. */
export function renderEvent(
  things: readonly Freed[],
  { nowMs, instance, suffix }: { readonly nowMs: number; readonly instance: string; readonly suffix: string },
): Event | undefined {
  const [first] = things;
  if (first === undefined) return undefined;
  const { kind, node } = first;
  const named = things.slice(0, NAMED).map(({ what, why }) => `${what} (${why})`);
  const more = things.length > NAMED ? ` and ${things.length - NAMED} more` : "";
  const involvedObject = node === "" ? IPAM_CONFIG_OBJECT : { apiVersion: "v1", kind: "Node", name: node };
  const reason = `Freed${kind.slice(0, 1).toUpperCase()}${kind.slice(1)}`;
  const message = `Freed ${things.length} x ${kind}: ${named.join(", ")}${more}`;
  const name = `gingham-collector.${nowMs.toString(16)}.${suffix}`;
  return newEvent({ name, involvedObject, type: "Normal", reason, message, count: things.length }, { nowMs, instance });
}
