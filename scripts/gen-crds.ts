// SPDX-License-Identifier: Apache-2.0
// Writes manifests/crds from the kinds in src/crds. With --check it writes nothing and fails when they differ.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { differences, renderManifests } from "./crd-manifests.ts";

const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), "manifests", "crds");
mkdirSync(folder, { recursive: true });
const found = new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")]));
const wanted = renderManifests();
const changed = differences(found, wanted);

if (process.argv.includes("--check")) {
  for (const name of changed) process.stdout.write(`manifests/crds/${name} differs from src/crds: run npm run gen\n`);
  process.exitCode = changed.length === 0 ? 0 : 1;
} else {
  for (const name of changed) {
    const text = wanted.get(name);
    if (text === undefined) rmSync(join(folder, name));
    else writeFileSync(join(folder, name), text);
    process.stdout.write(`${text === undefined ? "removed" : "wrote"} manifests/crds/${name}\n`);
  }
}
