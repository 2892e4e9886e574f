// SPDX-License-Identifier: Apache-2.0

/**
 * Reads all documents of a YAML text; empty ones are left out. Integers that a number cannot hold are bigint, as in
 * lib/json.ts. The library is imported when the first YAML comes: most servers see none.
 *
 * @throws Error of the library, with the line.
 */
export async function parseYAML(text: string): Promise<unknown[]> {
  const { CORE_SCHEMA, intCoreTag, loadAll, Schema } = await import("js-yaml");
  const exactIntegers = {
    ...intCoreTag,
    resolve: (source: string, isExplicit: boolean, tagName: string) => {
      const value = intCoreTag.resolve(source, isExplicit, tagName);
      return typeof value === "number" && !Number.isSafeInteger(value) ? BigInt(source) : value;
    },
  };
  const tags = CORE_SCHEMA.tags.map((tag) => (tag === intCoreTag ? exactIntegers : tag));
  const documents: unknown[] = loadAll(text, { schema: new Schema(tags) });
  return documents.filter((document) => document !== undefined && document !== null);
}
