// SPDX-License-Identifier: Apache-2.0
import type { TurnReport } from "./ports.ts";

/** The fields of one log line about a minute of turns. */
export interface TurnSummaryFields {
  readonly turns: number;
  readonly averageMs: number;
  readonly longestMs: number;
  /** What the longest turn did. */
  readonly longest: string;
  readonly updated: number;
  readonly deleted: number;
  readonly failed: number;
  readonly restored: number;
}

/** Adds turns up, so that a loop says one line a minute instead of one a turn. */
export class TurnSummary {
  #turns: TurnReport[] = [];

  add(turn: TurnReport): void {
    this.#turns.push(turn);
  }

  /** The sum since the last call; undefined when there was no turn. */
  take(): TurnSummaryFields | undefined {
    const turns = this.#turns;
    this.#turns = [];
    const [first, ...others] = turns;
    if (first === undefined) return undefined;
    const total = (field: "durationMs" | "updated" | "deleted" | "failed" | "restored"): number =>
      turns.reduce((sum, turn) => sum + turn[field], 0);
    const longest = others.reduce((a, b) => (b.durationMs > a.durationMs ? b : a), first);
    return {
      turns: turns.length,
      averageMs: round(total("durationMs") / turns.length),
      longestMs: round(longest.durationMs),
      longest: describe(longest),
      updated: total("updated"),
      deleted: total("deleted"),
      failed: total("failed"),
      restored: total("restored"),
    };
  }
}

function describe({ resyncMs, updated, deleted, failed }: TurnReport): string {
  const words = resyncMs === undefined ? [] : [`resync ${round(resyncMs)} ms`];
  for (const [count, what] of [
    [updated, "updated"],
    [deleted, "deleted"],
    [failed, "failed"],
  ] as const) {
    if (count > 0) words.push(`${count} ${what}`);
  }
  return words.join(", ") || "nothing to change";
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
