// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join, relative } from "node:path";

/**
 * Packs a folder's content so that the same files make the same bytes, whoever does it, where and when: entries by name, owners, modes
 * and times by rule, no name or time in gzip's header.
 *
 * Folders are not in it: unpacked into `/`, it must not change those that are there.
 *
 * @param epochSeconds every file's time: SOURCE_DATE_EPOCH, as reproducible-builds.org has it
 */
export function pack(folder: string, tarball: string, epochSeconds: number): void {
  const same = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", `--mtime=@${epochSeconds}`, "--format=gnu"];
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory());
  const names = files.map(({ parentPath, name }) => relative(folder, join(parentPath, name))).sort();
  const how = ["--mode=u=rwX,go=rX", "-I", "gzip -n", "-cf", tarball, "-T", "-"];
  execFileSync("tar", ["-C", folder, ...same, ...how], { input: names.join("\n") });
}
