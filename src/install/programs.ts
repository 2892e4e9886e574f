// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { writeWhole } from "./atomic-file.ts";
import { installError } from "./errors.ts";
import { type InstalledPrograms, parseInstalled, recordPath } from "./installed.ts";

/** What a program is to us. */
export type ProgramKind = "own" | "plugin";

export interface Program {
  readonly name: string;
  /** File that it is copied from. */
  readonly source: string;
  readonly kind: ProgramKind;
}

export interface InstallOptions {
  readonly programs: readonly Program[];
  /** The runtime's folder of plugins. */
  readonly binDir: string;
  /** Where it is written down what was installed; of the agent. */
  readonly stateDir: string;
  /** Also plugins that somebody else has put there. */
  readonly replacesOthers: boolean;
}

export interface InstallOutcome {
  readonly name: string;
  /** `foreign`: another one is there already, and stays. */
  readonly what: "installed" | "updated" | "unchanged" | "foreign";
}

const MODE = 0o755;
const SETTING = "--bin-dir, GINGHAM_CNI_BIN_DIR";
const STATE_SETTING = "--state-dir, GINGHAM_STATE_DIR";

/** Gingham's own programs that were built: the launcher under both of its names, and the standalone plugin. */
export function ownPrograms(folder: string): readonly Program[] {
  const launcher = join(folder, "gingham");
  const standalone = join(folder, "gingham-standalone");
  return [
    { name: "gingham", source: launcher, kind: "own" },
    { name: "gingham-ipam", source: launcher, kind: "own" },
    ...(existsSync(standalone) ? [{ name: "gingham-standalone", source: standalone, kind: "own" } as const] : []),
  ];
}

/**
 * Copies programs into the runtime's folder, each whole or not at all, and only where they differ.
 *
 * A reference plugin that somebody else has installed stays: it may be newer than ours, and other networks use it. What we have
 * installed is known by its digest, which also says at removal what is ours.
 *
 * Idempotent; after a failure, too. @throws InstallError that names the file; those before it are installed
 */
export async function installPrograms(options: InstallOptions): Promise<readonly InstallOutcome[]> {
  const { programs, binDir, stateDir, replacesOthers } = options;
  for (const [folder, setting] of [
    [binDir, SETTING],
    [stateDir, STATE_SETTING],
  ] as const)
    await mkdir(folder, { recursive: true }).catch((error: unknown) => {
      throw installError(`make the folder ${folder}`, error, setting);
    });
  const before = await readInstalled(stateDir);
  const digests = new Map(Object.entries(before.programs));
  const outcomes: InstallOutcome[] = [];
  for (const program of programs) {
    const path = join(binDir, program.name);
    const [wanted, present] = await Promise.all([digestOf(program.source), digestOf(path)]);
    if (wanted === undefined) throw installError(`read ${program.source}`, new Error("there is no such file"));
    const isKnown = present === undefined || (digests.get(path) ?? []).includes(present);
    const isOurs = program.kind === "own" || isKnown || replacesOthers;
    if (present === wanted) outcomes.push({ name: program.name, what: "unchanged" });
    else if (!isOurs) outcomes.push({ name: program.name, what: "foreign" });
    else {
      // Noted first: a copy that nobody knows to be ours would stay for ever. So would the old one, if this fails.
      await writeRecord(stateDir, digests.set(path, present === undefined ? [wanted] : [present, wanted]));
      await writeWhole(path, createReadStream(program.source), { mode: MODE, setting: SETTING });
      await writeRecord(stateDir, digests.set(path, [wanted]));
      outcomes.push({ name: program.name, what: present === undefined ? "installed" : "updated" });
    }
  }
  return outcomes;
}

/** @throws InstallError */
export async function readInstalled(stateDir: string): Promise<InstalledPrograms> {
  const path = recordPath(stateDir);
  try {
    return parseInstalled(await readFile(path, "utf8"));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return { programs: {} };
    throw installError(`read ${path}`, error, STATE_SETTING);
  }
}

async function writeRecord(stateDir: string, digests: ReadonlyMap<string, readonly string[]>): Promise<void> {
  const record: InstalledPrograms = {
    programs: Object.fromEntries([...digests].toSorted(([a], [b]) => (a < b ? -1 : 1))),
  };
  await writeWhole(recordPath(stateDir), `${JSON.stringify(record, undefined, 2)}\n`, {
    mode: 0o600,
    setting: STATE_SETTING,
  });
}

/** SHA-256; undefined if there is no such file. @throws InstallError */
export async function digestOf(path: string): Promise<string | undefined> {
  try {
    if (!(await stat(path)).isFile()) throw Object.assign(new Error("not a file"), { code: "EISDIR" });
    const hash = createHash("sha256");
    await pipeline(createReadStream(path), hash);
    return hash.digest("hex");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw installError(`read ${path}`, error, SETTING);
  }
}
