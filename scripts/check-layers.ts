// SPDX-License-Identifier: Apache-2.0
// Proves that imports under src/ point down the layers of scripts/layers.ts, and that production code imports no test.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { layerOf, mayImport } from "./layers.ts";

const src = join(dirname(dirname(fileURLToPath(import.meta.url))), "src");
/** Tests, fakes and contract suites may import whatever they put under test. */
const TEST_SUPPORT = /(\.test|\.contract)\.ts$|(^|\/)(fake|memory)-[^/]*\.ts$/;
const IMPORT = /^\s*(?:import|export)\b[^"';]*?(?:from\s*)?["'](\.[^"']+)["']|import\(\s*["'](\.[^"']+)["']\s*\)/gm;

const findings: string[] = [];
for (const file of globSync("**/*.ts", { cwd: src }).sort()) {
  if (TEST_SUPPORT.test(file)) continue;
  for (const match of readFileSync(join(src, file), "utf8").matchAll(IMPORT)) {
    const target = normalize(join(dirname(file), match[1] ?? match[2] ?? ""));
    if (target.startsWith("..")) findings.push(`src/${file} imports ${target}, which is outside of src/`);
    else if (TEST_SUPPORT.test(target)) findings.push(`src/${file} imports test support src/${target}`);
    else if (!mayImport(file, target)) {
      findings.push(`src/${file} (${layerOf(file)}) may not import src/${target} (${layerOf(target)})`);
    }
  }
}
for (const finding of findings) process.stdout.write(`${finding}\n`);
process.exitCode = findings.length === 0 ? 0 : 1;
