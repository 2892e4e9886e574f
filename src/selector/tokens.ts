// SPDX-License-Identifier: Apache-2.0
import { SelectorError } from "./errors.ts";

/** What follows a label name and compares its value with one string. */
export type CompareOp = (typeof COMPARE_OPS)[number];
const COMPARE_OPS = ["==", "!=", "contains", "starts with", "ends with"] as const;
export type SetOp = "in" | "not in";
type Mark = "(" | ")" | "{" | "}" | "," | "!" | "&&" | "||";

export type Token = { readonly at: number } & (
  | { readonly kind: Mark | CompareOp | SetOp | "all()" | "global()" | "end" }
  | { readonly kind: "label" | "string" | "has()"; readonly value: string }
);

/** Two-letter marks before the one-letter marks that they begin with. */
const MARKS = ["==", "!=", "&&", "||", "(", ")", "{", "}", ",", "!"] as const;
/** Only these: a line break is an error for Calico, too. */
const BLANKS = /[ \t]*/y;
const LABEL = /[a-zA-Z0-9_./-]+/y;
const HAS = /has\([ \t]*([a-zA-Z0-9_./-]+)[ \t]*\)/y;
/** Words are not delimited: `a in{"b"}` and `a startswith "b"` are as good. */
const WORDS: readonly (readonly [RegExp, CompareOp | SetOp])[] = [
  [/contains/y, "contains"],
  [/starts[ \t]*with/y, "starts with"],
  [/ends[ \t]*with/y, "ends with"],
  [/not[ \t]*in/y, "not in"],
  [/in/y, "in"],
];
const CALLS: readonly (readonly [RegExp, "all()" | "global()"])[] = [
  [/all\([ \t]*\)/y, "all()"],
  [/global\([ \t]*\)/y, "global()"],
];

/**
 * Cuts a selector into tokens, the last of which is `end`. Whether `contains` is an operator or a label depends on
 * whether a label stands before it. One pass, no backtracking. @throws SelectorError
 */
export function tokenize(text: string): readonly Token[] {
  const tokens: Token[] = [];
  for (let at = behind(BLANKS, text, 0) ?? 0; at < text.length; at = behind(BLANKS, text, at) ?? at) {
    const [token, next] = readToken(text, at, tokens.at(-1)?.kind === "label");
    tokens.push(token);
    at = next;
  }
  return [...tokens, { kind: "end", at: text.length }];
}

function readToken(text: string, at: number, isAfterLabel: boolean): readonly [Token, number] {
  const quote = text[at];
  if (quote === '"' || quote === "'") {
    const end = text.indexOf(quote, at + 1);
    if (end < 0) throw new SelectorError(text, text.length, `${quote} that ends the string from position ${at}`);
    return [{ kind: "string", value: text.slice(at + 1, end), at }, end + 1];
  }
  const mark = MARKS.find((m) => text.startsWith(m, at));
  if (mark !== undefined) return [{ kind: mark, at }, at + mark.length];
  return isAfterLabel ? readOperator(text, at) : readOperand(text, at);
}

function readOperator(text: string, at: number): readonly [Token, number] {
  for (const [word, kind] of WORDS) {
    const next = behind(word, text, at);
    if (next !== undefined) return [{ kind, at }, next];
  }
  throw new SelectorError(text, at, "an operator (==, !=, in, not in, contains, starts with, ends with)");
}

function readOperand(text: string, at: number): readonly [Token, number] {
  HAS.lastIndex = at;
  const has = HAS.exec(text)?.[1];
  if (has !== undefined) return [{ kind: "has()", value: has, at }, HAS.lastIndex];
  for (const [call, kind] of CALLS) {
    const next = behind(call, text, at);
    if (next !== undefined) return [{ kind, at }, next];
  }
  const next = behind(LABEL, text, at);
  if (next === undefined) throw new SelectorError(text, at, "a label name, has(…), all(), global(), ! or (");
  return [{ kind: "label", value: text.slice(at, next), at }, next];
}

export function isCompareOp(kind: string): kind is CompareOp {
  return COMPARE_OPS.some((op) => op === kind);
}

/** Where the pattern ends when it matches right here. */
function behind(pattern: RegExp, text: string, at: number): number | undefined {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : undefined;
}
