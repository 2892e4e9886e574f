// SPDX-License-Identifier: Apache-2.0
import {
  closeSync,
  constants,
  existsSync,
  fdatasync,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
} from "node:fs";
import { mkdir, open, readdir, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { describeError } from "../../lib/errors.ts";
import { irregularityOf, O_REGULAR } from "../../lib/regular-file.ts";
import { CNIError } from "../errors.ts";
import type { AttachmentStore, StoredRecord } from "../ports.ts";
import type { AttachmentID, AttachmentRecord } from "../types.ts";
import { decodeRecord, encodeRecord, keyOf } from "./attachment.ts";

const SUFFIX = ".json";
/** More than a record has. */
const REHEARSAL = Buffer.alloc(4096);
const MAX_RECORD_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;
const { O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } = constants;
const ANEW = O_WRONLY | O_CREAT | O_TRUNC | O_REGULAR;
const sync = promisify(fdatasync);

/**
 * Records as files `<root>/<network>/<containerID>:<ifName>.json`, each a log of JSON lines.
 *
 * Adding a line instead of replacing the file saves a rename and a sync of the folder: the first line's fdatasync is all
 * that an ADD pays. On ext4 and xfs the sync of a new file makes its name durable, too. A removal is not synced: a record
 * that comes back after a power cut is of another boot, and releasing its addresses again changes nothing.
 *
 * Only the sync waits for a disk, so only it goes to the thread pool: a trip there and back costs more than opening,
 * writing and closing a small file.
 */
export function fileRecordStore(root: string): AttachmentStore {
  /** Keys of records whose file would not go: it says no longer what is so. */
  const condemned = new Set<string>();
  const pathOf = (id: AttachmentID) => join(root, id.network, `${id.containerID}:${id.ifName}${SUFFIX}`);
  const named = async <T>(id: AttachmentID, verb: string, work: (path: string) => Promise<T> | T): Promise<T> => {
    try {
      return await work(pathOf(id));
    } catch (cause) {
      const what = `Record of attachment ${keyOf(id)} cannot be ${verb}: ${describeError(cause)}`;
      throw new CNIError("IOFailure", `${what}; look at the disk under ${root}`, { cause });
    }
  };
  return {
    read: (id) => named(id, "read", (path) => (condemned.has(keyOf(id)) ? { kind: "absent" } : readRecord(id, path))),
    create: (id, record) =>
      named(id, "written", async (path) => {
        const fd = await openNew(path);
        addLine(fd, record);
        condemned.delete(keyOf(id));
        const durable = named(id, "synced", () => sync(fd).finally(() => closeSync(fd)));
        // Whoever does not wait for it does not care.
        durable.catch(() => {});
        return { durable };
      }),
    append: (id, record) =>
      named(id, "written", (path) => {
        const fd = openSync(path, O_RDWR | O_CREAT | O_APPEND | O_REGULAR, 0o600);
        addLine(fd, record, () => cutTornLine(fd, path));
        closeSync(fd);
      }),
    remove: (id) =>
      named(id, "removed", async (path) => {
        condemned.add(keyOf(id));
        await unlink(path).catch(ignoreMissing);
        condemned.delete(keyOf(id));
      }),
    async list() {
      const networks = await readdirOrNothing(root);
      const lists = await Promise.all(
        networks.map(async (network) =>
          (await readdirOrNothing(join(root, network))).flatMap((name) => parseName(network, name)),
        ),
      );
      return lists.flat();
    },
    async rehearse() {
      // Beside the records, where nobody looks for any: the same file system.
      const path = `${root}.rehearsal`;
      try {
        await mkdir(dirname(path), { recursive: true });
        try {
          const fd = openSync(path, ANEW, 0o600);
          try {
            writeFileSync(fd, REHEARSAL);
          } finally {
            closeSync(fd);
          }
        } finally {
          // The error that matters is the write's.
          await unlink(path).catch(() => {});
        }
      } catch (cause) {
        const what = `Records of attachments cannot be written: ${describeError(cause)}`;
        throw new CNIError("IOFailure", `${what}; look at the disk under ${root}`, { cause });
      }
    },
  };
}

function readRecord(id: AttachmentID, path: string): StoredRecord {
  // The common case of an ADD; an exception for it would cost more than the look.
  if (!existsSync(path)) return { kind: "absent" };
  try {
    const reason = irregularityOf(lstatSync(path), MAX_RECORD_BYTES);
    if (reason !== undefined) return { kind: "broken", reason };
    return decode(keyOf(id), readFileSync(path, { encoding: "utf8", flag: O_RDONLY | O_REGULAR }));
  } catch (error) {
    if (isMissing(error)) return { kind: "absent" };
    throw error;
  }
}

function decode(name: string, text: string): StoredRecord {
  try {
    const record = decodeRecord(name, text);
    return record === undefined ? { kind: "absent" } : { kind: "record", record };
  } catch (error) {
    return { kind: "broken", reason: describeError(error) };
  }
}

/** Closes the file on failure. */
function addLine(fd: number, record: AttachmentRecord, prepare?: () => void): void {
  try {
    prepare?.();
    writeFileSync(fd, encodeRecord(record));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** What a full disk or a crash left of a line would make one broken line of itself and the next. */
function cutTornLine(fd: number, path: string): void {
  const { size } = fstatSync(fd);
  const last = Buffer.alloc(1);
  if (size === 0 || (readSync(fd, last, 0, 1, size - 1) === 1 && last[0] === NEWLINE)) return;
  ftruncateSync(fd, readFileSync(path).lastIndexOf(NEWLINE) + 1);
}

async function openNew(path: string): Promise<number> {
  try {
    return openSync(path, ANEW, 0o600);
  } catch (error) {
    if (!isMissing(error)) throw error;
    await makeDurableFolder(dirname(path));
    return openSync(path, ANEW, 0o600);
  }
}

/** Makes a folder and those above it, and syncs the parent of each that is new, so that a power cut cannot take it. */
export async function makeDurableFolder(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let folder = path; folder.length >= first.length; folder = dirname(folder)) {
    await using parent = await open(dirname(folder));
    await parent.sync();
  }
}

function parseName(network: string, name: string): AttachmentID[] {
  const colon = name.lastIndexOf(":");
  if (colon <= 0 || !name.endsWith(SUFFIX)) return [];
  return [{ network, containerID: name.slice(0, colon), ifName: name.slice(colon + 1, -SUFFIX.length) }];
}

async function readdirOrNothing(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isMissing(error) || isCode(error, "ENOTDIR")) return [];
    throw error;
  }
}

function ignoreMissing(error: unknown): void {
  if (!isMissing(error)) throw error;
}

function isMissing(error: unknown): boolean {
  return isCode(error, "ENOENT");
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
