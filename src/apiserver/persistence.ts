// SPDX-License-Identifier: Apache-2.0
import { DatabaseSync } from "node:sqlite";
import { parseJSON } from "../lib/json.ts";
import type { Entry, StoreEvent } from "./entry.ts";
import type { ApiObject } from "./model.ts";

/** Where objects survive a restart. */
export interface Persistence {
  load(): { readonly entries: readonly Entry[]; readonly revision: number };
  /** Returns when all changes are safe, or throws and none is. */
  commit(changes: readonly StoreEvent[], revision: number): void;
  close(revision: number): void;
}

/**
 * Keeps nothing. Resource versions start from the time, so that a watch which outlived a restart gets 410 and not
 * someone else's history.
 */
export function memoryPersistence(startMs: number): Persistence {
  return { load: () => ({ entries: [], revision: startMs }), commit: () => undefined, close: () => undefined };
}

/** Resource versions are reserved in runs of this length, so that a write does not also write the counter. */
const RESERVED = 1000;

/** One row an object, by `resource key`; every commit is synced before it is answered. */
export function sqlitePersistence(file: string): Persistence {
  const db = new DatabaseSync(file);
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE;
    CREATE TABLE IF NOT EXISTS object (id INTEGER PRIMARY KEY, resource TEXT NOT NULL, key TEXT NOT NULL,
      value TEXT NOT NULL, UNIQUE (resource, key));
    CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    INSERT OR IGNORE INTO counter VALUES ('resourceVersion', 1);`);
  const begin = db.prepare("BEGIN");
  const end = db.prepare("COMMIT");
  const upsert = db.prepare(
    "INSERT INTO object (resource, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
  );
  const remove = db.prepare("DELETE FROM object WHERE resource = ? AND key = ?");
  const reserve = db.prepare("UPDATE counter SET value = ? WHERE name = 'resourceVersion'");
  let reserved = 0;
  return {
    load() {
      const revision = Number(db.prepare("SELECT value FROM counter WHERE name = 'resourceVersion'").get()?.["value"]);
      const rows = db.prepare("SELECT resource, key, value FROM object").all();
      reserved = revision;
      return {
        entries: rows.map((row) => toEntry(String(row["resource"]), String(row["key"]), String(row["value"]))),
        revision,
      };
    },
    commit(changes, revision) {
      begin.run();
      try {
        for (const { type, entry } of changes) {
          if (type === "DELETED") remove.run(entry.resource, entry.key);
          else upsert.run(entry.resource, entry.key, entry.text);
        }
        const isOver = revision > reserved;
        if (isOver) reserve.run(revision + RESERVED);
        end.run();
        if (isOver) reserved = revision + RESERVED;
      } catch (error) {
        if (db.isTransaction) db.exec("ROLLBACK");
        throw error;
      }
    },
    close(revision) {
      reserve.run(revision);
      db.close();
    },
  };
}

function toEntry(resource: string, key: string, text: string): Entry {
  // The server wrote this text itself, from an ApiObject.
  const object = parseJSON(text) as ApiObject;
  return { resource, key, revision: Number(object.metadata.resourceVersion), object, text };
}
