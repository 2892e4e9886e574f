// SPDX-License-Identifier: Apache-2.0
import type { CommandEntry } from "./command.ts";

/**
 * Every command, in the order of --help. Each is imported when it is called, so that none slows down the others:
 *
 *   { name: "ipam show", summary: "…", load: async () => (await import("./ipam/show.ts")).command }
 */
export const COMMANDS: readonly CommandEntry[] = [];
