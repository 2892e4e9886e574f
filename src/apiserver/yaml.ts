// SPDX-License-Identifier: Apache-2.0

/** Reads all documents of a YAML text; empty ones are left out. Imported when the first YAML comes: most servers see none. */
export async function parseYAML(text: string): Promise<unknown[]> {
  const { loadAll } = await import("js-yaml");
  const documents: unknown[] = loadAll(text);
  return documents.filter((document) => document !== undefined && document !== null);
}
