// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";

/** What we have put into the runtime's folder of plugins. */
export interface InstalledPrograms {
  /**
   * Path to SHA-256 of what we wrote there: of the last two versions while one replaces the other. A file with another digest
   * is somebody else's.
   */
  readonly programs: Readonly<Record<string, readonly string[]>>;
}

/** The file in the agent's state folder. */
export function recordPath(stateDir: string): string {
  return join(stateDir, "installed.json");
}

/** @throws SyntaxError when the file is no such record */
export function parseInstalled(text: string): InstalledPrograms {
  const value = JSON.parse(text) as Partial<InstalledPrograms> | null;
  const programs = value?.programs;
  const isList = (item: unknown): boolean => Array.isArray(item) && item.every((one) => typeof one === "string");
  if (typeof programs !== "object" || programs === null || !Object.values(programs).every(isList))
    throw new SyntaxError("it is no record of installed programs; remove it, and what it should have named stays");
  return { programs };
}
