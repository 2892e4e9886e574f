// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WiringError } from "./errors.ts";
import { identifyNetns } from "./netns.ts";

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "gingham-netns-"));
  mkdirSync(join(dir, "folder"));
  writeFileSync(join(dir, "file"), "");
  symlinkSync("/nonexistent", join(dir, "dangling"));
  symlinkSync("loop", join(dir, "loop"));
});
afterAll(() => rmSync(dir, { recursive: true }));

it.each(["nothing", "folder", "file", "dangling", "loop", "file/below", "x".repeat(300)])(
  "identifyNetns() says of %s that it is no network namespace",
  (name) => {
    expect(() => identifyNetns(join(dir, name))).toThrow(WiringError);
  },
);

it.each(["/proc/self/ns/mnt", "/dev/null", "/proc/999999999/ns/net"])("nor is %s one", (path) => {
  expect(() => identifyNetns(path)).toThrow(WiringError);
});

it("identifyNetns() of a pipe that nobody writes to does not wait for a writer", () => {
  const pipe = join(dir, "pipe");
  execFileSync("mkfifo", [pipe]);
  // In a process of its own: whoever waits in open(2) can do nothing else.
  const code = `import { identifyNetns } from ${JSON.stringify(join(import.meta.dirname, "netns.ts"))};
    try { identifyNetns(process.argv[1]); } catch (error) { console.log(error.message); }`;
  const argv = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", code, pipe];
  const said = execFileSync(process.execPath, argv, { encoding: "utf8", timeout: 20_000 });
  expect(said).toContain("is no network namespace but an ordinary file");
});
