// SPDX-License-Identifier: Apache-2.0
import type { CNIVersion } from "../cni/input/versions.ts";
import type { CheckResult, Outcome, Report } from "./model.ts";

const MARKS: Readonly<Record<Outcome, string>> = { pass: "ok", fail: "FAIL", skip: "skip" };

/** For people, and as Markdown for documents: a line for each check, a column for each version. */
export function renderTable({ versions, results }: Report): string {
  const names = [...new Set(results.map(({ name }) => name))];
  const rows = names.map((name) => {
    const own = results.filter((result) => result.name === name);
    const marks = versions.map((version) => {
      const found = own.find((result) => result.version === version);
      return found === undefined ? "" : MARKS[found.outcome];
    });
    return [name, own[0]?.section ?? "", ...marks];
  });
  const lines = [["check", "section", ...versions], ...rows];
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const render = (line: readonly string[]): string =>
    `| ${line.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |\n`;
  const [head = [], ...body] = lines;
  return `${render(head)}|${widths.map((width) => "-".repeat(width + 2)).join("|")}|\n${body.map(render).join("")}`;
}

/** Why, for each check that did not pass, as its first version had it: reasons hold addresses and names of the run. */
export function renderReasons({ results }: Report): string {
  const groups = new Map<string, { readonly first: CheckResult; readonly versions: CNIVersion[] }>();
  for (const result of results.filter(({ outcome }) => outcome !== "pass")) {
    const key = `${result.name}\n${result.outcome}`;
    const group = groups.get(key) ?? { first: result, versions: [] };
    groups.set(key, group);
    group.versions.push(result.version);
  }
  return [...groups.values()]
    .map(({ first, versions }) => {
      const reason = first.reason?.replaceAll("\n", " ") ?? "";
      return `- ${MARKS[first.outcome]}: ${first.name} (${versions.join(", ")}): ${reason}\n`;
    })
    .join("");
}

export function renderSummary({ plugin, results }: Report): string {
  const count = (outcome: Outcome): number => results.filter((result) => result.outcome === outcome).length;
  return `${plugin}: ${count("pass")} passed, ${count("fail")} failed, ${count("skip")} skipped\n`;
}
