// SPDX-License-Identifier: Apache-2.0
import { open, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { installError } from "./errors.ts";

export interface WriteOptions {
  readonly mode: number;
  /** The option that names the folder, for the message. */
  readonly setting?: string;
}

/**
 * Puts a file in place, whole or not at all: a temporary file in the same folder, fsync, rename, fsync of the folder.
 *
 * Atomic: readers see the old file or the new one, also after a crash. What is executed from the old one goes on.
 *
 * @throws InstallError; then the old file is as it was, and nothing of the new one is left
 */
export async function writeWhole(
  path: string,
  content: string | AsyncIterable<Uint8Array>,
  { mode, setting }: WriteOptions,
): Promise<void> {
  // One name for every try: what a killed process left is overwritten by the next. A dot keeps it from being read as configuration.
  const temporary = join(dirname(path), `.${basename(path)}.gingham-new`);
  try {
    await unlink(temporary).catch(ignoreMissing);
    {
      await using file = await open(temporary, "wx", mode);
      await file.writeFile(content);
      // The mode of `open` is cut by the umask.
      await file.chmod(mode);
      await file.sync();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw installError(`write ${path}`, error, setting);
  }
}

/** A rename is on disk only when its folder is. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, "r");
  await folder.sync();
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
}
