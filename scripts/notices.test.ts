// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { bundledPackages, type Metafile, reachable, readNotice, renderNotices } from "./notices.ts";

const ROOT = join(import.meta.dirname, "..");

function output(inputs: readonly string[], imports: readonly string[] = []): Metafile["outputs"][string] {
  return {
    inputs: Object.fromEntries(inputs.map((path) => [path, { bytesInOutput: path.includes("unused") ? 0 : 1 }])),
    imports: imports.map((path) => ({ path, external: path.startsWith("node:") })),
  };
}

const METAFILE: Metafile = {
  outputs: {
    "dist/agent.mjs": output(["src/main/agent.ts", "node_modules/pino/pino.js"], ["dist/chunk-A.mjs", "node:fs"]),
    "dist/chunk-A.mjs": output(
      [
        "required:node_modules/@scope/a/x/y.js",
        "../../main/node_modules/b/node_modules/c/i.js",
        "node_modules/unused/u.js",
      ],
      ["dist/agent.mjs"],
    ),
    "dist/lab.mjs": output(["node_modules/only-lab/l.js"]),
    "dist/agent.mjs.map": output([]),
  },
};

describe("reachable()", () => {
  test("takes what the entries load, and nothing else", () => {
    expect(Object.keys(reachable(METAFILE, ["agent.mjs"]).outputs)).toEqual(["dist/agent.mjs", "dist/chunk-A.mjs"]);
    expect(() => reachable(METAFILE, ["gone.mjs"])).toThrow("The build made no gone.mjs");
  });
});

describe("bundledPackages()", () => {
  test("names scoped and nested packages, and none of which no byte was taken", () => {
    expect(bundledPackages(reachable(METAFILE, ["agent.mjs"]))).toEqual(["@scope/a", "b/node_modules/c", "pino"]);
  });
});

describe("readNotice()", () => {
  test("has the licence's name and text", () => {
    const notice = readNotice(join(ROOT, "node_modules/pino"));
    expect(notice).toMatchObject({ name: "pino", license: "MIT" });
    expect(notice.text).toContain("Permission is hereby granted");
    expect(renderNotices([notice])).toMatch(/pino \S+ +MIT\n {2}musl/);
  });
});
