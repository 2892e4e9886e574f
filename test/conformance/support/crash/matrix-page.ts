// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Matrix } from "./matrix.ts";

/** docs/cni-crash-matrix.md: what `npm run crash-matrix` found last, with its text above the first table kept. */
const PAGE = join(import.meta.dirname, "../../../../docs/cni-crash-matrix.md");
const FIRST_TABLE = "\n## ";

export function readPage(): string {
  return readFileSync(PAGE, "utf8");
}

export function writePage(matrices: readonly Matrix[]): void {
  const page = readPage();
  const at = page.indexOf(FIRST_TABLE);
  const text = at < 0 ? page : page.slice(0, at + 1);
  writeFileSync(PAGE, text + matrices.map((matrix) => matrix.renderSection()).join("\n"));
}
