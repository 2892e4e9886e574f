// SPDX-License-Identifier: Apache-2.0
import { statSync } from "node:fs";
import { join } from "node:path";
import { run } from "../src/lab/run.ts";
import { endedChildrenCPU } from "./cpu.ts";
import type { BenchResult } from "./report.ts";
import { execute } from "./spawn.ts";
import { formatMs, median, percentile } from "./stats.ts";

const LIMIT_BYTES = 100_000;
const STARTS = 200;

/** What a node gets installed. */
export async function benchLauncher(root: string): Promise<BenchResult> {
  const file = join(root, "dist/gingham");
  const bytes = statSync(file).size;
  // The dynamic loader lists what it would load; for a static program it refuses.
  const { exitCode, stdout } = await run(["ldd", file]);
  const isStatic = exitCode !== 0 || stdout.includes("statically linked");
  const { times, cpuMs } = await measureStarts(file);
  const [p50, p99] = [median(times), percentile(times, 99)].map(formatMs);
  return {
    name: "launcher",
    lines: [
      `Launcher, from exec to its end (VERSION without an agent): p50 ${p50}, p99 ${p99}, CPU ${formatMs(cpuMs)}`,
    ],
    budgets: [
      {
        what: "Launcher",
        measured: `${(bytes / 1000).toFixed(0)} KB, ${isStatic ? "no" : "a"} dynamic library`,
        budget: "under 100 KB, none",
        holds: bytes < LIMIT_BYTES && isStatic,
      },
    ],
    figures: { bytes, isStatic, times, cpuMs },
  };
}

/** Its start and nothing else: without an agent it answers VERSION itself. */
async function measureStarts(file: string): Promise<{ readonly times: readonly number[]; readonly cpuMs: number }> {
  const env = { CNI_COMMAND: "VERSION", GINGHAM_SOCKET: "/nonexistent/agent.sock" };
  const times: number[] = [];
  const before = endedChildrenCPU();
  for (let n = 0; n < STARTS; n++) {
    const start = performance.now();
    const { code, output } = await execute(file, env, '{"cniVersion":"1.0.0"}');
    times.push(performance.now() - start);
    if (code !== 0) throw new Error(`The launcher's VERSION exited with ${code}: ${output.trim()}`);
  }
  return { times, cpuMs: (endedChildrenCPU() - before) / STARTS };
}
