// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../lib/errors.ts";

/** An object from the API that is not what its kind says. Only this object is unusable: readers report it and go on. */
export class InvalidObjectError extends GinghamError {
  readonly kind: string;
  /** The object's metadata.name; empty when even that is missing. */
  readonly objectName: string;
  /** Path of the bad field, such as `spec.allocations[3]`. */
  readonly field: string;
  readonly value: unknown;
  /** What is there and what should be, for who names object and field himself. */
  readonly words: string;

  constructor(kind: string, objectName: string, field: string, value: unknown, want: string) {
    const words = `${shown(value)}, want ${want}`;
    super(
      "InvalidObject",
      `${kind} ${objectName || "without a name"}: ${field} is ${words}; correct or delete the object`,
    );
    this.kind = kind;
    this.objectName = objectName;
    this.field = field;
    this.value = value;
    this.words = words;
  }
}

function shown(value: unknown): string {
  if (value === undefined) return "missing";
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object";
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
