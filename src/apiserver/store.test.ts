// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { StoreEvent } from "./entry.ts";
import type { ApiObject } from "./model.ts";
import { memoryPersistence, type Persistence, sqlitePersistence } from "./persistence.ts";
import { Store } from "./store.ts";

function object(name: string, more: object = {}): ApiObject {
  return { apiVersion: "v1", kind: "Thing", metadata: { name }, ...more };
}

/** Counts commits and can refuse them. */
function countingPersistence(): Persistence & { commits: (readonly StoreEvent[])[]; refuse: boolean } {
  const state = {
    ...memoryPersistence(100),
    commits: [] as (readonly StoreEvent[])[],
    refuse: false,
    commit(changes: readonly StoreEvent[]): void {
      if (state.refuse) throw new Error("disk full");
      state.commits.push(changes);
    },
  };
  return state;
}

const put = (store: Store, name: string, more?: object): Promise<number> =>
  store.write((tx) => tx.put("things", name, object(name, more)).revision);

describe("Store", () => {
  it("puts the writes of one turn into one commit, each with its own number", async () => {
    const persistence = countingPersistence();
    const store = new Store(persistence, 10);
    const revisions = await Promise.all(["a", "b", "c"].map((name) => put(store, name)));
    expect(revisions).toEqual([101, 102, 103]);
    expect(persistence.commits.map((c) => c.length)).toEqual([3]);
  });

  it("lets a bad write fail alone", async () => {
    const store = new Store(countingPersistence(), 10);
    const bad = store.write((tx) => {
      tx.put("things", "x", object("x"));
      throw new RangeError("no");
    });
    const results = await Promise.allSettled([put(store, "a"), bad, put(store, "b")]);
    expect(results.map((r) => r.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(store.get("things", "x")).toBeUndefined();
    expect(store.list("things").map((e) => e.key)).toEqual(["a", "b"]);
  });

  it("shows readers nothing before the commit, and writers everything", async () => {
    const store = new Store(countingPersistence(), 10);
    const first = put(store, "a");
    expect(store.get("things", "a")).toBeUndefined();
    const seen = store.write((tx) => tx.get("things", "a")?.revision);
    await first;
    expect(await seen).toBe(101);
  });

  it("answers a refusal only after what it was judged by is visible", async () => {
    const store = new Store(countingPersistence(), 10);
    const first = put(store, "a");
    const refused = store.write((tx) => {
      if (tx.get("things", "a") !== undefined) throw new RangeError("exists");
    });
    await expect(refused).rejects.toThrow("exists");
    expect(store.get("things", "a")?.revision).toBe(101);
    await first;
  });

  it("takes a whole batch back when the disk refuses it, and goes on", async () => {
    const persistence = countingPersistence();
    const store = new Store(persistence, 10);
    persistence.refuse = true;
    const results = await Promise.allSettled([put(store, "a"), put(store, "b")]);
    expect(results.map((r) => r.status)).toEqual(["rejected", "rejected"]);
    expect([store.revision, store.list("things").length]).toEqual([100, 0]);
    persistence.refuse = false;
    expect(await put(store, "a")).toBe(101);
  });

  it("tells listeners in order of numbers, and compacts its history", async () => {
    const store = new Store(countingPersistence(), 2);
    const told: number[] = [];
    store.log.listen((events) => told.push(...events.map((e) => e.entry.revision)));
    for (let i = 0; i < 5; i++) await put(store, "a", { i });
    expect(told).toEqual([101, 102, 103, 104, 105]);
    expect(store.log.horizon).toBe(103);
    expect(store.log.since(104).map((e) => e.entry.revision)).toEqual([105]);
  });
});

describe("sqlitePersistence", () => {
  function file(): string {
    const dir = mkdtempSync(join(tmpdir(), "gingham-store-"));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    return join(dir, "api.db");
  }

  it("goes on with objects, exact integers and numbers after a restart", async () => {
    const path = file();
    const first = new Store(sqlitePersistence(path), 10);
    await put(first, "a", { n: 1763734567890123457n, list: [null, 1] });
    await put(first, "b");
    await first.write((tx) => {
      const entry = tx.get("things", "b");
      if (entry !== undefined) tx.remove(entry);
    });
    const { revision } = first;
    first.close();
    const second = new Store(sqlitePersistence(path), 10);
    expect(second.list("things").map((e) => e.object)).toMatchObject([{ n: 1763734567890123457n, list: [null, 1] }]);
    expect([second.revision, second.log.horizon]).toEqual([revision, revision]);
    expect(await put(second, "c")).toBe(revision + 1);
    second.close();
  });

  it("never gives a number twice, not even after a crash", async () => {
    const path = file();
    const first = new Store(sqlitePersistence(path), 10);
    const before = await put(first, "a");
    // What a crash leaves on the disk: nothing was closed.
    const copy = `${path}.copy`;
    for (const suffix of ["", "-wal"]) copyFileSync(path + suffix, copy + suffix);
    first.close();
    const second = new Store(sqlitePersistence(copy), 10);
    expect(second.get("things", "a")?.revision).toBe(before);
    expect(await put(second, "a")).toBeGreaterThan(before);
    second.close();
  });
});
