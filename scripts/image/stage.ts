// SPDX-License-Identifier: Apache-2.0
// Lays out in dist/image what the Dockerfile takes of a build: the bundles that the image's commands load, the launcher, and whose code
// is in them.
//
//   node scripts/build.ts && node scripts/image/stage.ts
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundledPackages, type Metafile, reachable, readNotice, renderNotices } from "../notices.ts";
import { mainOf, ROLES } from "./roles.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const DIST = join(ROOT, "dist");
const STAGE = join(DIST, "image");

const entries = [...new Set(ROLES.map((role) => `${mainOf(role)}.mjs`)), "kernel-worker.mjs"];
const built = JSON.parse(readFileSync(join(DIST, "metafile.json"), "utf8")) as Metafile;
const metafile = reachable(built, entries);
const packages = [...bundledPackages(metafile), `node-linux-${process.arch}`].toSorted();
const notices = packages.map((name) => readNotice(join(ROOT, "node_modules", name)));

rmSync(STAGE, { recursive: true, force: true });
mkdirSync(join(STAGE, "programs"), { recursive: true });
for (const name of [...Object.keys(metafile.outputs).map((path) => basename(path)), "gingham"])
  copyFileSync(join(DIST, name), join(STAGE, "programs", name));
const thirdParty = notices.map(({ name, version, license }) => ({ name, version, license }));
writeFileSync(join(STAGE, "third-party.json"), `${JSON.stringify(thirdParty, undefined, 1)}\n`);
writeFileSync(join(STAGE, "THIRD-PARTY-NOTICES"), renderNotices(notices));
