// SPDX-License-Identifier: Apache-2.0
import { constants, type Stats } from "node:fs";

/**
 * Flags for opening what should be a regular file: a pipe in its place does not make the thread wait for the other end, and a
 * link is not followed.
 */
export const O_REGULAR: number = constants.O_NONBLOCK | constants.O_NOFOLLOW;

/** Says why something is no regular file of at most that size; undefined: it is one. @param stats of lstat */
export function irregularityOf(stats: Stats, maxBytes: number): string | undefined {
  if (stats.isSymbolicLink()) return "is a symbolic link";
  if (stats.isFIFO()) return "is a pipe";
  if (stats.isDirectory()) return "is a folder";
  if (!stats.isFile()) return "is a device or a socket";
  return stats.size > maxBytes ? `is larger than ${maxBytes} bytes` : undefined;
}
