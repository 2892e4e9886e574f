// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseJSON, stringifyJSON } from "./json.ts";

test("parseJSON() keeps a block's sequence number byte for byte", () => {
  const text = '{"sequenceNumber":1787395200123456789,"map":{"0":1787395200123456788,"1":7},"ratio":1.5}';
  const value = parseJSON(text) as { sequenceNumber: unknown; map: Record<string, unknown> };
  expect(value.sequenceNumber).toBe(1787395200123456789n);
  expect(value.map["1"]).toBe(7);
  expect(stringifyJSON(value)).toBe(text);
});

test("parseJSON() leaves long digits inside strings, fractions and exponents alone", () => {
  const text = '{"a":"1787395200123456789","b":0.12345678901234567,"c":1e300}';
  expect(parseJSON(text)).toEqual(JSON.parse(text));
});

test("parseJSON(stringifyJSON(x)) is x for JSON with 64-bit integers", () => {
  const wide = fc
    .bigInt({ min: -(2n ** 63n), max: 2n ** 64n })
    .map((n) => (n >= BigInt(Number.MIN_SAFE_INTEGER) && n <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(n) : n));
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      wide,
      fc.string(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie("tree"), { maxLength: 4 }),
      fc.dictionary(
        fc.string().filter((key) => key !== "__proto__"),
        tie("tree"),
        { maxKeys: 4, noNullPrototype: true },
      ),
    ),
  }));
  fc.assert(
    fc.property(tree, (x) => {
      expect(parseJSON(stringifyJSON(x))).toEqual(x);
    }),
  );
});

test("parseJSON() throws SyntaxError as JSON.parse does", () => {
  expect(() => parseJSON('{"a":1787395200123456789')).toThrow(SyntaxError);
});

test("parseJSON() is exact when the marks of wide integers have doubles in the document", () => {
  for (const text of [
    '{"a":"x,1787395200123456789,","b":1787395200123456789}',
    '{"a":"{\\"sequenceNumber\\":1787395200123456789}","b":1787395200123456789}',
    '["\\u00001787395200123456789",1787395200123456789]',
    '["\\u0000\\u0031787395200123456789",-1787395200123456789]',
    "[0.1787395200123456789,1e-1787395200123456,1787395200123456789]",
    '{"__proto__":1787395200123456789}',
  ]) {
    const exact: unknown = JSON.parse(text, (_key, value: unknown, context?: { source?: string }) =>
      typeof value === "number" && /^-?\d{16,}$/.test(context?.source ?? "") ? BigInt(context?.source ?? "") : value,
    );
    expect(parseJSON(text)).toEqual(exact);
    expect(stringifyJSON(parseJSON(text))).toBe(stringifyJSON(exact));
  }
  expect(parseJSON("1787395200123456789")).toBe(1787395200123456789n);
  for (const text of ["{1787395200123456789:1}", "[01787395200123456789]", "[1787395200123456789 1]"])
    expect(() => parseJSON(text)).toThrow(SyntaxError);
});
