// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../lib/errors.ts";

/** A file on the host that cannot be put, changed or taken away. */
export class InstallError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("Install", message, options);
  }
}

/** The network configuration that the agent was told to write cannot be written as it stands. */
export class ConflistError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("Conflist", message, options);
  }
}

/** Errno by what a person does about it. */
const REASONS: Readonly<Record<string, readonly [reason: string, remedy: string]>> = {
  EROFS: ["the file system is read-only", "name a folder that can be written to"],
  ENOSPC: ["the disk is full", "make room there"],
  EDQUOT: ["the quota of the disk is used up", "make room there"],
  ENOENT: ["there is no such file or folder", "make it, or name another folder"],
  ENOTDIR: ["a part of the path is a file", "name a folder"],
  EISDIR: ["a folder of that name is in the way", "move it away"],
  EACCES: ["it is not permitted", "run as root, and look at the owner and SELinux or AppArmor"],
  EPERM: ["it is not permitted", "run as root, and look for the attribute immutable (lsattr)"],
  EIO: ["the disk fails", "look at the kernel's log"],
};

/**
 * Says what could not be done with a path, why, and what helps.
 *
 * @param setting the option that names the folder, where it was chosen
 */
export function installError(what: string, error: unknown, setting?: string): InstallError {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const [reason, remedy] = REASONS[code] ?? [error instanceof Error ? error.message : String(error), undefined];
  const where = setting === undefined ? "" : ` (${setting})`;
  return new InstallError(`Cannot ${what}: ${reason}${remedy === undefined ? "" : `; ${remedy}${where}`}`, {
    cause: error,
  });
}
