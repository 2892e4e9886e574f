// SPDX-License-Identifier: Apache-2.0
import { badRequest } from "./errors.ts";
import type { ApiObject } from "./model.ts";

/** Says whether an object belongs to a list or watch. */
export type Matcher = (object: ApiObject) => boolean;

interface Requirement {
  readonly key: string;
  readonly operator: "=" | "!=" | "in" | "notin" | "exists" | "!exists" | ">" | "<";
  readonly values: readonly string[];
}

const KEY = "[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?";
const SET = new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(([^()]*)\\)$`);
const COMPARE = new RegExp(`^(${KEY})\\s*(==|=|!=|>|<)\\s*([-A-Za-z0-9_.]*)$`);
const EXISTS = new RegExp(`^(!?)\\s*(${KEY})$`);

/**
 * Parses a label selector: equality, set and existence requirements, joined by commas.
 *
 * @throws StatusError 400. Source: Kubernetes documentation, Labels and Selectors.
 */
export function parseLabelSelector(text: string): Matcher | undefined {
  const requirements = splitOutsideParentheses(text).map((part) => parseRequirement(part, text));
  if (requirements.length === 0) return undefined;
  return (object) => {
    const labels = object.metadata.labels ?? {};
    return requirements.every((r) => meets(r, Object.hasOwn(labels, r.key) ? labels[r.key] : undefined));
  };
}

function parseRequirement(part: string, whole: string): Requirement {
  const set = SET.exec(part);
  if (set !== null) {
    const values = (set[4] ?? "").split(",").map((v) => v.trim());
    return { key: set[1] ?? "", operator: set[3] === "in" ? "in" : "notin", values };
  }
  const compare = COMPARE.exec(part);
  if (compare !== null) {
    const sign = compare[3];
    const operator = sign === "!=" || sign === ">" || sign === "<" ? sign : "=";
    return { key: compare[1] ?? "", operator, values: [compare[4] ?? ""] };
  }
  const exists = EXISTS.exec(part);
  if (exists !== null) return { key: exists[2] ?? "", operator: exists[1] === "!" ? "!exists" : "exists", values: [] };
  throw badRequest(`unable to parse requirement: found '${part}' in label selector '${whole}'`);
}

function meets({ operator, values }: Requirement, actual: string | undefined): boolean {
  switch (operator) {
    case "=":
      return actual === values[0];
    case "!=":
      return actual !== values[0];
    case "in":
      return actual !== undefined && values.includes(actual);
    case "notin":
      return actual === undefined || !values.includes(actual);
    case "exists":
      return actual !== undefined;
    case "!exists":
      return actual === undefined;
    case ">":
      return actual !== undefined && Number(actual) > Number(values[0]);
    case "<":
      return actual !== undefined && Number(actual) < Number(values[0]);
    default:
      return operator satisfies never;
  }
}

function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i <= text.length; i++) {
    const c = text[i];
    if (c === "(") depth++;
    else if (c === ")") depth--;
    else if (c === undefined || (c === "," && depth <= 0)) {
      parts.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  return parts.filter((p) => p !== "");
}

/** Reads a selectable field of an object as text; absent is "". */
export type FieldReader = (object: ApiObject) => string;

const FIELD_TERM = /^([^=!]+?)\s*(==|=|!=)\s*((?:[^\\,=]|\\[\\,=])*)$/;

/**
 * Parses a field selector against the fields that a resource allows to select by.
 *
 * @throws StatusError 400 for a field that cannot be selected, as kube-apiserver does.
 */
export function parseFieldSelector(
  text: string,
  fields: ReadonlyMap<string, FieldReader>,
  kind: string,
): { readonly matches: Matcher; readonly name: string | undefined } | undefined {
  const terms = text.split(/(?<!\\),/).filter((t) => t.trim() !== "");
  if (terms.length === 0) return undefined;
  let name: string | undefined;
  const checks = terms.map((term): Matcher => {
    const match = FIELD_TERM.exec(term.trim());
    const field = match?.[1] ?? "";
    const read = fields.get(field);
    if (match === null) throw badRequest(`invalid selector: '${text}'; can't understand '${term}'`);
    if (read === undefined) {
      throw badRequest(
        `Unable to find "${kind}" that match field selector "${text}": field label not supported: ${field}`,
      );
    }
    const value = (match[3] ?? "").replaceAll(/\\([\\,=])/g, "$1");
    const equal = match[2] !== "!=";
    if (equal && field === "metadata.name") name = value;
    return (object) => (read(object) === value) === equal;
  });
  return { matches: (object) => checks.every((check) => check(object)), name };
}
