// SPDX-License-Identifier: Apache-2.0
import { stringifyJSON } from "../lib/json.ts";
import type { Cause } from "./errors.ts";
import { clone, deepEqual, isInteger, isObject, type JsonObject, nameOfType } from "./model.ts";
import { compilePattern } from "./pattern.ts";
import { checkFormat } from "./schema-format.ts";

/** The part of a structural schema that the server reads. Source: apiextensions/v1 JSONSchemaProps. */
export interface JSONSchema {
  readonly type?: string;
  readonly format?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, JSONSchema>>;
  readonly additionalProperties?: boolean | JSONSchema;
  readonly items?: JSONSchema;
  readonly required?: readonly string[];
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly nullable?: boolean;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: boolean;
  readonly exclusiveMaximum?: boolean;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly uniqueItems?: boolean;
  readonly allOf?: readonly JSONSchema[];
  readonly anyOf?: readonly JSONSchema[];
  readonly oneOf?: readonly JSONSchema[];
  readonly not?: JSONSchema;
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
  readonly "x-kubernetes-int-or-string"?: boolean;
  readonly "x-kubernetes-embedded-resource"?: boolean;
  readonly "x-kubernetes-list-type"?: string;
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-map-type"?: string;
  readonly "x-kubernetes-patch-strategy"?: string;
  readonly "x-kubernetes-patch-merge-key"?: string;
  /** Only in OpenAPI documents: what is compiled has everything inside. */
  readonly $ref?: string;
}

/** The schema of a field, wherever the schema of its parent says it. */
export function fieldSchema(schema: JSONSchema | undefined, name: string): JSONSchema | undefined {
  const properties = schema?.properties ?? {};
  if (Object.hasOwn(properties, name)) return properties[name];
  return typeof schema?.additionalProperties === "object" ? schema.additionalProperties : undefined;
}

/** What one walk over an object found. */
export interface Findings {
  readonly causes: Cause[];
  /** Dotted paths of fields that the schema does not know; they are pruned. */
  readonly unknown: string[];
}

/**
 * Validates, fills in defaults and prunes, all in one walk, changing the value in place.
 *
 * Shape: `path` is the dotted path of the value and is put back as it was.
 */
type Walk = (value: unknown, path: string[], findings: Findings) => void;

/** What a walk does besides judging. */
interface Mode {
  /** The fields of any object's root are known. */
  readonly isRoot?: boolean;
  /** Only judge, as inside of anyOf: neither prune nor default. */
  readonly judges?: boolean;
  /** Take a null for an absent field, as the decoder of Kubernetes' own kinds does. */
  readonly dropsNulls?: boolean;
}

/** Compiles a schema to one function, so that a write costs one walk and no look-up of schema fields. */
export function compileSchema(schema: JSONSchema, dropsNulls = false): (object: JsonObject) => Findings {
  const walk = compileNode(schema, { isRoot: true, dropsNulls });
  return (object) => {
    const findings: Findings = { causes: [], unknown: [] };
    walk(object, [], findings);
    return findings;
  };
}

function compileNode(schema: JSONSchema, mode: Mode): Walk {
  const checks = compileChecks(schema);
  const descend = compileDescent(schema, mode);
  const typeOf = expectedType(schema);
  return (value, path, findings) => {
    if (value === null && schema.nullable === true) return;
    if (!typeOf.accepts(value)) {
      const found = `"${nameOfType(value)}"`;
      const message = `Invalid value: ${found}: ${inBody(path)} must be of type ${typeOf.name}: ${found}`;
      findings.causes.push({ reason: "FieldValueTypeInvalid", message, field: join(path) });
      return;
    }
    descend?.(value, path, findings);
    for (const check of checks) check(value, path, findings);
  };
}

function expectedType(schema: JSONSchema): { readonly name: string; accepts(value: unknown): boolean } {
  if (schema["x-kubernetes-int-or-string"] === true) {
    return { name: "integer,string", accepts: (v) => typeof v === "string" || isInteger(v) };
  }
  switch (schema.type ?? "any") {
    case "object":
      return { name: "object", accepts: isObject };
    case "array":
      return { name: "array", accepts: Array.isArray };
    case "string":
      return { name: "string", accepts: (v) => typeof v === "string" };
    case "boolean":
      return { name: "boolean", accepts: (v) => typeof v === "boolean" };
    case "integer":
      return { name: "integer", accepts: isInteger };
    case "number":
      return { name: "number", accepts: (v) => typeof v === "number" || typeof v === "bigint" };
    default:
      return { name: "any", accepts: () => true };
  }
}

function compileDescent(schema: JSONSchema, mode: Mode): Walk | undefined {
  if (schema.items !== undefined) return compileItems(compileNode(schema.items, { ...mode, isRoot: false }));
  const knowsFields =
    schema.properties !== undefined || schema.additionalProperties !== undefined || schema.type === "object";
  return knowsFields ? compileFields(schema, mode) : undefined;
}

function compileItems(item: Walk): Walk {
  return (value, path, findings) => {
    if (!Array.isArray(value)) return;
    const list: readonly unknown[] = value;
    const depth = path.length;
    for (let i = 0; i < list.length; i++) {
      path[depth] = `[${i}]`;
      item(list[i], path, findings);
    }
    path.length = depth;
  };
}

const ROOT_FIELDS = ["apiVersion", "kind", "metadata"];

function compileFields(schema: JSONSchema, mode: Mode): Walk {
  const inner = { ...mode, isRoot: false };
  const fields = new Map(Object.entries(schema.properties ?? {}).map(([name, s]) => [name, compileNode(s, inner)]));
  // The server checks these itself; what a schema says of metadata is not read.
  if (mode.isRoot === true || schema["x-kubernetes-embedded-resource"] === true)
    for (const name of ROOT_FIELDS) fields.set(name, skip);
  const properties = mode.judges === true ? {} : schema.properties;
  const defaults = Object.entries(properties ?? {}).filter(([, s]) => s.default !== undefined);
  const nonNull = new Set(defaults.filter(([, s]) => s.nullable !== true).map(([name]) => name));
  const others = mode.judges === true ? skip : compileOtherFields(schema, inner);
  return (value, path, findings) => {
    if (!isObject(value)) return;
    for (const [name, s] of defaults) {
      const isAbsent = !Object.hasOwn(value, name) || (value[name] === null && nonNull.has(name));
      if (isAbsent) value[name] = clone(s.default);
    }
    for (const name in value) {
      if (value[name] === null && mode.dropsNulls === true) {
        delete value[name];
        continue;
      }
      const walk = fields.get(name) ?? others;
      path.push(name);
      if (walk !== undefined) walk(value[name], path, findings);
      else {
        findings.unknown.push(join(path));
        delete value[name];
      }
      path.pop();
    }
  };
}

function skip(): void {}

function compileOtherFields(schema: JSONSchema, mode: Mode): Walk | undefined {
  const { additionalProperties: others } = schema;
  if (typeof others === "object") return compileNode(others, mode);
  return others === true || schema["x-kubernetes-preserve-unknown-fields"] === true ? skip : undefined;
}

function compileChecks(schema: JSONSchema): Walk[] {
  const checks: Walk[] = [];
  const { required, enum: allowed, format } = schema;
  if (required !== undefined && required.length > 0) {
    checks.push((value, path, findings) => {
      if (!isObject(value)) return;
      for (const name of required) {
        if (Object.hasOwn(value, name)) continue;
        findings.causes.push({ reason: "FieldValueRequired", message: "Required value", field: join([...path, name]) });
      }
    });
  }
  if (allowed !== undefined) {
    const supported = allowed.map((v) => stringifyJSON(v)).join(", ");
    checks.push((value, path, findings) => {
      if (allowed.some((v) => deepEqual(v, value))) return;
      const message = `Unsupported value: ${stringifyJSON(value)}: supported values: ${supported}`;
      findings.causes.push({ reason: "FieldValueNotSupported", message, field: join(path) });
    });
  }
  for (const [isMet, text] of limits(schema)) {
    checks.push((value, path, findings) => {
      if (!isMet(value)) refuse(findings, path, value, text);
    });
  }
  if (format !== undefined) {
    checks.push((value, path, findings) => {
      const problem = checkFormat(format, value);
      if (problem !== undefined) refuse(findings, path, value, problem);
    });
  }
  return [...checks, ...compileCombinations(schema)];
}

function refuse(findings: Findings, path: readonly string[], value: unknown, text: string): void {
  const message = `Invalid value: ${stringifyJSON(value)}: ${inBody(path)} ${text}`;
  findings.causes.push({ reason: "FieldValueInvalid", message, field: join(path) });
}

type Limit = readonly [isMet: (value: unknown) => boolean, text: string];

function limits(schema: JSONSchema): Limit[] {
  const found: Limit[] = [];
  const { pattern, minimum: min, maximum: max } = schema;
  if (pattern !== undefined) {
    const regexp = compilePattern(pattern);
    found.push([(v) => typeof v !== "string" || regexp.test(v), `should match '${pattern}'`]);
  }
  const isNumber = (v: unknown): v is number | bigint => typeof v === "number" || typeof v === "bigint";
  if (min !== undefined) {
    if (schema.exclusiveMinimum === true) found.push([(v) => !isNumber(v) || v > min, `should be greater than ${min}`]);
    else found.push([(v) => !isNumber(v) || v >= min, `should be greater than or equal to ${min}`]);
  }
  if (max !== undefined) {
    if (schema.exclusiveMaximum === true) found.push([(v) => !isNumber(v) || v < max, `should be less than ${max}`]);
    else found.push([(v) => !isNumber(v) || v <= max, `should be less than or equal to ${max}`]);
  }
  const size = (unit: "string" | "array" | "object", low?: number, high?: number, noun = "items"): void => {
    if (low !== undefined) found.push([(v) => sizeOf(v, unit) >= low, `should have at least ${low} ${noun}`]);
    if (high !== undefined) found.push([(v) => sizeOf(v, unit, 0) <= high, `should have at most ${high} ${noun}`]);
  };
  size("string", schema.minLength, schema.maxLength, "chars");
  size("array", schema.minItems, schema.maxItems);
  size("object", schema.minProperties, schema.maxProperties, "properties");
  if (schema.uniqueItems === true) found.push([isUnique, "shouldn't contain duplicates"]);
  return found;
}

function sizeOf(value: unknown, unit: "string" | "array" | "object", other = Number.POSITIVE_INFINITY): number {
  if (unit === "string") return typeof value === "string" ? codePoints(value) : other;
  if (unit === "array") return Array.isArray(value) ? value.length : other;
  return isObject(value) ? Object.keys(value).length : other;
}

/** Kubernetes counts code points, not UTF-16 units. */
function codePoints(text: string): number {
  return Array.from(text).length;
}

function isUnique(value: unknown): boolean {
  return !Array.isArray(value) || new Set(value.map((item) => stringifyJSON(item))).size === value.length;
}

/** allOf, anyOf, oneOf and not only judge: in a structural schema they neither prune nor default. */
function compileCombinations(schema: JSONSchema): Walk[] {
  const judge = (s: JSONSchema): Walk => compileNode(s, { judges: true });
  const passes = (walk: Walk, value: unknown): boolean => {
    const findings: Findings = { causes: [], unknown: [] };
    walk(value, [], findings);
    return findings.causes.length === 0;
  };
  const checks: Walk[] = (schema.allOf ?? []).map(judge);
  const any = schema.anyOf?.map(judge);
  const one = schema.oneOf?.map(judge);
  const not = schema.not === undefined ? undefined : judge(schema.not);
  if (any !== undefined) {
    checks.push((value, path, findings) => {
      if (!any.some((w) => passes(w, value)))
        refuse(findings, path, value, "must validate at least one schema (anyOf)");
    });
  }
  if (one !== undefined) {
    checks.push((value, path, findings) => {
      const count = one.filter((w) => passes(w, value)).length;
      if (count !== 1) refuse(findings, path, value, "must validate one and only one schema (oneOf)");
    });
  }
  if (not !== undefined) {
    checks.push((value, path, findings) => {
      if (passes(not, value)) refuse(findings, path, value, "must not validate the schema (not)");
    });
  }
  return checks;
}

function join(path: readonly string[]): string {
  return path.length === 0 ? "<nil>" : path.join(".").replaceAll(".[", "[");
}

function inBody(path: readonly string[]): string {
  return `${path.length === 0 ? "" : join(path)} in body`.trimStart();
}
