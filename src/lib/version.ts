// SPDX-License-Identifier: Apache-2.0

/** Replaced by scripts/build.ts with package.json's version. */
declare const __GINGHAM_VERSION__: string;

/** The version that `--version` prints; `source` where nothing was built. */
export const VERSION: string = typeof __GINGHAM_VERSION__ === "string" ? __GINGHAM_VERSION__ : "source";

/** Prints `<program> <version>` and ends, if the command line asks for it. */
export function answerVersion(program: string): void {
  if (!process.argv.slice(2).includes("--version")) return;
  process.stdout.write(`${program} ${VERSION}\n`);
  process.exit(0);
}
