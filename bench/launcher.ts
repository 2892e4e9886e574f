// SPDX-License-Identifier: Apache-2.0
import { statSync } from "node:fs";
import { join } from "node:path";
import { run } from "../src/lab/run.ts";
import type { BenchResult } from "./report.ts";

const LIMIT_BYTES = 100_000;

/** What a node gets installed. */
export async function benchLauncher(root: string): Promise<BenchResult> {
  const file = join(root, "dist/gingham");
  const bytes = statSync(file).size;
  // The dynamic loader lists what it would load; for a static program it refuses.
  const { exitCode, stdout } = await run(["ldd", file]);
  const isStatic = exitCode !== 0 || stdout.includes("statically linked");
  return {
    name: "launcher",
    lines: [],
    budgets: [
      {
        what: "Launcher",
        measured: `${(bytes / 1000).toFixed(0)} KB, ${isStatic ? "no" : "a"} dynamic library`,
        budget: "under 100 KB, none",
        holds: bytes < LIMIT_BYTES && isStatic,
      },
    ],
    figures: { bytes, isStatic },
  };
}
