// SPDX-License-Identifier: Apache-2.0
import { SelectorError } from "./errors.ts";
import { type CompareOp, isCompareOp, type SetOp, type Token, tokenize } from "./tokens.ts";

/**
 * Calico's selector language, over the labels of one object.
 *
 * `||` binds least, then `&&`, then any number of `!`. A label name has letters, digits and `_ . / -`; strings stand in
 * `"` or `'`, and there is no escape. Source: Calico's selector reference and libcalico-go/lib/selector.
 */
export type Selector =
  | { readonly kind: "all" | "global" }
  | { readonly kind: "has"; readonly label: string }
  | { readonly kind: "compare"; readonly label: string; readonly op: CompareOp; readonly value: string }
  | { readonly kind: "set"; readonly label: string; readonly op: SetOp; readonly values: readonly string[] }
  | { readonly kind: "not"; readonly operand: Selector }
  | { readonly kind: "and" | "or"; readonly operands: readonly Selector[] };

export type Labels = Readonly<Record<string, string>>;

/** Deeper parentheses are refused, so that no text can use up the stack. */
const MAX_DEPTH = 200;

/** Reads a selector; empty text selects everything. Time grows with the length of the text. @throws SelectorError */
export function parseSelector(text: string): Selector {
  const parser = new Parser(text);
  return parser.parse();
}

/** Whether the selector selects an object with these labels. A negative comparison holds when the label is absent. */
export function matches(selector: Selector, labels: Labels): boolean {
  switch (selector.kind) {
    case "all":
    // Whether the object has a namespace was decided by whoever collected the labels.
    case "global":
      return true;
    case "has":
      return Object.hasOwn(labels, selector.label);
    case "compare":
      return compare(selector.op, labelValue(labels, selector.label), selector.value);
    case "set": {
      const value = labelValue(labels, selector.label);
      return (value !== undefined && selector.values.includes(value)) === (selector.op === "in");
    }
    case "not":
      return !matches(selector.operand, labels);
    case "and":
      return selector.operands.every((operand) => matches(operand, labels));
    case "or":
      return selector.operands.some((operand) => matches(operand, labels));
  }
}

/** The selector as text that parses to the same. */
export function formatSelector(selector: Selector): string {
  switch (selector.kind) {
    case "all":
    case "global":
      return `${selector.kind}()`;
    case "has":
      return `has(${selector.label})`;
    case "compare":
      return `${selector.label} ${selector.op} ${quoted(selector.value)}`;
    case "set":
      return `${selector.label} ${selector.op} {${selector.values.map(quoted).join(", ")}}`;
    case "not":
      return `!${formatSelector(selector.operand)}`;
    case "and":
    case "or":
      return `(${selector.operands.map(formatSelector).join(selector.kind === "and" ? " && " : " || ")})`;
  }
}

function compare(op: CompareOp, value: string | undefined, wanted: string): boolean {
  if (value === undefined) return op === "!=";
  switch (op) {
    case "==":
      return value === wanted;
    case "!=":
      return value !== wanted;
    case "contains":
      return value.includes(wanted);
    case "starts with":
      return value.startsWith(wanted);
    case "ends with":
      return value.endsWith(wanted);
  }
}

function labelValue(labels: Labels, label: string): string | undefined {
  return Object.hasOwn(labels, label) ? labels[label] : undefined;
}

/** A value that came out of a selector never holds both quotes. */
function quoted(value: string): string {
  return value.includes('"') ? `'${value}'` : `"${value}"`;
}

/** Recursive descent, one function for each level of precedence. */
class Parser {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  #next = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = tokenize(text);
  }

  parse(): Selector {
    if (this.#peek().kind === "end") return { kind: "all" };
    const selector = this.#or();
    this.#take("end", "&&, || or the end");
    return selector;
  }

  #or(): Selector {
    return this.#chain("or", "||", () => this.#chain("and", "&&", () => this.#term()));
  }

  #chain(kind: "and" | "or", mark: "&&" | "||", read: () => Selector): Selector {
    const first = read();
    const operands = [first];
    while (this.#peek().kind === mark) {
      this.#next++;
      operands.push(read());
    }
    return operands.length === 1 ? first : { kind, operands };
  }

  #term(): Selector {
    let isNegated = false;
    for (; this.#peek().kind === "!"; this.#next++) isNegated = !isNegated;
    const term = this.#positive();
    if (!isNegated) return term;
    return term.kind === "not" ? term.operand : { kind: "not", operand: term };
  }

  #positive(): Selector {
    const token = this.#peek();
    if (token.kind === "(") return this.#group();
    const isOperand =
      token.kind === "all()" || token.kind === "global()" || token.kind === "has()" || token.kind === "label";
    if (!isOperand) throw this.#expected("a label name, has(…), all(), global(), ! or (");
    this.#next++;
    if (token.kind === "label") return this.#comparison(token.value);
    if (token.kind === "has()") return { kind: "has", label: token.value };
    return { kind: token.kind === "all()" ? "all" : "global" };
  }

  #group(): Selector {
    if (++this.#depth > MAX_DEPTH) throw this.#expected(`at most ${MAX_DEPTH} parentheses inside each other`);
    this.#next++;
    const selector = this.#or();
    this.#take(")", "&&, || or )");
    this.#depth--;
    return selector;
  }

  #comparison(label: string): Selector {
    const { kind: op } = this.#peek();
    if (op === "in" || op === "not in") {
      this.#next++;
      return { kind: "set", label, op, values: this.#set() };
    }
    if (!isCompareOp(op)) throw this.#expected("an operator (==, !=, in, not in, contains, starts with, ends with)");
    this.#next++;
    return { kind: "compare", label, op, value: this.#string() };
  }

  #set(): readonly string[] {
    this.#take("{", "{");
    const values = new Set<string>();
    while (this.#peek().kind === "string") {
      values.add(this.#string());
      // A comma behind the last one does no harm.
      if (this.#peek().kind !== ",") break;
      this.#next++;
    }
    this.#take("}", "a string or }");
    return [...values];
  }

  #string(): string {
    const token = this.#peek();
    if (token.kind !== "string") throw this.#expected("a string in \" or '");
    this.#next++;
    return token.value;
  }

  #take(kind: Token["kind"], expected: string): void {
    if (this.#peek().kind !== kind) throw this.#expected(expected);
    this.#next++;
  }

  #peek(): Token {
    return this.#tokens[this.#next] ?? { kind: "end", at: this.#text.length };
  }

  #expected(what: string): SelectorError {
    return new SelectorError(this.#text, this.#peek().at, what);
  }
}
