// SPDX-License-Identifier: Apache-2.0
// Writes what of manifests/ comes out of the sources: the CRDs, and what is installed. With --check it writes nothing and fails
// when they differ.
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { differences, renderManifests } from "./crd-manifests.ts";
import { renderInstallManifests } from "./install-manifests.ts";

const root = join(dirname(dirname(fileURLToPath(import.meta.url))), "manifests");
const crds = [...renderManifests()].map(([name, text]) => [`crds/${name}`, text] as const);
const wanted = new Map([...crds, ...renderInstallManifests()]);
const generated = globSync(["*.yaml", "{crds,base}/*.yaml", "overlays/*/*.yaml", "helm/{.,templates}/*.yaml"], {
  cwd: root,
});
const found = new Map(generated.map((name) => [name, readFileSync(join(root, name), "utf8")]));
// What people wrote stays; it does not say that it is generated.
for (const [name, text] of found)
  if (!wanted.has(name) && !text.includes("by npm run gen. Do not edit.")) found.delete(name);
const changed = differences(found, wanted);

if (process.argv.includes("--check")) {
  for (const name of changed) process.stdout.write(`manifests/${name} differs from the sources: run npm run gen\n`);
  process.exitCode = changed.length === 0 ? 0 : 1;
} else {
  for (const name of changed) {
    const text = wanted.get(name);
    mkdirSync(dirname(join(root, name)), { recursive: true });
    if (text === undefined) rmSync(join(root, name));
    else writeFileSync(join(root, name), text);
    process.stdout.write(`${text === undefined ? "removed" : "wrote"} manifests/${name}\n`);
  }
}
