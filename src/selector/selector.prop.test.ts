// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SelectorError } from "./errors.ts";
import { formatSelector, type Labels, matches, parseSelector, type Selector } from "./selector.ts";

const label = fc.constantFrom("a", "b", "projectcalico.org/x-y_z", "in", "not", "has", "all", "0");
const value = fc.oneof(
  fc.constantFrom("", "x", "xy", "yx"),
  fc.string({ maxLength: 6 }).filter((s) => !(s.includes('"') && s.includes("'"))),
);
const labels: fc.Arbitrary<Labels> = fc.dictionary(label, value);

const selector: fc.Arbitrary<Selector> = fc.letrec<{ node: Selector; leaf: Selector }>((tie) => ({
  leaf: fc.oneof(
    fc.record({ kind: fc.constantFrom("all" as const, "global" as const) }),
    fc.record({ kind: fc.constant("has" as const), label }),
    fc.record({
      kind: fc.constant("compare" as const),
      label,
      op: fc.constantFrom(
        "==" as const,
        "!=" as const,
        "contains" as const,
        "starts with" as const,
        "ends with" as const,
      ),
      value,
    }),
    fc.record({
      kind: fc.constant("set" as const),
      label,
      op: fc.constantFrom("in" as const, "not in" as const),
      values: fc.uniqueArray(value, { maxLength: 3 }),
    }),
  ),
  node: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    tie("leaf"),
    tie("node").map((operand): Selector => (operand.kind === "not" ? operand.operand : { kind: "not", operand })),
    fc.record({
      kind: fc.constantFrom("and" as const, "or" as const),
      operands: fc.array(tie("node"), { minLength: 2, maxLength: 3 }),
    }),
  ),
})).node;

describe("parseSelector()", () => {
  it("reads what formatSelector() writes", () => {
    fc.assert(
      fc.property(selector, (s) => {
        expect(parseSelector(formatSelector(s))).toEqual(s);
      }),
    );
  });

  it("ends on any text, with a selector or a SelectorError inside of the text", () => {
    const piece = fc.constantFrom(
      "a",
      " ",
      "\t",
      "(",
      ")",
      "{",
      "}",
      ",",
      "!",
      "==",
      "&&",
      "||",
      '"',
      "'",
      "in",
      "not",
      "has(",
      "all()",
      "starts",
    );
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(piece, { maxLength: 40 }).map((p) => p.join("")),
    );
    fc.assert(
      fc.property(text, (garbage) => {
        try {
          matches(parseSelector(garbage), {});
        } catch (error) {
          if (!(error instanceof SelectorError)) throw error;
          expect(error.position).toBeGreaterThanOrEqual(0);
          expect(error.position).toBeLessThanOrEqual(garbage.length);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it("ends on long garbage without backtracking", () => {
    for (const piece of ["a ", "(", "!", "has(", "starts ", "not ", "a in {", '"', "a == 'b' && ", " \t"]) {
      const text = piece.repeat(200_000 / piece.length);
      try {
        matches(parseSelector(text), {});
      } catch (error) {
        expect(error).toBeInstanceOf(SelectorError);
      }
    }
  });
});

describe("matches()", () => {
  it("obeys De Morgan, and double negation changes nothing", () => {
    fc.assert(
      fc.property(selector, selector, labels, (a, b, on) => {
        const [x, y] = [formatSelector(a), formatSelector(b)];
        const says = (text: string): boolean => matches(parseSelector(text), on);
        expect(says(`!(${x} && ${y})`)).toBe(says(`!${x} || !${y}`));
        expect(says(`!(${x} || ${y})`)).toBe(says(`!${x} && !${y}`));
        expect(says(`!(!(${x}))`)).toBe(says(x));
      }),
    );
  });

  it("makes != and not in the opposites of == and in, on every set of labels", () => {
    fc.assert(
      fc.property(label, value, labels, (name, v, on) => {
        const quote = v.includes('"') ? "'" : '"';
        const text = `${quote}${v}${quote}`;
        const says = (s: string): boolean => matches(parseSelector(s), on);
        expect(says(`${name} != ${text}`)).toBe(!says(`${name} == ${text}`));
        expect(says(`${name} not in {${text}}`)).toBe(!says(`${name} in {${text}}`));
        expect(says(`${name} in {${text}}`)).toBe(says(`${name} == ${text}`));
      }),
    );
  });
});
