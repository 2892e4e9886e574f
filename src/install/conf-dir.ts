// SPDX-License-Identifier: Apache-2.0
import { type FSWatcher, watch } from "node:fs";
import { mkdir, readdir, readFile, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { syncFolder, writeWhole } from "./atomic-file.ts";
import { installError } from "./errors.ts";
import type { ConfDir, ConfDirWatch } from "./ports.ts";

/** Read and written by root alone: what the hardening guides ask of network configurations. */
const MODE = 0o600;
/** Who edits a file makes several changes at once. */
const SETTLE_MS = 50;

/** @param setting the option that names the folder */
export function confDir(path: string, setting: string): ConfDir {
  const attempt = async <T>(what: string, act: () => Promise<T>): Promise<T> =>
    await act().catch((error: unknown) => {
      throw installError(what, error, setting);
    });
  return {
    path,
    list: () =>
      attempt(`read ${path}`, async () => {
        await mkdir(path, { recursive: true });
        const entries = await readdir(path, { withFileTypes: true });
        const files = entries.filter((entry) => !entry.isDirectory());
        return await Promise.all(
          files.map(async ({ name }) => {
            const text = await readFile(join(path, name), "utf8").catch(() => undefined);
            return text === undefined ? { name } : { name, text };
          }),
        );
      }),
    write: (name, text) => writeWhole(join(path, name), text, { mode: MODE, setting }),
    rename: (name, to) =>
      attempt(`rename ${join(path, name)} to ${to}`, async () => {
        await rename(join(path, name), join(path, to));
        await syncFolder(path);
      }),
    remove: (name) =>
      attempt(`remove ${join(path, name)}`, async () => {
        await unlink(join(path, name)).catch((error: NodeJS.ErrnoException) => {
          if (error.code !== "ENOENT") throw error;
        });
      }),
    watch: () => watchFolder(path),
  };
}

function watchFolder(path: string): ConfDirWatch {
  const changed = Promise.withResolvers<void>();
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(path, () => changed.resolve());
    // A folder that is taken away: the next look finds out.
    watcher.on("error", () => changed.resolve());
  } catch {
    // No folder yet, or no inotify left: then looking from time to time must do.
  }
  return {
    async changed(timeoutMs, signal) {
      const timer = new AbortController();
      const end = AbortSignal.any([signal, timer.signal]);
      await Promise.race([
        changed.promise.then(() => sleep(SETTLE_MS, undefined, { signal: end })),
        sleep(timeoutMs, undefined, { signal: end }),
      ]).catch(() => {});
      timer.abort();
    },
    close: () => watcher?.close(),
  };
}
