// SPDX-License-Identifier: Apache-2.0

/** The part of OpenAPI v3 that our structural schemas use. Source: Kubernetes API reference, JSONSchemaProps v1. */
export interface Schema {
  /** Absent only beside x-kubernetes-int-or-string. */
  readonly type?: "object" | "array" | "string" | "integer" | "boolean";
  readonly description?: string;
  readonly format?: string;
  readonly default?: string | number | boolean;
  readonly enum?: readonly string[];
  readonly nullable?: boolean;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly required?: readonly string[];
  /** CEL rules, checked by Kubernetes; our embedded API server does not run them. */
  readonly "x-kubernetes-validations"?: readonly { readonly rule: string; readonly message: string }[];
  /** Where set, fields that the schema does not know are kept instead of pruned. */
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
  readonly "x-kubernetes-int-or-string"?: boolean;
}

type Extra = Omit<Partial<Schema>, "type">;

export function string(description?: string, extra: Extra = {}): Schema {
  return described({ type: "string", ...extra }, description);
}

export function boolean(description?: string, extra: Extra = {}): Schema {
  return described({ type: "boolean", ...extra }, description);
}

export function integer(description?: string, extra: Extra = {}): Schema {
  return described({ type: "integer", ...extra }, description);
}

export function int64(description?: string, extra: Extra = {}): Schema {
  return described({ type: "integer", format: "int64", ...extra }, description);
}

/** A number or a text, such as a port or a range of them. */
export function intOrString(description: string): Schema {
  return { description, "x-kubernetes-int-or-string": true };
}

export function array(items: Schema, description?: string): Schema {
  return described({ type: "array", items }, description);
}

export function map(values: Schema, description?: string): Schema {
  return described({ type: "object", additionalProperties: values }, description);
}

export function object(properties: Readonly<Record<string, Schema>>, extra: Extra = {}): Schema {
  return { type: "object", properties, ...extra };
}

function described(schema: Schema, description: string | undefined): Schema {
  return description === undefined ? schema : { ...schema, description };
}
