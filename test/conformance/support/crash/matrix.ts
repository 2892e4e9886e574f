// SPDX-License-Identifier: Apache-2.0

/** Outcomes by point and aftermath, as a table for people. */
export class Matrix {
  readonly title: string;
  readonly failures: string[] = [];
  readonly #columns: readonly string[];
  readonly #rows = new Map<string, Map<string, string>>();

  constructor(title: string, columns: readonly string[]) {
    this.title = title;
    this.#columns = columns;
  }

  /** Runs one cell; a failure is kept for the end, so that the others are tried, too. After three it gives up. */
  async cell(row: string, column: string, run: () => Promise<void>): Promise<void> {
    const cells = this.#rows.get(row) ?? new Map<string, string>();
    this.#rows.set(row, cells);
    if (this.failures.length >= 3) return;
    try {
      await run();
      cells.set(column, "ok");
    } catch (error) {
      cells.set(column, "FAIL");
      this.failures.push(`${row}, then ${column}: ${String(error)}`);
    }
  }

  render(): string {
    const width = Math.max(...[...this.#rows.keys()].map((row) => row.length));
    const letters = this.#columns.map((_, i) => letter(i));
    const legend = this.#columns.map((column, i) => `  ${letters[i]}  ${column}\n`).join("");
    const head = `  ${"".padEnd(width)}  ${letters.map((name) => name.padEnd(5)).join("")}`;
    const lines = [...this.#rows.keys()].map(
      (row) =>
        `  ${row.padEnd(width)}  ${this.#cells(row)
          .map((cell) => cell.padEnd(5))
          .join("")}`,
    );
    const text = [head, ...lines].map((line) => line.trimEnd()).join("\n");
    return `\nKilled: ${this.title}\n${legend}${text}\n`;
  }

  /** As a section of a page. */
  renderSection(): string {
    return renderSection(
      this.title,
      this.#columns.length,
      [...this.#rows.keys()].map((row) => [row, this.#cells(row)]),
    );
  }

  #cells(row: string): readonly string[] {
    return this.#columns.map((column) => this.#rows.get(row)?.get(column) ?? "-");
  }
}

/** What the section of a matrix says in which every cell is good. */
export function renderGoodSection(title: string, rows: readonly string[], columnCount: number): string {
  return renderSection(
    title,
    columnCount,
    rows.map((row) => [row, Array.from({ length: columnCount }, () => "ok")]),
  );
}

function renderSection(
  title: string,
  columnCount: number,
  rows: readonly (readonly [string, readonly string[]])[],
): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  const letters = Array.from({ length: columnCount }, (_, i) => letter(i));
  const rule = `|${"---|".repeat(columnCount + 1)}\n`;
  const table = rows.map(([row, cells]) => line([row, ...cells])).join("");
  return `## ${title}\n\n${line(["killed", ...letters])}${rule}${table}`;
}

function letter(index: number): string {
  return String.fromCharCode(65 + index);
}
