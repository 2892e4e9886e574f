// SPDX-License-Identifier: Apache-2.0
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { execPlugins } from "./exec-plugin.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "gingham-plugin-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function install(script: string, type = "fake-ipam"): void {
  writeFileSync(join(folder, type), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, type), 0o755);
}

const run = (options: { stdin?: string; signal?: AbortSignal; prefix?: readonly string[] } = {}) => {
  const env = { CNI_COMMAND: "ADD", CNI_PATH: `/nonexistent:${folder}` };
  const runner = execPlugins(options.prefix === undefined ? {} : { prefix: options.prefix });
  return runner.run(
    { type: "fake-ipam", env, stdin: options.stdin ?? "" },
    options.signal ?? new AbortController().signal,
  );
};

it("hands over stdin and the CNI variables, and nothing of its own environment", async () => {
  process.env["GINGHAM_TEST_SECRET"] = "secret";
  install('cat; env | grep -E "CNI_COMMAND|SECRET"; echo words >&2; exit 3');
  const outcome = await run({ stdin: "{}" });
  delete process.env["GINGHAM_TEST_SECRET"];
  expect(outcome).toEqual({ exitCode: 3, stdout: "{}CNI_COMMAND=ADD\n", stderr: "words\n" });
});

it("puts a prefix before the plugin", async () => {
  install('echo "$PREFIXED"');
  expect(await run({ prefix: ["env", "PREFIXED=yes"] })).toMatchObject({ exitCode: 0, stdout: "yes\n" });
});

it("survives a plugin that reads nothing", async () => {
  install("exit 0");
  expect(await run({ stdin: "x".repeat(1_000_000) })).toMatchObject({ exitCode: 0 });
});

it("says where a plugin that is missing was looked for", async () => {
  await expect(run()).rejects.toMatchObject({ code: "Delegate", message: expect.stringContaining(folder) as string });
});

it("kills a plugin and what it has started when the signal aborts", async () => {
  install(`sleep 600 & echo $! > ${folder}/child; wait`);
  const stop = new AbortController();
  const outcome = run({ signal: stop.signal });
  outcome.catch(() => {});
  await expect
    .poll(() => existsSync(join(folder, "child")) && readFileSync(join(folder, "child"), "utf8"))
    .toBeTruthy();
  const child = readFileSync(join(folder, "child"), "utf8").trim();
  stop.abort(new Error("enough"));
  await expect(outcome).rejects.toThrow("enough");
  await expect.poll(() => isRunning(child)).toBe(false);
});

/** A zombie that nobody has waited for has ended. */
function isRunning(pid: string): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
