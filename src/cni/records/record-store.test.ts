// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { AttachmentStore } from "../ports.ts";
import type { ReleasingRecord } from "../types.ts";
import { fileRecordStore } from "./record-store.ts";

const matching = (pattern: RegExp): unknown => expect.stringMatching(pattern);

let root: string;
let store: AttachmentStore;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "gingham-records-"));
  store = fileRecordStore(join(root, "state/attachments"));
});
afterEach(() => rmSync(root, { recursive: true }));

const id = { network: "net", containerID: "c1.x", ifName: "eth0" };
const file = () => join(root, "state/attachments/net/c1.x:eth0.json");
const at = (atMs: number): ReleasingRecord => ({ state: "releasing", handleID: "net.c1", atMs });

describe("fileRecordStore", () => {
  it("creates, appends, reads the last state, lists and removes", async () => {
    expect(await store.read(id)).toEqual({ kind: "absent" });
    expect(await store.list()).toEqual([]);
    await store.create(id, at(1));
    await store.append(id, at(2));
    expect(await store.read(id)).toEqual({ kind: "record", record: at(2) });
    expect(await store.list()).toEqual([id]);
    await store.remove(id);
    await store.remove(id);
    expect(await store.read(id)).toEqual({ kind: "absent" });
  });

  it("create() writes at once, and tells when a power cut could not take it", async () => {
    const { durable } = await store.create(id, at(1));
    expect(await store.read(id)).toEqual({ kind: "record", record: at(1) });
    await expect(durable).resolves.toBeUndefined();
  });

  it("is nobody else's to read", async () => {
    await store.create(id, at(1));
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(statSync(join(root, "state/attachments/net")).mode & 0o777).toBe(0o700);
  });

  it("create() replaces what was there", async () => {
    await store.create(id, at(1));
    await store.append(id, at(2));
    await store.create(id, at(3));
    expect(await store.read(id)).toEqual({ kind: "record", record: at(3) });
  });

  it("ignores a torn last line", async () => {
    await store.create(id, at(1));
    appendFileSync(file(), '{"format":1,"state":"rel');
    expect(await store.read(id)).toEqual({ kind: "record", record: at(1) });
  });

  it("append() cuts a torn last line off, which a full disk or a crash left", async () => {
    await store.create(id, at(1));
    appendFileSync(file(), '{"format":1,"state":"rel');
    await store.append(id, at(2));
    expect(await store.read(id)).toEqual({ kind: "record", record: at(2) });
  });

  it("takes a torn first line for no record", async () => {
    await store.create(id, at(1));
    writeFileSync(file(), '{"format":1,');
    expect(await store.read(id)).toEqual({ kind: "absent" });
  });

  it.each(["x\n", "{}\n", '{"format":2,"state":"intent"}\n', '{"format":1,"state":"gone","handleID":"h","atMs":1}\n'])(
    "reports %j as broken",
    async (bytes) => {
      await store.create(id, at(1));
      writeFileSync(file(), bytes);
      expect(await store.read(id)).toEqual({ kind: "broken", reason: matching(/./) });
    },
  );

  it("names the attachment and what to look at when the disk refuses", async () => {
    mkdirSync(file(), { recursive: true });
    const error = {
      code: "IOFailure",
      message: matching(/^Record of attachment net\/c1.x:eth0 cannot be .*: EISDIR.*; /),
    };
    await expect(store.create(id, at(1))).rejects.toMatchObject(error);
    await expect(store.append(id, at(1))).rejects.toMatchObject(error);
    await expect(store.remove(id)).rejects.toMatchObject({ code: "IOFailure" });
  });

  it.each([
    ["a pipe", () => execFileSync("mkfifo", [file()])],
    ["a symbolic link", () => symlinkSync("/dev/zero", file())],
    ["a folder", () => mkdirSync(file())],
    ["larger than 1048576 bytes", () => writeFileSync(file(), Buffer.alloc(1_048_577))],
  ])("reports what is %s as broken, without waiting for it", async (what, put) => {
    await store.create(id, at(1));
    await store.remove(id);
    put();
    expect(await store.read(id)).toEqual({ kind: "broken", reason: matching(new RegExp(`is ${what}$`)) });
  });

  it("create() does not wait for the other end of a pipe, nor write through a link", async () => {
    await store.create(id, at(1));
    await store.remove(id);
    execFileSync("mkfifo", [file()]);
    await expect(store.create(id, at(1))).rejects.toMatchObject({ code: "IOFailure", message: matching(/ENXIO/) });
    await store.remove(id);
    symlinkSync(join(root, "elsewhere"), file());
    await expect(store.create(id, at(1))).rejects.toMatchObject({ code: "IOFailure", message: matching(/ELOOP/) });
  });

  it("takes a record that could not be removed for none, until it is removed or made anew", async () => {
    mkdirSync(file(), { recursive: true });
    await expect(store.remove(id)).rejects.toMatchObject({ code: "IOFailure" });
    rmSync(file(), { recursive: true });
    await fileRecordStore(join(root, "state/attachments")).create(id, at(1));
    expect(await store.read(id)).toEqual({ kind: "absent" });
    expect(await store.list()).toEqual([id]);
    await store.create(id, at(2));
    expect(await store.read(id)).toEqual({ kind: "record", record: at(2) });
    await store.remove(id);
    expect(await store.list()).toEqual([]);
  });

  it("list() leaves out what is no record", async () => {
    await store.create(id, at(1));
    writeFileSync(join(root, "state/attachments/stray"), "");
    writeFileSync(join(root, "state/attachments/net/readme.txt"), "");
    mkdirSync(join(root, "state/attachments/empty"));
    expect(await store.list()).toEqual([id]);
  });
});
