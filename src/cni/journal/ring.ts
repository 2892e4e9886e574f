// SPDX-License-Identifier: Apache-2.0
import { type FileHandle, mkdir, open, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { lines } from "../../kube/lines.ts";
import type { Clock } from "../../lib/clock.ts";

export interface RingOptions<T> {
  /** The file that is written; the one before it has `.1` behind its name. */
  readonly path: string;
  /** Of each of the two files. Units: bytes. */
  readonly maxBytes: number;
  /** One line, without its line feed. */
  readonly encode: (entry: T) => string;
  readonly clock: Clock;
  /** Hears of the first failure in a row. Entries that could not be written are gone. */
  readonly onError: (error: unknown) => void;
}

/** Entries wait this long for others, to be written together. A crash loses no more. */
const FLUSH_MS = 1000;
/** While a disk hangs. */
const MAX_WAITING = 10_000;
const LF = 0x0a;

/**
 * The newest entries of something, in two files of bounded size: when the one is full, it takes the place of the other.
 *
 * Written in the background and never synced, since nothing depends on it. Whatever byte a crash ends at, the lines before
 * it stay readable: an unfinished line is closed by the next writer, and readers pass it over. Several processes may write
 * to one ring: each batch goes out in one append.
 */
export class Ring<T> {
  readonly #options: RingOptions<T>;
  readonly #closing = new AbortController();
  #waiting: T[] = [];
  #writer: Promise<void> | undefined;
  #isFailing = false;

  constructor(options: RingOptions<T>) {
    this.#options = options;
  }

  /** Takes an entry; returns at once and never throws. */
  append(entry: T): void {
    if (this.#waiting.length === MAX_WAITING) this.#waiting.shift();
    this.#waiting.push(entry);
    this.#writer ??= this.#writeSoon();
  }

  /** Writes what waits. Never rejects. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#writer;
  }

  async #writeSoon(): Promise<void> {
    const { clock, encode, maxBytes, onError } = this.#options;
    while (this.#waiting.length > 0) {
      await clock.sleep(FLUSH_MS, this.#closing.signal).catch(() => {});
      const entries = this.#waiting;
      this.#waiting = [];
      try {
        for (const batch of batchesOf(entries.map(encode), maxBytes)) await appendToRing(this.#options, batch);
        this.#isFailing = false;
      } catch (error) {
        if (!this.#isFailing) onError(error);
        this.#isFailing = true;
      }
    }
    this.#writer = undefined;
  }
}

/** Texts of whole lines, none longer than a file may be; a line that is longer by itself is left out. */
export function batchesOf(lines: readonly string[], maxBytes: number): readonly string[] {
  const batches: string[] = [];
  let batch = "";
  let bytes = 0;
  for (const line of lines) {
    const size = Buffer.byteLength(line) + 1;
    if (size > maxBytes) continue;
    if (bytes + size > maxBytes) {
      batches.push(batch);
      batch = "";
      bytes = 0;
    }
    batch += `${line}\n`;
    bytes += size;
  }
  return batch === "" ? batches : [...batches, batch];
}

async function appendToRing({ path, maxBytes }: RingOptions<never>, text: string): Promise<void> {
  // One more for the feed that a torn line may need.
  await using file = await openRing(path, maxBytes - Buffer.byteLength(text) - 1);
  const { size } = await file.stat();
  await file.appendFile((await endsMidLine(file, size)) ? `\n${text}` : text);
}

/** The file to append to, after it was put aside if it holds more than there is room for. */
async function openRing(path: string, roomBytes: number): Promise<FileHandle> {
  const file = await open(path, "a+", 0o600).catch(async (error: unknown) => {
    if (!isMissing(error)) throw error;
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    return await open(path, "a+", 0o600);
  });
  const { size, ino } = await file.stat();
  if (size === 0 || size <= roomBytes) return file;
  await file.close();
  // Another process may have turned the ring meanwhile: to turn it again would lose its older half.
  if ((await inodeOf(path)) === ino) await rename(path, olderOf(path));
  return await open(path, "a+", 0o600);
}

async function endsMidLine(file: FileHandle, size: number): Promise<boolean> {
  if (size === 0) return false;
  const { buffer, bytesRead } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return bytesRead === 1 && buffer[0] !== LF;
}

/** Complete lines of a ring, oldest first; the ones that a crash has torn and a later writer closed are among them. A ring that is not there has none. */
export async function* readRing(path: string): AsyncGenerator<string, void, undefined> {
  const files = await openBoth(path);
  try {
    // A last line without its feed is being written, or torn: `lines` drops it.
    for (const file of files) yield* lines(file.createReadStream({ encoding: "utf8", autoClose: false }));
  } finally {
    await Promise.all(files.map((file) => file.close()));
  }
}

/** Both files of one moment: when the ring turns between the two, they are opened again. */
async function openBoth(path: string): Promise<readonly FileHandle[]> {
  for (let attempt = 1; ; attempt++) {
    const older = await openIfThere(olderOf(path));
    const newer = await openIfThere(path);
    const files = [older, newer].filter((file) => file !== undefined);
    const isOneMoment = (await older?.stat())?.ino === (await inodeOf(olderOf(path)));
    if (isOneMoment || attempt === 3) return files;
    await Promise.all(files.map((file) => file.close()));
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "r");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

async function inodeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).ino;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function olderOf(path: string): string {
  return `${path}.1`;
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
