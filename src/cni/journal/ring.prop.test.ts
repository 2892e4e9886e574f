// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdtempSync, renameSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { Ring, readRing } from "./ring.ts";

let folder: string;
let count = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "gingham-ring-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const newPath = (): string => join(folder, `${count++}.jsonl`);
/** A process: writes its batches, each flushed, and ends. */
async function write(path: string, maxBytes: number, batches: readonly (readonly string[])[]): Promise<void> {
  for (const batch of batches) {
    const ring = new Ring<string>({
      path,
      maxBytes,
      encode: (text) => JSON.stringify({ text }),
      clock: new FakeClock(),
      onError: (error) => {
        throw error;
      },
    });
    for (const entry of batch) ring.append(entry);
    await ring.close();
  }
}

async function read(path: string): Promise<string[]> {
  const entries: string[] = [];
  for await (const line of readRing(path)) {
    try {
      entries.push((JSON.parse(line) as { text: string }).text);
    } catch {
      // Torn.
    }
  }
  return entries;
}

const sizeOf = (path: string): number => (existsSync(path) ? statSync(path).size : 0);
const isSuffix = (part: readonly string[], whole: readonly string[]): boolean =>
  part.length <= whole.length && part.every((entry, i) => entry === whole[whole.length - part.length + i]);
const texts = fc.array(fc.string({ maxLength: 30, unit: "grapheme" }), { minLength: 1, maxLength: 8 });

describe("Ring", () => {
  it("keeps the newest entries in order, within its bounds", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(texts, { maxLength: 12 }),
        fc.integer({ min: 400, max: 2000 }),
        async (batches, max) => {
          const path = newPath();
          await write(path, max, batches);
          const kept = await read(path);
          const all = batches.flat();
          expect(isSuffix(kept, all)).toBe(true);
          // Nothing goes before the first file is full.
          const bytes = all.reduce((sum, text) => sum + Buffer.byteLength(JSON.stringify({ text })) + 1, 0);
          if (bytes <= max) expect(kept).toEqual(all);
          for (const file of [path, `${path}.1`]) expect(sizeOf(file)).toBeLessThanOrEqual(max);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("loses only what a crash tears, whatever byte it ends at", async () => {
    await fc.assert(
      fc.asyncProperty(texts, texts, fc.nat(), async (before, after, at) => {
        const path = newPath();
        const max = 10_000;
        await write(path, max, [before]);
        const cut = at % (sizeOf(path) + 1);
        truncateSync(path, cut);
        let end = 0;
        const whole = before.filter((text) => {
          end += Buffer.byteLength(JSON.stringify({ text })) + 1;
          return end <= cut;
        });
        expect(await read(path)).toEqual(whole);
        await write(path, max, [after]);
        const kept = await read(path);
        // A line that lacks its feed alone is whole again once the next writer has closed it.
        const closed = before.slice(0, kept.length - after.length);
        expect(kept).toEqual([...closed, ...after]);
        expect(closed.length - whole.length).toBeLessThanOrEqual(1);
        expect(closed.length).toBeGreaterThanOrEqual(whole.length);
      }),
      { numRuns: 60 },
    );
  });

  it("takes entries of several processes at once, each in its order", async () => {
    const path = newPath();
    const names = ["a", "b", "c"];
    const batches = (name: string) => Array.from({ length: 20 }, (_, i) => [`${name}${i}x`, `${name}${i}y`]);
    await Promise.all(names.map((name) => write(path, 100_000, batches(name))));
    const kept = await read(path);
    expect(kept).toHaveLength(names.length * 40);
    for (const name of names) expect(kept.filter((entry) => entry.startsWith(name))).toEqual(batches(name).flat());
  });

  it("goes on after a crash between the two steps of a turn", async () => {
    const path = newPath();
    await write(path, 1000, [["a", "b"]]);
    renameSync(path, `${path}.1`);
    expect(await read(path)).toEqual(["a", "b"]);
    await write(path, 1000, [["c"]]);
    expect(await read(path)).toEqual(["a", "b", "c"]);
  });

  it("leaves out a line that no file could hold", async () => {
    const path = newPath();
    await write(path, 100, [["a", "x".repeat(200), "b"]]);
    expect(await read(path)).toEqual(["a", "b"]);
  });

  it("tells of the first failure in a row, and writes again when it can", async () => {
    const path = join(newPath(), "ring.jsonl");
    await write(path, 1000, [["a"]]);
    rmSync(join(path, ".."), { recursive: true });
    const errors: unknown[] = [];
    const clock = new FakeClock();
    const options = { path: "/dev/null/ring", maxBytes: 1000, encode: (text: string) => text, clock };
    const broken = new Ring<string>({ ...options, onError: (error) => errors.push(error) });
    broken.append("a");
    await broken.close();
    broken.append("b");
    await broken.close();
    expect(errors).toHaveLength(1);
    expect(await read("/nowhere/ring.jsonl")).toEqual([]);
  });
});
