// SPDX-License-Identifier: Apache-2.0
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LabError } from "./errors.ts";
import {
  createStateDir,
  findRunningLab,
  identifyProcess,
  type LabState,
  openStateRoot,
  parseStartTicks,
  writeState,
} from "./state.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "gingham-state-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test("parseStartTicks() is not fooled by a command with blanks and brackets", () => {
  const after = Array.from({ length: 30 }, (_, i) => String(i + 3));
  expect(parseStartTicks(`42 (a) b (c) ${after.join(" ")}`)).toBe("22");
});

test("findRunningLab() says how to start one when none runs", () => {
  expect(() => findRunningLab(root)).toThrow(LabError);
  createStateDir(root, false);
  expect(() => findRunningLab(root)).toThrow(/npm run lab/);
});

test("findRunningLab() finds the one whose sandbox runs", () => {
  const dir = createStateDir(root, true);
  const owner = identifyProcess(process.pid);
  if (owner === undefined) throw new Error("no /proc");
  writeState(dir, { owner, sandboxPid: 7, rootless: true, targets: { "node-1": { holderPid: 3 } } });
  expect(findRunningLab(root)).toMatchObject({ dir, state: { sandboxPid: 7, rootless: true } });
});

test("findRunningLab() enters none of several by guess, and lists them", () => {
  const owner = identifyProcess(process.pid);
  if (owner === undefined) throw new Error("no /proc");
  const start = (targets: LabState["targets"]): string => {
    const dir = createStateDir(root, false);
    writeState(dir, { owner, sandboxPid: 7, rootless: false, targets });
    return basename(dir);
  };
  const small = start({ "node-1": { holderPid: 3 } });
  const large = start({ "node-1": { holderPid: 3 }, "pod-1": { holderPid: 3, netns: "/run/netns/pod-1" } });
  expect(() => findRunningLab(root)).toThrow(/Several laboratories .*--lab ID/);
  expect(() => findRunningLab(root)).toThrow(`${small} (nodes: 1, pods: 0)`);
  expect(() => findRunningLab(root)).toThrow(`${large} (nodes: 1, pods: 1)`);
  expect(findRunningLab(root, small).id).toBe(small);
  expect(findRunningLab(root, large.slice(0, -1)).id).toBe(large);
  expect(() => findRunningLab(root, "no-such")).toThrow(`No laboratory no-such of yours is running; there are `);
});

test("createStateDir() sweeps what a killed laboratory left", () => {
  const dir = createStateDir(root, false);
  const left = join(root, "left");
  rmSync(left, { force: true });
  writeState(dir, { owner: { pid: process.pid, startTicks: "1" }, rootless: false, targets: {} });
  const fresh = createStateDir(root, false);
  expect(existsSync(fresh)).toBe(true);
  expect(() => findRunningLab(root)).toThrow(LabError);
});

test("openStateRoot() refuses a directory that others can write", () => {
  chmodSync(root, 0o777);
  expect(() => openStateRoot(root)).toThrow(/mode 0700/);
});
