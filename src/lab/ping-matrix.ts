// SPDX-License-Identifier: Apache-2.0

/** Who pings whom, and what came back. Pure. */

/** One row: a source and, for each target in order, the round trip. Units: milliseconds; undefined when lost. */
export interface PingRow {
  readonly source: string;
  readonly roundTripsMs: readonly (number | undefined)[];
}

export interface PingTotals {
  readonly sent: number;
  readonly lost: number;
  /** Units: milliseconds; 0 when nothing came back. */
  readonly worstMs: number;
}

/**
 * Reads what `fping -C 1 -q` writes to stderr: `ADDRESS : 0.05`, or `ADDRESS : -` when lost.
 *
 * Shape: one entry a target, in the targets' order; a target that fping does not mention is lost.
 */
export function parseFping(stderr: string, targets: readonly string[]): readonly (number | undefined)[] {
  const byTarget = new Map<string, number>();
  for (const line of stderr.split("\n")) {
    const match = /^(\S+)\s*:\s*([\d.]+)\s*$/.exec(line);
    if (match?.[1] !== undefined) byTarget.set(match[1], Number(match[2]));
  }
  return targets.map((target) => byTarget.get(target));
}

export function totalPings(rows: readonly PingRow[]): PingTotals {
  const all = rows.flatMap((row) => row.roundTripsMs);
  const answered = all.filter((ms) => ms !== undefined);
  return { sent: all.length, lost: all.length - answered.length, worstMs: Math.max(0, ...answered) };
}

/** Draws at most so many rows and columns: a matrix wider than the terminal tells nobody anything. */
export const MATRIX_LIMIT = 16;

/** A table with a row for each source and a column for each target; `LOST` stands out among the round trips. */
export function renderPingMatrix(rows: readonly PingRow[], targets: readonly string[]): readonly string[] {
  const shownRows = rows.slice(0, MATRIX_LIMIT);
  const shownTargets = targets.slice(0, MATRIX_LIMIT);
  const table = [
    ["from \\ to", ...shownTargets],
    ...shownRows.map((row) => [row.source, ...row.roundTripsMs.slice(0, MATRIX_LIMIT).map(renderCell)]),
  ];
  const lines = renderColumns(table);
  const hidden = rows.length - shownRows.length;
  return hidden > 0 ? [...lines, `… and ${hidden} more rows and columns, counted below`] : lines;
}

/** Pads each column to its widest cell: the first to the left, all others to the right. */
export function renderColumns(table: readonly (readonly string[])[]): readonly string[] {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => (row[column] ?? "").length)));
  return table.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

function renderCell(ms: number | undefined): string {
  if (ms === undefined) return "LOST";
  return ms < 10 ? ms.toFixed(2) : ms.toFixed(0);
}
