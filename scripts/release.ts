// SPDX-License-Identifier: Apache-2.0
// Makes a release out of dist/: a tarball of what goes onto a machine, with checksums and the licences of what is in it.
// The same sources and tools give the same bytes.
//
//   node scripts/build.ts && node scripts/release.ts            release/gingham-VERSION-linux-ARCH.tar.gz and SHA256SUMS
//   node scripts/release.ts --stage DIR                         the files alone, under DIR/
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bundledPackages, type Metafile, reachable, readNotice, renderNotices } from "./notices.ts";
import { pack } from "./pack.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const DIST = join(ROOT, "dist");
const PROGRAMS = {
  gingham: "cli",
  "gingham-agent": "agent",
  "gingham-apiserver": "apiserver",
  "gingham-controller": "controller",
};
const ENTRIES = [...Object.values(PROGRAMS).map((name) => `${name}.mjs`), "kernel-worker.mjs", "standalone.cjs"];
const DOCS = ["machines", "operate", "cni-config", "errors", "install", "migrate-from-calico"];
const RUNTIME = `node-linux-${process.arch}`;

const { values: flags } = parseArgs({
  options: { stage: { type: "string" }, out: { type: "string", default: join(ROOT, "release") } },
});
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
const metafile = readMetafile();

function readMetafile(): Metafile {
  const path = join(DIST, "metafile.json");
  if (!existsSync(path)) throw new Error(`${path} is missing: run "npm run build" first`);
  return reachable(JSON.parse(readFileSync(path, "utf8")) as Metafile, ENTRIES);
}

/** Lays out the files as they lie on a machine. */
function stage(root: string): void {
  rmSync(root, { recursive: true, force: true });
  const put = (from: string, to: string, mode = 0o644): void => {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    copyFileSync(from, join(root, to));
    chmodSync(join(root, to), mode);
  };
  const write = (to: string, text: string, mode = 0o644): void => {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    writeFileSync(join(root, to), text);
    chmodSync(join(root, to), mode);
  };
  for (const name of Object.keys(metafile.outputs).map((path) => basename(path)))
    put(join(DIST, name), `usr/lib/gingham/${name}`);
  put(join(ROOT, "node_modules", RUNTIME, "bin/node"), "usr/lib/gingham/node", 0o755);
  const launch = (name: string): string =>
    `#!/bin/sh\nexec /usr/lib/gingham/node --disable-warning=ExperimentalWarning /usr/lib/gingham/${name} "$@"\n`;
  for (const [name, bundle] of Object.entries(PROGRAMS)) write(`usr/bin/${name}`, launch(`${bundle}.mjs`), 0o755);
  symlinkSync("gingham", join(root, "usr/bin/kubectl-gingham"));
  put(join(DIST, "gingham"), "opt/cni/bin/gingham", 0o755);
  symlinkSync("gingham", join(root, "opt/cni/bin/gingham-ipam"));
  write("opt/cni/bin/gingham-standalone", launch("standalone.cjs"), 0o755);
  for (const unit of globSync("*.service", { cwd: join(ROOT, "manifests/systemd") }))
    put(join(ROOT, "manifests/systemd", unit), `usr/lib/systemd/system/${unit}`);
  for (const name of ["apiserver.env", "conflist.json"])
    put(join(ROOT, "manifests/systemd", name), `usr/share/gingham/${name}`);
  cpSync(join(ROOT, "manifests/crds"), join(root, "usr/share/gingham/crds"), { recursive: true });
  for (const name of DOCS) put(join(ROOT, `docs/${name}.md`), `usr/share/doc/gingham/${name}.md`);
  put(join(ROOT, "LICENSE"), "usr/share/doc/gingham/LICENSE");
  write("usr/share/doc/gingham/THIRD-PARTY-NOTICES", notices());
}

function notices(): string {
  const packages = [...bundledPackages(metafile), RUNTIME].sort();
  return renderNotices(packages.map((name) => readNotice(join(ROOT, "node_modules", name))));
}

function main(): void {
  if (flags.stage !== undefined) {
    stage(flags.stage);
    return;
  }
  const name = `gingham-${version}-linux-${process.arch}.tar.gz`;
  mkdirSync(flags.out, { recursive: true });
  const root = join(flags.out, "root");
  stage(root);
  pack(root, join(flags.out, name), Number(process.env["SOURCE_DATE_EPOCH"] ?? 0));
  const digest = createHash("sha256")
    .update(readFileSync(join(flags.out, name)))
    .digest("hex");
  writeFileSync(join(flags.out, "SHA256SUMS"), `${digest}  ${name}\n`);
  rmSync(root, { recursive: true });
  const megabytes = (statSync(join(flags.out, name)).size / 1e6).toFixed(1);
  process.stdout.write(`${join(flags.out, name)} (${megabytes} MB)\n${digest}\n`);
}

main();
