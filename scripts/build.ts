// SPDX-License-Identifier: Apache-2.0
// Builds dist/: one bundle for each entry point of src/main, and the launcher.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");
mkdirSync(dist, { recursive: true });

await build({
  entryPoints: readdirSync(join(root, "src/main"))
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
    .map((file) => join(root, "src/main", file)),
  outdir: dist,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node26",
  sourcemap: "linked",
  legalComments: "none",
  logLevel: "warning",
  // Bundled CommonJS packages call require() for Node's own modules, which an ES module does not have.
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
});

const launcher = [
  "-Os",
  "-static",
  "-s",
  "-Wall",
  "-Wextra",
  "-Werror",
  "-o",
  join(dist, "gingham"),
  join(root, "launcher/gingham.c"),
];
const { status, error } = spawnSync("musl-gcc", launcher, { stdio: "inherit" });
if (error !== undefined || status !== 0) {
  process.stderr.write(
    `build: musl-gcc ${launcher.join(" ")} failed${error === undefined ? "" : `: ${error.message}`}\n`,
  );
  process.exitCode = 1;
}
