// SPDX-License-Identifier: Apache-2.0
// `npm run bench [-- NAME…]`: measures, prints the table of design.md's budgets, exits 1 when one is broken. Everything
// runs in namespaces of its own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { loadavg } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { widenPath } from "../src/lab/host-requirements.ts";
import { sandboxArgv } from "../src/lab/namespaces.ts";
import { benchLauncher } from "./launcher.ts";
import { type BenchResult, describeMachine, renderBudgets, writeResults } from "./report.ts";
import { benchRoundTrip } from "./round-trip.ts";
import { benchThroughput } from "./throughput.ts";

const script = fileURLToPath(import.meta.url);
const root = dirname(dirname(script));
const IPAM = ["requesters", "nearly-full", "fill", "known-blocks", "collection"];
const SANDBOXED = [
  "lone",
  "burst",
  "requests",
  "standalone",
  "routes",
  "addresses",
  "cluster-size",
  "many-routes",
  "vxlan",
  ...IPAM,
];
const NAMES = ["launcher", ...SANDBOXED, "throughput", "round-trip"];

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !NAMES.includes(name));
if (unknown.length > 0) {
  process.stderr.write(`bench: no such bench: ${unknown.join(", ")}; there are ${NAMES.join(", ")}\n`);
  process.exit(2);
}
const wants = (name: string): boolean => chosen.length === 0 || chosen.includes(name);
process.env["PATH"] = widenPath(process.env["PATH"]);

const machine = describeMachine(root);
if ((loadavg()[0] ?? 0) > 1)
  process.stdout.write(`Something else is running (load ${loadavg()[0]?.toFixed(1)}): trust ratios only.\n`);

const results: BenchResult[] = [];
if (wants("launcher")) {
  const result = await benchLauncher(root);
  process.stdout.write(`${result.lines.join("\n")}\n`);
  results.push(result);
}
const sandboxed = SANDBOXED.filter(wants);
if (sandboxed.length > 0) results.push(...(await runSandboxed(sandboxed)));
for (const [name, measure] of [
  ["throughput", benchThroughput],
  ["round-trip", benchRoundTrip],
] as const) {
  if (!wants(name)) continue;
  process.stdout.write(`\n${name} …\n`);
  const result = await measure(root);
  process.stdout.write(`${result.lines.join("\n")}\n`);
  results.push(result);
}

const budgets = results.flatMap((result) => result.budgets);
const broken = budgets.filter(({ holds }) => !holds);
process.stdout.write(`\n${renderBudgets(budgets).join("\n")}\n\n`);
process.stdout.write(`Figures: ${writeResults(root, results, machine, new Date())}\n`);
process.stdout.write(
  broken.length === 0
    ? `All ${budgets.length} budgets hold.\n`
    : `${broken.length} of ${budgets.length} budgets are BROKEN: ${broken.map(({ what }) => what).join("; ")}.\n`,
);
process.exitCode = broken.length === 0 ? 0 : 1;

/** The disk is the project's own, since a /tmp in memory would make every sync free. */
async function runSandboxed(names: readonly string[]): Promise<readonly BenchResult[]> {
  mkdirSync(join(root, ".cache"), { recursive: true });
  const dir = mkdtempSync(join(root, ".cache/bench-"));
  const [command = "", ...args] = sandboxArgv({ rootless: process.getuid?.() !== 0 });
  const inner = join(root, "bench/sandboxed.ts");
  const node = [process.execPath, "--disable-warning=ExperimentalWarning"];
  const child = spawn(command, [...args, ...node, inner, dir, ...names], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const onInterrupt = (): void => void child.kill("SIGKILL");
  process.once("SIGINT", onInterrupt);
  try {
    const [code] = (await once(child, "exit")) as [number | null];
    if (code !== 0) throw new Error(`The bench in its namespaces ended with status ${code}`);
    // Written by sandboxed.ts of the same run.
    return JSON.parse(readFileSync(join(dir, "results.json"), "utf8")) as BenchResult[];
  } finally {
    process.off("SIGINT", onInterrupt);
    rmSync(dir, { recursive: true, force: true });
  }
}
