// SPDX-License-Identifier: Apache-2.0
// The one gate before a commit: format, lint, types, layers, unit and property tests. Prints one line a step.
import { spawn } from "node:child_process";

const STEPS: readonly { readonly name: string; readonly argv: readonly string[] }[] = [
  { name: "format and lint (biome)", argv: ["biome", "ci", "--error-on-warnings", "--colors=off", "."] },
  { name: "typed lint (oxlint)", argv: ["oxlint", "--type-aware", "--deny-warnings", "."] },
  { name: "types (tsc)", argv: ["tsc", "-p", "."] },
  { name: "layers", argv: ["node", "scripts/check-layers.ts"] },
  { name: "generated manifests", argv: ["node", "scripts/gen.ts", "--check"] },
  { name: "unit and property tests", argv: ["vitest", "run", "--project", "unit"] },
];

function run(argv: readonly string[]): Promise<{ readonly ok: boolean; readonly output: string }> {
  const [command = "", ...args] = argv;
  return new Promise((resolve) => {
    const env = { ...process.env, NO_COLOR: "1" };
    const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.on("error", (error) => resolve({ ok: false, output: `${command}: ${error.message}\n` }));
    child.on("close", (code) => resolve({ ok: code === 0, output: Buffer.concat(chunks).toString() }));
  });
}

let failed = 0;
for (const { name, argv } of STEPS) {
  const start = performance.now();
  const { ok, output } = await run(argv);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  process.stdout.write(`${ok ? "ok  " : "FAIL"} ${name}, ${seconds} s\n`);
  // The tests' closing lines are worth seeing when green, too: they say how many there were.
  if (ok && argv[0] === "vitest") process.stdout.write(output.slice(output.lastIndexOf(" Test Files")));
  if (!ok) process.stdout.write(`${output}\n`);
  if (!ok) failed++;
}
process.exitCode = failed === 0 ? 0 : 1;
