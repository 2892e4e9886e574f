// SPDX-License-Identifier: Apache-2.0

/** Outcomes by point and aftermath, as a table for people. */
export class Matrix {
  readonly failures: string[] = [];
  readonly #title: string;
  readonly #columns: readonly string[];
  readonly #rows = new Map<string, Map<string, string>>();

  constructor(title: string, columns: readonly string[]) {
    this.#title = title;
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
    const letters = this.#columns.map((_, i) => String.fromCharCode(65 + i));
    const legend = this.#columns.map((column, i) => `  ${letters[i]}  ${column}\n`).join("");
    const head = `  ${"".padEnd(width)}  ${letters.map((letter) => letter.padEnd(5)).join("")}`;
    const lines = [...this.#rows].map(
      ([row, cells]) =>
        `  ${row.padEnd(width)}  ${this.#columns.map((column) => (cells.get(column) ?? "-").padEnd(5)).join("")}`,
    );
    const text = [head, ...lines].map((line) => line.trimEnd()).join("\n");
    return `\nKilled: ${this.#title}\n${legend}${text}\n`;
  }
}
