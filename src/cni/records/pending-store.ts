// SPDX-License-Identifier: Apache-2.0
import { constants, existsSync, lstatSync, readdirSync } from "node:fs";
import { lstat, mkdir, open, readFile, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import { describeError } from "../../lib/errors.ts";
import { irregularityOf, O_REGULAR } from "../../lib/regular-file.ts";
import type { Logger, PendingRelease, PendingStore } from "../ports.ts";
import { decodeEnvelope, encodeEnvelope } from "../server/envelope.ts";

/** `<Unix time in ns, 20 digits>-<pid>.del`, written by launcher/gingham.c: write, fsync, rename, fsync of the folder. */
const SUFFIX = ".del";
/** More than a launcher sends. */
const MAX_BYTES = 2 * 1024 * 1024;
/** Whoever writes a file takes milliseconds, and has answered nobody before the rename: one as old as this is a dead one's. */
const HALF_WRITTEN_MS = 600_000;
/** A call that its launcher has given up is read from the socket by then, even after the agent was stopped for long. */
const REMEMBERED_MS = 600_000;

/** Pending releases, the launcher's and the agent's own, as files of one folder. */
export function filePendingStore(folder: string, log: Logger): PendingStore {
  let lastNs = 0n;
  /** By name, oldest first. Units: milliseconds of performance.now(). */
  const removed = new Map<string, number>();
  /** A file never changes, and every ADD looks at all of them: while many wait, each is read once. */
  const known = new Map<string, Promise<PendingRelease[]>>();
  const setAside = async (name: string, reason: string) => {
    log.error({ op: "DEL", file: join(folder, name), reason }, "A pending release cannot be worked off: set aside");
    await rename(join(folder, name), join(folder, `${name}.bad`));
  };
  const read = async (name: string): Promise<PendingRelease[]> => {
    const path = join(folder, name);
    try {
      const irregularity = irregularityOf(await lstat(path), MAX_BYTES);
      if (irregularity === undefined)
        return [{ name, ...decodeEnvelope(await readFile(path, { flag: constants.O_RDONLY | O_REGULAR })) }];
      await setAside(name, irregularity);
    } catch (error) {
      if (!isMissing(error)) await setAside(name, describeError(error));
    }
    return [];
  };
  const forgetAllBut = (there: ReadonlySet<string>): void => {
    for (const name of known.keys()) if (!there.has(name)) known.delete(name);
  };
  const readOnce = (name: string): Promise<PendingRelease[]> => {
    const reading = known.get(name) ?? read(name);
    known.set(name, reading);
    reading.catch(() => known.delete(name));
    return reading;
  };
  return {
    setAside,
    async list() {
      // On the way of every ADD, and nearly always empty: looked at right here, without a trip to the thread pool.
      const names = existsSync(folder) ? readdirSync(folder) : [];
      for (const name of names) if (name.startsWith(".")) await removeIfOld(join(folder, name));
      const pending = names.filter((name) => name.endsWith(SUFFIX)).sort();
      if (known.size > pending.length) forgetAllBut(new Set(pending));
      return pending.length === 0 ? [] : (await Promise.all(pending.map(readOnce))).flat();
    },
    async add(release, nowNs) {
      // No two of one process have the same name.
      lastNs = nowNs > lastNs ? nowNs : lastNs + 1n;
      const name = `${String(lastNs).padStart(20, "0")}-${process.pid}`;
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await writeSynced(join(folder, `.${name}`), encodeEnvelope(release));
      await rename(join(folder, `.${name}`), join(folder, `${name}${SUFFIX}`));
      await syncFolder(folder);
    },
    async has(name) {
      return existsSync(join(folder, name));
    },
    wasRemoved: (name) => removed.has(name),
    async remove(name) {
      const now = performance.now();
      for (const [old, atMs] of removed) {
        if (atMs > now - REMEMBERED_MS) break;
        removed.delete(old);
      }
      removed.set(name, now);
      await removeFile(join(folder, name));
    },
  };
}

async function removeIfOld(path: string): Promise<void> {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats?.isFile() && stats.mtimeMs < Date.now() - HALF_WRITTEN_MS) await removeFile(path);
}

async function removeFile(path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    if (!isMissing(error)) throw error;
  });
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  await file.writeFile(bytes);
  await file.sync();
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, "r");
  await folder.sync();
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
