// SPDX-License-Identifier: Apache-2.0
import { pino } from "pino";

/** The agent's log, a child of it for each component, and one level for all. */
export interface Logs {
  readonly root: pino.Logger;
  of(component: string): pino.Logger;
  setLevel(level: string): void;
}

export function openLogs(options: { nodeName: string; level: string; isPlan: boolean }): Logs {
  const { nodeName, level, isPlan } = options;
  const root = pino(
    { level, base: { node: nodeName }, timestamp: pino.stdTimeFunctions.isoTime },
    // A plan is for people, and what is said on the way to it must not stand in it.
    // Each line at once: to hand it to the thread pool costs several times the write, and a crash loses the last lines.
    pino.destination({ dest: isPlan ? 2 : 1, sync: true }),
  );
  const all = [root];
  return {
    root,
    of: (component) => {
      const child = root.child({ component });
      all.push(child);
      return child;
    },
    setLevel: (next) => {
      for (const each of all) each.level = next;
    },
  };
}
