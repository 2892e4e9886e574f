// SPDX-License-Identifier: Apache-2.0
import { stringifyJSON } from "../../lib/json.ts";

export type Format = "table" | "wide" | "json" | "yaml";

export const FORMATS: readonly Format[] = ["table", "wide", "json", "yaml"];

/** Text of anything for a program. 64-bit integers stay exact; the library for YAML is loaded when it is needed. */
export async function serialize(data: unknown, format: "json" | "yaml"): Promise<string> {
  if (format === "json") return `${stringifyJSON(data, 2)}\n`;
  const { DUMP_SCHEMA, dump, intCoreTag } = await import("js-yaml");
  const exactIntegers = {
    ...intCoreTag,
    identify: (value: unknown) => typeof value === "bigint" || intCoreTag.identify(value),
  };
  const schema = DUMP_SCHEMA.withTags(exactIntegers);
  return dump(data, { schema, noRefs: true, lineWidth: -1, quoteStyle: "double" });
}
