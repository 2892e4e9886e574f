// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { clone, type JsonObject } from "./model.ts";
import { compileSchema, type JSONSchema } from "./schema.ts";

function walk(
  schema: JSONSchema,
  value: JsonObject,
  dropsNulls = false,
): { value: JsonObject; fields: string[]; unknown: string[] } {
  const copy = clone(value);
  const { causes, unknown } = compileSchema({ type: "object", ...schema }, dropsNulls)(copy);
  return { value: copy, fields: causes.map((c) => `${c.field}: ${c.message}`), unknown };
}

const ANY_ROOT = { "x-kubernetes-preserve-unknown-fields": true } as const;

describe("compileSchema", () => {
  it("takes a bigint for an integer and checks its range", () => {
    const schema: JSONSchema = { properties: { n: { type: "integer", format: "int64" } } };
    expect(walk(schema, { n: 2n ** 63n - 1n }).fields).toEqual([]);
    expect(walk(schema, { n: 2n ** 63n }).fields[0]).toContain("must be of type integer with format int64");
    expect(walk(schema, { n: 1.5 }).fields[0]).toContain("must be of type integer");
  });

  it("takes null for a nullable value only, and drops it for Kubernetes' own kinds", () => {
    const schema: JSONSchema = {
      properties: { list: { type: "array", items: { type: "integer", nullable: true } }, s: { type: "string" } },
    };
    expect(walk(schema, { list: [1, null] }).value).toEqual({ list: [1, null] });
    expect(walk(schema, { s: null }).fields).toEqual([
      's: Invalid value: "null": s in body must be of type string: "null"',
    ]);
    expect(walk(schema, { s: null }, true)).toMatchObject({ value: {}, fields: [] });
  });

  it("fills in defaults at every depth, also in place of a null", () => {
    const schema: JSONSchema = {
      properties: {
        a: { type: "object", default: {}, properties: { b: { type: "integer", default: 7 } } },
        c: { type: "string", default: "x" },
      },
    };
    expect(walk(schema, { c: null }).value).toEqual({ a: { b: 7 }, c: "x" });
  });

  it("prunes what it does not know and names it", () => {
    const schema: JSONSchema = {
      properties: { list: { type: "array", items: { type: "object", properties: { a: { type: "string" } } } } },
    };
    expect(walk(schema, { list: [{ a: "x" }, { b: 1 }], other: 1 })).toEqual({
      value: { list: [{ a: "x" }, {}] },
      fields: [],
      unknown: ["list[1].b", "other"],
    });
  });

  it.each<[string, JSONSchema, unknown, string]>([
    ["minimum", { minimum: 3 }, 2, "f: Invalid value: 2: f in body should be greater than or equal to 3"],
    ["maximum", { maximum: 3 }, 4n, "f: Invalid value: 4: f in body should be less than or equal to 3"],
    ["pattern", { pattern: "^a+$" }, "b", "f: Invalid value: \"b\": f in body should match '^a+$'"],
    ["maxLength", { maxLength: 2 }, "abc", 'f: Invalid value: "abc": f in body should have at most 2 chars'],
    ["minItems", { minItems: 1 }, [], "f: Invalid value: []: f in body should have at least 1 items"],
    [
      "cidr",
      { format: "cidr" },
      "10.0.0.0",
      'f: Invalid value: "10.0.0.0": f in body must be of type cidr: "10.0.0.0"',
    ],
    ["enum", { enum: ["a"] }, "b", 'f: Unsupported value: "b": supported values: "a"'],
    [
      "anyOf",
      { anyOf: [{ minimum: 3 }, { maximum: 1 }] },
      2,
      "f: Invalid value: 2: f in body must validate at least one schema (anyOf)",
    ],
    ["not", { not: { enum: [2] } }, 2, "f: Invalid value: 2: f in body must not validate the schema (not)"],
  ])("refuses by %s in Kubernetes' words", (_name, schema, value, message) => {
    expect(walk({ properties: { f: { ...ANY_ROOT, ...schema } } }, { f: value }).fields).toEqual([message]);
  });

  it("does not prune or default by what stands inside of anyOf", () => {
    const schema: JSONSchema = {
      properties: {
        a: {
          type: "object",
          properties: { x: { type: "integer" }, y: { type: "integer" } },
          anyOf: [{ properties: { x: { minimum: 1, default: 5 } } }],
        },
      },
    };
    expect(walk(schema, { a: { y: 2 } })).toEqual({ value: { a: { y: 2 } }, fields: [], unknown: [] });
  });

  it("changes nothing the second time, whatever the first value was", () => {
    const schema: JSONSchema = {
      properties: {
        a: { type: "object", properties: { b: { type: "integer", default: 1 } } },
        list: { type: "array", items: { type: "object", additionalProperties: { type: "string" } } },
      },
    };
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom("a", "list", "other"), fc.jsonValue()), (value) => {
        const once = walk(schema, value as JsonObject);
        const twice = walk(schema, once.value);
        expect(twice.value).toEqual(once.value);
        expect(twice.unknown).toEqual([]);
      }),
    );
  });
});
