// SPDX-License-Identifier: Apache-2.0
import { stringifyJSON } from "../lib/json.ts";
import { isObject } from "./model.ts";

/** All values that a path leads to, in order. */
export type JSONPath = (root: unknown) => readonly unknown[];

type Step = (value: unknown, out: unknown[]) => void;

const FIELD = /^\.((?:\\.|[^.[\\])+)/;
const QUOTED = /^\[\s*(?:'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)")\s*\]/;
const INDEX = /^\[\s*(-?\d+)\s*\]/;
const SLICE = /^\[\s*(-?\d*)\s*:\s*(-?\d*)\s*\]/;
const WILDCARD = /^(?:\[\s*\*\s*\]|\.\*)/;
const FILTER = /^\[\?\(\s*@([^=!<>]*?)\s*(?:(==|!=)\s*(?:'([^']*)'|"([^"]*)"|([^\s)]+))\s*)?\)\]/;

/**
 * Compiles the part of Kubernetes' JSONPath that CRDs use for printer columns and selectable fields: fields with escaped
 * dots, indexes, slices, wildcards and filters on equality or existence.
 *
 * @throws SyntaxError for anything else. Source: Kubernetes documentation, JSONPath Support.
 */
export function compileJSONPath(path: string): JSONPath {
  const steps: Step[] = [];
  let rest = path.replace(/^\{(.*)\}$/, "$1").replace(/^\$/, "");
  while (rest !== "" && rest !== ".") {
    const { step, length } = parseStep(rest, path);
    steps.push(step);
    rest = rest.slice(length);
  }
  return (root) => {
    let values: unknown[] = [root];
    for (const step of steps) {
      const next: unknown[] = [];
      for (const value of values) step(value, next);
      values = next;
    }
    return values;
  };
}

function parseStep(rest: string, path: string): { readonly step: Step; readonly length: number } {
  let match = WILDCARD.exec(rest);
  if (match !== null) return { step: everyChild, length: match[0].length };
  match = FIELD.exec(rest);
  if (match !== null) return { step: field((match[1] ?? "").replaceAll(/\\(.)/g, "$1")), length: match[0].length };
  match = QUOTED.exec(rest);
  if (match !== null) {
    return { step: field((match[1] ?? match[2] ?? "").replaceAll(/\\(.)/g, "$1")), length: match[0].length };
  }
  match = INDEX.exec(rest);
  if (match !== null) return { step: index(Number(match[1])), length: match[0].length };
  match = SLICE.exec(rest);
  if (match !== null) return { step: slice(match[1] ?? "", match[2] ?? ""), length: match[0].length };
  match = FILTER.exec(rest);
  if (match !== null) return { step: filter(match), length: match[0].length };
  throw new SyntaxError(`Cannot read JSONPath ${path} at "${rest}": use fields, indexes, slices, wildcards or filters`);
}

function field(name: string): Step {
  return (value, out) => {
    if (isObject(value) && Object.hasOwn(value, name)) out.push(value[name]);
  };
}

function index(at: number): Step {
  return (value, out) => {
    if (!Array.isArray(value)) return;
    const item: unknown = value.at(at);
    if (item !== undefined) out.push(item);
  };
}

function slice(from: string, to: string): Step {
  return (value, out) => {
    const items: readonly unknown[] = Array.isArray(value) ? value : [];
    out.push(...items.slice(from === "" ? 0 : Number(from), to === "" ? undefined : Number(to)));
  };
}

function everyChild(value: unknown, out: unknown[]): void {
  const items: readonly unknown[] = Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
  out.push(...items);
}

function filter(match: RegExpExecArray): Step {
  const read = compileJSONPath(match[1] ?? "");
  const operator = match[2];
  const wanted = match[3] ?? match[4] ?? match[5] ?? "";
  const keeps = (item: unknown): boolean => {
    const found = read(item);
    if (operator === undefined) return found.length > 0;
    const equal = found.length > 0 && textOf(found[0]) === wanted;
    return operator === "==" ? equal : found.length > 0 && !equal;
  };
  return (value, out) => {
    const items: unknown[] = Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
    for (const item of items) if (keeps(item)) out.push(item);
  };
}

/** A value as kubectl prints it: strings bare, the rest as JSON. */
export function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  return value === undefined || value === null ? "" : stringifyJSON(value);
}
