// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Matrix } from "./matrix.ts";

/** docs/cni-crash-matrix.md: what `npm run crash-matrix` found last, with its text above the first table kept. */
const PAGE = join(import.meta.dirname, "../../../../docs/cni-crash-matrix.md");
const FIRST_TABLE = "\n## ";

/** Lines of a matrix, sorted: what runs in the background comes sooner or later. */
export function linesOfPage(title: string): readonly string[] {
  const sections = readFileSync(PAGE, "utf8").split(FIRST_TABLE);
  return linesOf(sections.find((section) => section.startsWith(`${title}\n`)) ?? "");
}

/** The same of a section as it is rendered. */
export function linesOf(section: string): readonly string[] {
  return section
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .toSorted();
}

export function writePage(matrices: readonly Matrix[]): void {
  const page = readFileSync(PAGE, "utf8");
  const at = page.indexOf(FIRST_TABLE);
  const text = at < 0 ? page : page.slice(0, at + 1);
  writeFileSync(PAGE, text + matrices.map((matrix) => matrix.renderSection()).join("\n"));
}
