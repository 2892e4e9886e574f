// SPDX-License-Identifier: Apache-2.0
import { type ApiObject, isObject } from "../model.ts";
import type { Column } from "../resource.ts";

/** A value somewhere inside of an object; undefined when the way there is missing. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let found = value;
  for (const field of path) found = isObject(found) ? found[field] : undefined;
  return found;
}

export function listAt(value: unknown, ...path: readonly string[]): readonly unknown[] {
  const found = at(value, ...path);
  return Array.isArray(found) ? found : [];
}

export function column(
  name: string,
  cell: (object: ApiObject) => unknown,
  priority = 0,
  type: Column["type"] = "string",
): Column {
  return { name, type, description: "", priority, cell };
}

/** A column that shows one field, with a text for "not there". */
export function fieldColumn(name: string, path: string, absent: unknown = "<none>", priority = 0): Column {
  const fields = path.split(".");
  return column(name, (object) => at(object, ...fields) ?? absent, priority);
}
