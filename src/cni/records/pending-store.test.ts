// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { PendingStore } from "../ports.ts";
import { filePendingStore } from "./pending-store.ts";

const DEL = { env: { CNI_COMMAND: "DEL", CNI_CONTAINERID: "c1" }, stdin: '{"name":"ü"}' };

let folder: string;
let store: PendingStore;
beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), "gingham-pending-")), "pending");
  store = filePendingStore(folder, { debug() {}, info() {}, warn() {}, error() {} });
});
afterEach(() => rmSync(join(folder, ".."), { recursive: true }));

describe("add()", () => {
  it("writes what list() reads, until it is removed", async () => {
    await store.add(DEL, 1787395200123456789n);
    const [pending] = await store.list();
    expect(pending).toEqual({ name: `01787395200123456789-${process.pid}.del`, ...DEL });
    expect(await store.has(pending?.name ?? "")).toBe(true);
    await store.remove(pending?.name ?? "");
    expect(await store.has(pending?.name ?? "")).toBe(false);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("keeps those of one moment apart, in order, readable by root alone", async () => {
    await Promise.all(["a", "b", "c"].map((stdin) => store.add({ ...DEL, stdin }, 5n)));
    expect((await store.list()).map(({ stdin }) => stdin)).toEqual(["a", "b", "c"]);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
  });
});

it("wasRemoved() tells what this process removed, and nothing else", async () => {
  await store.add(DEL, 1n);
  const [{ name } = { name: "" }] = await store.list();
  expect(store.wasRemoved(name)).toBe(false);
  await store.remove(name);
  expect(store.wasRemoved(name)).toBe(true);
  expect(store.wasRemoved("00000000000000000002-7.del")).toBe(false);
});

describe("list()", () => {
  it("reads each file once, and knows when it has gone", async () => {
    await store.add(DEL, 1n);
    await store.add({ ...DEL, stdin: "second" }, 2n);
    const [first, second] = readdirSync(folder).sort();
    await store.list();
    writeFileSync(join(folder, second ?? ""), "whoever reads it again finds nonsense");
    rmSync(join(folder, first ?? ""));
    expect((await store.list()).map(({ stdin }) => stdin)).toEqual(["second"]);
    rmSync(join(folder, second ?? ""));
    expect(await store.list()).toEqual([]);
  });

  it("removes what a launcher that was killed left half-written, and none that may still be at work", async () => {
    mkdirSync(folder);
    const [old, young] = [".00000000000000000001-7", ".00000000000000000002-8"].map((name) => join(folder, name));
    for (const path of [old, young]) writeFileSync(path ?? "", "CNI_COM");
    const hourAgo = Date.now() / 1000 - 3600;
    utimesSync(old ?? "", hourAgo, hourAgo);
    expect(await store.list()).toEqual([]);
    expect(readdirSync(folder)).toEqual([".00000000000000000002-8"]);
  });

  it.each([
    ["a pipe", (path: string) => execFileSync("mkfifo", [path])],
    ["a link without end", (path: string) => symlinkSync("/dev/zero", path)],
    ["a folder", (path: string) => mkdirSync(path)],
    ["a file of unlikely size", (path: string) => writeFileSync(path, Buffer.alloc(5 * 1024 * 1024))],
  ])("sets %s aside, without waiting for it", async (_what, put) => {
    await store.add(DEL, 2n);
    put(join(folder, "00000000000000000001-7.del"));
    expect((await store.list()).map(({ stdin }) => stdin)).toEqual([DEL.stdin]);
    expect(readdirSync(folder)).toContain("00000000000000000001-7.del.bad");
  });

  it("leaves a hidden folder alone, however old", async () => {
    mkdirSync(join(folder, ".snapshot"), { recursive: true });
    utimesSync(join(folder, ".snapshot"), 0, 0);
    expect(await store.list()).toEqual([]);
  });
});
