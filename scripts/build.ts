// SPDX-License-Identifier: Apache-2.0
// Builds dist/: a bundle for each entry point of src/main, the standalone plugin as a single executable, the launcher.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type BuildOptions, build, type Plugin } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");
mkdirSync(dist, { recursive: true });

/**
 * An ES module's import of node:http makes Node evaluate everything that it exports, and with `WebSocket` the whole of
 * undici: 4 MB and 10 ms in each process. `require` takes only what is used.
 */
const requireHTTP: Plugin = {
  name: "require-http",
  setup(bundler) {
    bundler.onResolve({ filter: /^node:https?$/ }, ({ path, kind }) =>
      kind === "import-statement" ? { path, namespace: "required" } : undefined,
    );
    bundler.onLoad({ filter: /.*/, namespace: "required" }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)});`,
    }));
  },
};

const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };

const common: BuildOptions = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  target: "node26",
  legalComments: "none",
  logLevel: "warning",
  outdir: dist,
  define: { __GINGHAM_VERSION__: JSON.stringify(version) },
  plugins: [requireHTTP],
};

function run(command: string, args: readonly string[]): void {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd: dist, encoding: "utf8" });
  if (status === 0) return;
  process.stderr.write(`build: ${command} ${args.join(" ")} failed: ${error?.message ?? `${stdout}${stderr}`}\n`);
  process.exit(1);
}

/** Runs a slow step only when what it is made from changed. */
function unlessUnchanged(output: string, inputs: readonly string[], step: () => void): void {
  const hash = createHash("sha256");
  for (const input of [...inputs, process.execPath])
    hash.update(input === process.execPath ? process.version : readFileSync(input));
  const digest = hash.digest("hex");
  const stamp = join(dist, `.${output}.sha256`);
  if (existsSync(join(dist, output)) && existsSync(stamp) && readFileSync(stamp, "utf8") === digest) return;
  step();
  writeFileSync(stamp, digest);
}

const mains = globSync("src/main/*.ts", { cwd: root }).filter((file) => !file.endsWith(".test.ts"));
const { metafile } = await build({
  ...common,
  entryPoints: mains.filter((file) => !file.endsWith("standalone.ts")).map((file) => join(root, file)),
  format: "esm",
  outExtension: { ".js": ".mjs" },
  sourcemap: "linked",
  // What is loaded only where it is configured (credential plugins, YAML) must not cost memory everywhere else.
  splitting: true,
  metafile: true,
  // Bundled CommonJS packages call require() for Node's own modules, which an ES module does not have.
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
});

// One character beyond Latin 1, also in a comment, and V8 keeps two bytes for each of the whole file. Escaped, it means the same
// in strings, templates and regular expressions.
for (const path of Object.keys(metafile.outputs).filter((name) => name.endsWith(".mjs"))) {
  const text = readFileSync(join(root, path), "utf8");
  const ascii = text.replace(/[^\t\n\r -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  if (ascii !== text) writeFileSync(join(root, path), ascii);
}

// Parts are named by their content: those of older builds would pile up. A laboratory may be running from the others.
const outputs = new Set(Object.keys(metafile.outputs).map((path) => join(root, path)));
for (const file of globSync("*-????????.mjs*", { cwd: dist })) {
  if (!outputs.has(join(dist, file))) rmSync(join(dist, file));
}

// A single executable's code cache needs CommonJS, and CommonJS has no import.meta.
const standalone = await build({
  ...common,
  entryPoints: [join(root, "src/main/standalone.ts")],
  format: "cjs",
  outExtension: { ".js": ".cjs" },
  logOverride: { "empty-import-meta": "silent" },
  metafile: true,
});
// By which a release knows its files and whose code is in them; older chunks of commands still lie beside them.
writeFileSync(
  join(dist, "metafile.json"),
  JSON.stringify({ outputs: { ...metafile.outputs, ...standalone.metafile.outputs } }),
);
unlessUnchanged("gingham-standalone", [join(dist, "standalone.cjs")], () => {
  const sea = {
    main: "standalone.cjs",
    output: "gingham-standalone",
    disableExperimentalSEAWarning: true,
    useCodeCache: true,
    execArgv: ["--disable-warning=ExperimentalWarning"],
  };
  writeFileSync(join(dist, "standalone.sea.json"), JSON.stringify(sea));
  run(process.execPath, ["--build-sea", "standalone.sea.json"]);
});

const launcher = join(root, "launcher/gingham.c");
unlessUnchanged("gingham", [launcher], () => {
  run("musl-gcc", ["-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror", "-o", join(dist, "gingham"), launcher]);
});
