// SPDX-License-Identifier: Apache-2.0
import { existsSync, readdirSync } from "node:fs";
import { readFile, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import { describeError } from "../lib/errors.ts";
import { decodeEnvelope } from "./envelope.ts";
import type { Logger, PendingRelease, PendingStore } from "./ports.ts";

/** `<Unix time in ns, 20 digits>-<pid>.del`, written by launcher/gingham.c: write, fsync, rename, fsync of the folder. */
const SUFFIX = ".del";

/** The launcher's pending releases as files of one folder. */
export function filePendingStore(folder: string, log: Logger): PendingStore {
  const setAside = async (name: string, reason: string) => {
    log.error({ op: "DEL", file: join(folder, name), reason }, "A pending release cannot be worked off: set aside");
    await rename(join(folder, name), join(folder, `${name}.bad`));
  };
  const read = async (name: string): Promise<PendingRelease[]> => {
    try {
      return [{ name, ...decodeEnvelope(await readFile(join(folder, name))) }];
    } catch (error) {
      if (isMissing(error)) return [];
      await setAside(name, describeError(error));
      return [];
    }
  };
  return {
    setAside,
    async list() {
      // On the way of every ADD, and nearly always empty: looked at right here, without a trip to the thread pool.
      const names = existsSync(folder) ? readdirSync(folder) : [];
      const pending = names.filter((name) => name.endsWith(SUFFIX)).sort();
      return pending.length === 0 ? [] : (await Promise.all(pending.map(read))).flat();
    },
    async remove(name) {
      await unlink(join(folder, name)).catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
    },
  };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
