// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { join } from "node:path";

/** One line of the table of budgets. */
export interface BudgetLine {
  readonly what: string;
  readonly measured: string;
  readonly budget: string;
  readonly holds: boolean;
}

/** What one benchmark found. */
export interface BenchResult {
  readonly name: string;
  /** Printed as it is, before the budgets. */
  readonly lines: readonly string[];
  readonly budgets: readonly BudgetLine[];
  /** Everything measured, for bench/results. */
  readonly figures: unknown;
}

export function renderTable(table: readonly (readonly string[])[]): readonly string[] {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => (row[column] ?? "").length)));
  return table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

export function renderBudgets(budgets: readonly BudgetLine[]): readonly string[] {
  const rows = budgets.map(({ what, measured, budget, holds }) => [what, measured, budget, holds ? "yes" : "NO"]);
  return renderTable([["budget of design.md", "measured", "allowed", "holds"], ...rows]);
}

/** Where the figures come from: without this they mean nothing. */
export function describeMachine(root: string): Readonly<Record<string, unknown>> {
  const git = spawnSync("git", ["-C", root, "rev-parse", "--short", "HEAD"], { encoding: "utf8" });
  const dirty = spawnSync("git", ["-C", root, "status", "--porcelain"], { encoding: "utf8" });
  return {
    commit: `${git.stdout.trim()}${dirty.stdout.trim() === "" ? "" : " and changes"}`,
    kernel: release(),
    cpu: `${cpus().length} × ${cpus()[0]?.model ?? "?"}`,
    node: process.version,
    loadBefore: loadavg()[0],
    memoryTotal: /MemTotal:\s*(.*)/.exec(readFileSync("/proc/meminfo", "utf8"))?.[1],
  };
}

/** Keeps the figures in bench/results and returns the file's path. */
export function writeResults(root: string, results: readonly BenchResult[], machine: object, at: Date): string {
  const dir = join(root, "bench/results");
  mkdirSync(dir, { recursive: true });
  const file = join(dir, `${at.toISOString().replaceAll(":", "-").slice(0, 19)}.json`);
  const content = {
    at: at.toISOString(),
    machine,
    results: results.map(({ name, budgets, figures }) => ({ name, budgets, figures })),
  };
  writeFileSync(file, `${JSON.stringify(content, undefined, 2)}\n`);
  return file;
}
