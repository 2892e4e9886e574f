// SPDX-License-Identifier: Apache-2.0

export interface Progress {
  /** Announces a step, runs it and says how long it took. A step that throws is shown as failed. */
  step<T>(title: string, work: () => Promise<T>): Promise<T>;
  /** Prints lines, indented under the step. */
  show(lines: readonly string[]): void;
}

/**
 * Writes `[2/7] title … 0.4 s`. Each step is one line that is begun at once and ended when the step is: that needs no
 * terminal, so a log reads the same.
 */
export function createProgress(total: number, write: (text: string) => void, nowMs: () => number): Progress {
  let current = 0;
  return {
    async step(title, work) {
      current++;
      write(`[${current}/${total}] ${title} … `);
      const start = nowMs();
      try {
        const result = await work();
        write(`${((nowMs() - start) / 1000).toFixed(1)} s\n`);
        return result;
      } catch (error) {
        write("failed\n");
        throw error;
      }
    },
    show(lines) {
      write(`${lines.map((line) => (line === "" ? "" : `      ${line}`)).join("\n")}\n\n`);
    },
  };
}

/** Says nothing: for tests and benches. */
export const SILENT: Progress = { step: (_title, work) => work(), show: () => {} };
