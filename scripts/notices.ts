// SPDX-License-Identifier: Apache-2.0
// Whose code is in the bundles, by esbuild's own account of what it took, and under which licence.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

/** The part of esbuild's metafile that is read here. */
export interface Metafile {
  readonly outputs: Readonly<
    Record<
      string,
      {
        readonly inputs: Readonly<Record<string, { readonly bytesInOutput: number }>>;
        readonly imports: readonly { readonly path: string; readonly external?: boolean }[];
      }
    >
  >;
}

/** Only the outputs that these entry points load, sooner or later. @param entries file names */
export function reachable({ outputs }: Metafile, entries: readonly string[]): Metafile {
  const found: Record<string, Metafile["outputs"][string]> = {};
  const visit = (path: string): void => {
    const output = outputs[path];
    if (output === undefined || path in found) return;
    found[path] = output;
    for (const { path: next, external } of output.imports) if (external !== true) visit(next);
  };
  for (const entry of entries) {
    const path = Object.keys(outputs).find((each) => basename(each) === entry);
    if (path === undefined) throw new Error(`The build made no ${entry}`);
    visit(path);
  }
  return { outputs: Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1))) };
}

/** A package, its licence's name and the texts that have to go with it. */
export interface Notice {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly text: string;
}

/** Names of the packages of which at least a byte is in some output, in order. A nested package counts by its folder. */
export function bundledPackages({ outputs }: Metafile): readonly string[] {
  const names = new Set<string>();
  for (const { inputs } of Object.values(outputs)) {
    for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
      const found = /^(?:.*:)?(?:.*?\/)?node_modules\/(.*)$/.exec(path)?.[1];
      if (found === undefined || bytesInOutput === 0) continue;
      const inner = found.split("/node_modules/");
      const last = inner.pop() ?? "";
      const folder = last.startsWith("@") ? last.split("/").slice(0, 2) : last.split("/").slice(0, 1);
      names.add([...inner, folder.join("/")].join("/node_modules/"));
    }
  }
  return [...names].sort();
}

/** @throws Error for a package without a licence, which nobody may hand on */
export function readNotice(folder: string): Notice {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Partial<Notice>;
  const files = readdirSync(folder)
    .filter((file) => /^(licen[cs]e|copying|notice)([.-]|$)/i.test(file))
    .sort();
  const text = files.map((file) => readFileSync(join(folder, file), "utf8").trim()).join("\n\n");
  if (name === undefined || version === undefined || typeof license !== "string")
    throw new Error(`${folder} names no licence: it cannot be handed on`);
  return { name, version, license, text };
}

/** musl's is linked into the launcher, and is no package of npm. */
const MUSL: Notice = {
  name: "musl",
  version: existsSync("/usr/share/doc/musl/copyright") ? "as of the building machine" : "",
  license: "MIT",
  text: "Copyright © 2005-2020 Rich Felker, et al. Permission is granted under the MIT licence: https://musl.libc.org",
};

export function renderNotices(notices: readonly Notice[]): string {
  const all = [...notices, MUSL];
  const list = all.map(({ name, version, license }) => `  ${`${name} ${version}`.trim().padEnd(44)}${license}\n`);
  const texts = all.map(
    ({ name, version, text }) =>
      `${"-".repeat(72)}\n${`${name} ${version}`.trim()}\n\n${text || "No text came with the package."}\n`,
  );
  return `Gingham is under the Apache License 2.0, see LICENSE. In its programs is code of:\n\n${list.join("")}\n${texts.join("\n")}`;
}
