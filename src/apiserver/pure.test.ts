// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StatusError, TokenFileError } from "./errors.ts";
import { compileJSONPath } from "./json-path.ts";
import { clone, deepEqual, type JsonObject } from "./model.ts";
import { jsonPatch, mergePatch } from "./patch.ts";
import { parseResourcePath, presentationOf } from "./request.ts";
import { parseLabelSelector } from "./selector.ts";
import { SortedMap } from "./sorted-map.ts";
import { humanDuration } from "./table.ts";
import { parseTokens } from "./tokens.ts";

const json = fc.jsonValue({ maxDepth: 4 });

describe("clone and deepEqual", () => {
  it("agree on copies, in whatever order the keys are", () => {
    fc.assert(
      fc.property(json, (value) => {
        expect(deepEqual(clone(value), value)).toBe(true);
        expect(deepEqual({ a: 1, b: value }, { b: clone(value), a: 1 })).toBe(true);
        expect(deepEqual({ a: value }, { a: value, b: null })).toBe(false);
      }),
    );
  });

  it("take a bigint for the number of the same value", () => {
    expect([deepEqual(5n, 5), deepEqual(5n, 6), deepEqual("5", 5), deepEqual([], {})]).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });
});

describe("mergePatch", () => {
  it.each([
    [{ a: "b" }, { a: "c" }, { a: "c" }],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
    [{ a: ["b"] }, { a: "c" }, { a: "c" }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
    [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    [[1, 2], { a: "b", c: null }, { a: "b" }],
  ])("turns %j with %j into %j (RFC 7386, appendix A)", (target, patch, result) => {
    expect(mergePatch(target, patch)).toEqual(result);
  });
});

describe("jsonPatch", () => {
  it.each([
    [{ foo: ["bar"] }, [{ op: "add", path: "/foo/1", value: "qux" }], { foo: ["bar", "qux"] }],
    [{ foo: ["bar"] }, [{ op: "add", path: "/foo/-", value: 1 }], { foo: ["bar", 1] }],
    [{ a: 1, b: 2 }, [{ op: "remove", path: "/a" }], { b: 2 }],
    [{ a: { x: 1 }, b: {} }, [{ op: "move", from: "/a/x", path: "/b/y" }], { a: {}, b: { y: 1 } }],
    [{ a: [1, 2] }, [{ op: "replace", path: "/a/1", value: null }], { a: [1, null] }],
    [
      { "a/b": 1, "c~d": 2 },
      [
        { op: "replace", path: "/a~1b", value: 3 },
        { op: "remove", path: "/c~0d" },
      ],
      { "a/b": 3 },
    ],
    [
      { a: { b: 1 } },
      [
        { op: "copy", from: "/a", path: "/c" },
        { op: "replace", path: "/c/b", value: 2 },
      ],
      { a: { b: 1 }, c: { b: 2 } },
    ],
  ])("turns %j with %j into %j (RFC 6902)", (target, patch, result) => {
    const before = clone(target);
    expect(jsonPatch(target, patch)).toEqual(result);
    expect(target).toEqual(before);
  });

  it.each([
    [[{ op: "remove", path: "/nope" }], 422],
    [[{ op: "test", path: "/a", value: 2 }], 422],
    [[{ op: "add", path: "/list/5", value: 1 }], 422],
    [[{ op: "jump", path: "/a" }], 400],
    [{ op: "add" }, 400],
    [[{ op: "add", path: "a", value: 1 }], 400],
  ])("refuses %j with %i", (patch, status) => {
    expect.assertions(1);
    try {
      jsonPatch({ a: 1, list: [] }, patch);
    } catch (error) {
      expect(error instanceof StatusError && error.status).toBe(status);
    }
  });

  it("answers any patch of any document with a document or a StatusError", () => {
    const operation = fc.record({
      op: fc.constantFrom("add", "remove", "replace", "move", "copy", "test"),
      path: fc.constantFrom("", "/a", "/a/0", "/b/c", "/a/-"),
      from: fc.constantFrom("", "/a", "/b"),
      value: json,
    });
    fc.assert(
      fc.property(json, fc.array(operation), (target, patch) => {
        try {
          jsonPatch(target, patch);
        } catch (error) {
          expect(error).toBeInstanceOf(StatusError);
        }
      }),
    );
  });
});

describe("compileJSONPath", () => {
  const object = {
    a: {
      "b.c": [1, 2, 3],
      list: [
        { type: "Ready", v: "yes" },
        { type: "Other", v: "no" },
      ],
    },
  };

  it.each([
    [".a.b\\.c[0]", [1]],
    [".a['b.c'][-1]", [3]],
    [".a['b.c'][*]", [1, 2, 3]],
    [".a['b.c'][1:]", [2, 3]],
    ['.a.list[?(@.type=="Ready")].v', ["yes"]],
    ["{.a.list[?(@.type!='Ready')].v}", ["no"]],
    [".nope.x", []],
  ])("%s finds %j", (path, found) => {
    expect(compileJSONPath(path)(object)).toEqual(found);
  });

  it("throws SyntaxError for what it does not know", () => {
    expect(() => compileJSONPath(".a..b")).toThrow(SyntaxError);
  });
});

describe("parseLabelSelector", () => {
  it.each([
    ["a=1", true],
    ["a==1,b!=3", true],
    ["a in (1,2),c notin (x)", true],
    ["a,!c", true],
    ["a>0", true],
    ["a=2", false],
    ["c", false],
    ["kubernetes.io/x notin (y)", true],
  ])("%s matches {a: 1, b: 2}: %j", (selector, expected) => {
    const object = { apiVersion: "v1", kind: "K", metadata: { name: "n", labels: { a: "1", b: "2" } } };
    expect(parseLabelSelector(selector)?.(object)).toBe(expected);
  });
});

describe("parseResourcePath", () => {
  it.each([
    ["/api/v1/nodes/n/status", { group: "", plural: "nodes", name: "n", subresource: "status", namespace: "" }],
    ["/api/v1/namespaces/n", { plural: "namespaces", name: "n", namespace: "" }],
    ["/api/v1/namespaces/n/status", { plural: "namespaces", name: "n", subresource: "status" }],
    ["/api/v1/namespaces/n/pods", { plural: "pods", namespace: "n", name: "" }],
    [
      "/apis/apps/v1/namespaces/n/deployments/d/status",
      { group: "apps", plural: "deployments", name: "d", namespace: "n" },
    ],
    ["/api/v1/watch/pods", { plural: "pods", isWatchPath: true }],
  ])("%s", (path, expected) => {
    expect(parseResourcePath(path)).toMatchObject(expected);
  });

  it("names no resource for discovery paths", () => {
    expect(["/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version"].map(parseResourcePath)).toEqual(
      Array(6).fill(undefined),
    );
  });
});

describe("presentationOf", () => {
  it("takes the first form that is served", () => {
    const of = (accept: string): string => presentationOf(accept, new URLSearchParams()).kind;
    expect(of("application/json;as=Table;v=v1;g=meta.k8s.io,application/json")).toBe("table");
    expect(of("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json")).toBe(
      "object",
    );
    expect(of("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")).toBe("metadata");
  });
});

describe("humanDuration", () => {
  it.each([
    [0, "0s"],
    [119_000, "119s"],
    [120_000, "2m"],
    [125_000, "2m5s"],
    [3_600_000, "60m"],
    [11_000_000, "3h3m"],
    [90_000_000, "25h"],
    [200_000_000, "2d7h"],
    [900_000_000, "10d"],
    [70_000_000_000, "2y80d"],
    [-5000, "<invalid>"],
  ])("%i ms is %s", (ms, text) => {
    expect(humanDuration(ms)).toBe(text);
  });
});

describe("SortedMap", () => {
  it("answers ranges as a sorted array would", () => {
    const key = fc.constantFrom("a/1", "a/2", "a-b/1", "b/1", "b/2", "c");
    fc.assert(
      fc.property(fc.array(fc.tuple(key, fc.boolean())), fc.constantFrom("", "a/", "b/", "z"), (steps, prefix) => {
        const map = new SortedMap<string>();
        const model = new Set<string>();
        for (const [k, isSet] of steps) {
          if (isSet) map.set(k, k);
          else map.delete(k);
          if (isSet) model.add(k);
          else model.delete(k);
        }
        expect(map.range(prefix)).toEqual([...model].filter((k) => k.startsWith(prefix)).sort());
      }),
    );
  });
});

describe("parseTokens", () => {
  it("reads lines and JSON alike", () => {
    const identities = [
      { token: "0123456789", user: "admin", role: "admin" },
      { token: "abcdefghij", user: "system:node:a", role: "node", node: "a" },
    ];
    expect(parseTokens("# comment\n0123456789,admin,admin\n\nabcdefghij,system:node:a,node,a\n")).toEqual(identities);
    expect(parseTokens(JSON.stringify(identities as unknown as JsonObject[]))).toEqual(identities);
  });

  it.each(["short,u,admin", "0123456789,u,king", "0123456789,u,node"])("refuses %s", (line) => {
    expect(() => parseTokens(line)).toThrow(TokenFileError);
  });
});
