// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { pack } from "./pack.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gingham-pack-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** The same files, made in another order, at another time, by somebody with another umask. */
function makeTree(name: string, names: readonly string[], mode: number, at: number): string {
  const root = join(dir, name);
  mkdirSync(join(root, "usr/bin"), { recursive: true });
  for (const file of names) {
    const path = join(root, "usr/bin", file);
    writeFileSync(path, `#!/bin/sh\necho ${file}\n`);
    chmodSync(path, mode);
    utimesSync(path, at, at);
  }
  symlinkSync("a", join(root, "usr/bin/link"));
  return root;
}

describe("pack()", () => {
  test("the same files make the same bytes, and others do not", () => {
    pack(makeTree("one", ["a", "b"], 0o700, 1000), join(dir, "one.tar.gz"), 0);
    pack(makeTree("two", ["b", "a"], 0o777, 2000), join(dir, "two.tar.gz"), 0);
    pack(makeTree("three", ["a", "c"], 0o777, 2000), join(dir, "three.tar.gz"), 0);
    const bytes = (name: string): Buffer => readFileSync(join(dir, `${name}.tar.gz`));
    expect(bytes("one").equals(bytes("two"))).toBe(true);
    expect(bytes("one").equals(bytes("three"))).toBe(false);
    const listed = execFileSync("tar", ["-tvzf", join(dir, "one.tar.gz")], {
      encoding: "utf8",
      env: { ...process.env, TZ: "UTC" },
    });
    expect(listed).toMatch(/-rwxr-xr-x 0\/0 +\d+ 1970-01-01 00:00 usr\/bin\/a\n/);
    expect(listed.split("\n").map((line) => line.split(" ").at(-1))).toEqual(["usr/bin/a", "usr/bin/b", "a", ""]);
  });
});
