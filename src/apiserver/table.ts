// SPDX-License-Identifier: Apache-2.0
import type { ApiObject, JsonObject } from "./model.ts";
import type { Column } from "./resource.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * An age as kubectl prints it: two units at most, fewer the older it is.
 *
 * Units: milliseconds. Source: k8s.io/apimachinery, duration.HumanDuration.
 */
export function humanDuration(ms: number): string {
  if (ms < -SECOND) return "<invalid>";
  if (ms < 0) return "0s";
  if (ms < 2 * MINUTE) return `${Math.floor(ms / SECOND)}s`;
  if (ms < 10 * MINUTE) return pair(ms, MINUTE, "m", SECOND, "s");
  if (ms < 3 * HOUR) return `${Math.floor(ms / MINUTE)}m`;
  if (ms < 8 * HOUR) return pair(ms, HOUR, "h", MINUTE, "m");
  if (ms < 2 * DAY) return `${Math.floor(ms / HOUR)}h`;
  if (ms < 8 * DAY) return pair(ms, DAY, "d", HOUR, "h");
  if (ms < 2 * 365 * DAY) return `${Math.floor(ms / DAY)}d`;
  if (ms < 8 * 365 * DAY) return pair(ms, 365 * DAY, "y", DAY, "d");
  return `${Math.floor(ms / (365 * DAY))}y`;
}

function pair(ms: number, big: number, bigName: string, small: number, smallName: string): string {
  const rest = Math.floor((ms % big) / small);
  return `${Math.floor(ms / big)}${bigName}${rest === 0 ? "" : `${rest}${smallName}`}`;
}

/** The age of an RFC 3339 time, or `<unknown>`. */
export function age(time: unknown, nowMs: number): string {
  const then = typeof time === "string" ? Date.parse(time) : Number.NaN;
  return Number.isNaN(then) ? "<unknown>" : humanDuration(nowMs - then);
}

export interface TableOptions {
  readonly columns: readonly Column[];
  readonly include: "None" | "Metadata" | "Object";
  readonly nowMs: number;
  /** Absent from the second event of a watch on: the first told it. */
  readonly withDefinitions: boolean;
}

/** Source: Kubernetes API concepts, Receiving resources as Tables; meta/v1 Table. */
export function toTable(objects: readonly ApiObject[], metadata: JsonObject, options: TableOptions): JsonObject {
  const definitions = options.columns.map((c) => ({
    name: c.name,
    type: c.type === "date" ? "string" : c.type,
    format: c.format ?? (c.name === "Name" ? "name" : ""),
    description: c.description,
    priority: c.priority,
  }));
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata,
    columnDefinitions: options.withDefinitions ? definitions : [],
    rows: objects.map((object) => toRow(object, options)),
  };
}

function toRow(object: ApiObject, { columns, include, nowMs }: TableOptions): JsonObject {
  const cells = columns.map((column) => {
    const value = column.cell(object);
    if (column.type !== "date") return value ?? null;
    return value === undefined || value === null ? null : age(value, nowMs);
  });
  if (include === "None") return { cells };
  return { cells, object: include === "Object" ? object : toPartial(object) };
}

export function toPartial(object: ApiObject): JsonObject {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata };
}

export const NAME_COLUMN: Column = {
  name: "Name",
  type: "string",
  format: "name",
  description: "Name must be unique within a namespace.",
  priority: 0,
  cell: (object) => object.metadata.name,
};

export const AGE_COLUMN: Column = {
  name: "Age",
  type: "date",
  description: "Time since the object was created.",
  priority: 0,
  cell: (object) => object.metadata.creationTimestamp,
};
