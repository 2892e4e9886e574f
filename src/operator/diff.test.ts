// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { diffObjects } from "./diff.ts";

function object(spec: unknown, metadata: object = {}): Parameters<typeof diffObjects>[0] & { spec: unknown } {
  return { apiVersion: "v1", kind: "Thing", metadata: { name: "a", ...metadata }, spec };
}

describe("diffObjects()", () => {
  it("names each field that differs, items of lists by their names", () => {
    const from = object({
      image: "x:1",
      env: [
        { name: "A", value: "1" },
        { name: "B", value: "2" },
      ],
      kept: { deep: true },
    });
    const to = object({
      image: "x:2",
      env: [
        { name: "B", value: "2" },
        { name: "A", value: "3" },
      ],
      kept: { deep: true },
    });
    expect(diffObjects(from, to)).toEqual([
      { path: "spec.image", from: "x:1", to: "x:2" },
      { path: "spec.env[A].value", from: "1", to: "3" },
    ]);
  });

  it("says what comes and what goes", () => {
    expect(diffObjects(object({ a: 1, list: [1, 2] }), object({ b: 2, list: [1] }))).toEqual([
      { path: "spec.a", from: 1, to: undefined },
      { path: "spec.list[1]", from: 2, to: undefined },
      { path: "spec.b", from: undefined, to: 2 },
    ]);
  });

  it("tells that a secret changes, and not what is in it", () => {
    const secret = (data: string) => ({ ...object({}), kind: "Secret", data: { password: data } });
    expect(diffObjects(secret("aGVsbG8="), secret("aGVsbG8="))).toEqual([]);
    const changes = diffObjects(secret("aGVsbG8="), secret("d29ybGQ="));
    expect(changes.map(({ path }) => path)).toEqual(["data"]);
    expect(JSON.stringify(changes)).not.toMatch(/aGVsbG8=|d29ybGQ=/);
  });

  it("finds nothing in what changes with every write", () => {
    const from = object({}, { resourceVersion: "1", generation: 1, managedFields: [{}] });
    expect(diffObjects(from, object({}, { resourceVersion: "2", generation: 2, managedFields: [] }))).toEqual([]);
  });
});
