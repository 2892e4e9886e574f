// SPDX-License-Identifier: Apache-2.0
import { stripVTControlCharacters } from "node:util";

/** One column of a table. */
export interface Column<T> {
  readonly title: string;
  readonly text: (row: T) => string;
  /** Numbers stand at the right. */
  readonly align?: "left" | "right";
}

const GAP = "   ";

/** Columns as wide as their widest cell, as kubectl prints them. Ends with a newline; no rows, no lines but the titles. */
export function renderTable<T>(columns: readonly Column<T>[], rows: readonly T[]): string {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => columns.map(({ text }) => text(row)))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => displayWidth(line[i] ?? ""))));
  return cells
    .map((line) => {
      const padded = line.map((cell, i) => {
        const fill = " ".repeat((widths[i] ?? 0) - displayWidth(cell));
        return columns[i]?.align === "right" ? fill + cell : cell + fill;
      });
      return `${padded.join(GAP).trimEnd()}\n`;
    })
    .join("");
}

/** Lines `name  value`, the values under each other. */
export function renderFacts(facts: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(0, ...facts.map(([name]) => name.length));
  return facts.map(([name, value]) => `${`${name.padEnd(width)}${GAP}${value}`.trimEnd()}\n`).join("");
}

/** Columns that a text takes on a terminal; colours take none. */
function displayWidth(text: string): number {
  return stripVTControlCharacters(text).length;
}
