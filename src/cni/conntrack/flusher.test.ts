// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseIP } from "../../net/ip.ts";
import type { Logger } from "../ports.ts";
import { FakeConntrack } from "./fake-conntrack.ts";
import { ConntrackFlusher } from "./flusher.ts";
import type { FlushOutcome } from "./ports.ts";

const [A, B, C] = [parseIP("10.65.0.1"), parseIP("10.65.0.2"), parseIP("fd00:65::3")];

function setUp() {
  const conntrack = new FakeConntrack();
  const clock = new FakeClock();
  const logged: string[] = [];
  const at = (level: string) => (_: object, message: string) => void logged.push(`${level} ${message.split(":")[0]}`);
  const log: Logger = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  return { conntrack, clock, logged, flusher: new ConntrackFlusher({ conntrack, clock, log }) };
}

/** Makes the next flush wait for `answer`. */
function holdNext(conntrack: FakeConntrack) {
  const { promise, resolve, reject } = Promise.withResolvers<FlushOutcome>();
  promise.catch(() => {});
  conntrack.instead = () => {
    conntrack.instead = undefined;
    return promise;
  };
  return { answer: () => resolve({ kind: "flushed", entries: 0 }), fail: () => reject(new Error("ENOBUFS")) };
}

describe("released()", () => {
  test("flushes all of 100 ms in one pass, and each address once", async () => {
    const { conntrack, clock, flusher } = setUp();
    conntrack.entries = [[A, B], [C], [parseIP("192.0.2.1")]];
    flusher.released([A]);
    await clock.advance(60);
    flusher.released([C, A]);
    await clock.advance(39);
    expect(conntrack.flushes).toEqual([]);
    await clock.advance(1);
    expect(conntrack.flushes).toEqual([[A, C]]);
    expect(conntrack.entries).toEqual([[parseIP("192.0.2.1")]]);
    await clock.advance(10_000);
    expect(conntrack.flushes).toHaveLength(1);
  });

  test("flushes what comes during a pass in the next one, also an address of the pass under way", async () => {
    const { conntrack, clock, flusher } = setUp();
    const held = holdNext(conntrack);
    flusher.released([A, B]);
    await clock.advance(100);
    flusher.released([A]);
    await clock.advance(1000);
    expect(conntrack.flushes).toEqual([[A, B]]);
    held.answer();
    // The pass took a second, so that the next one waits for four.
    await clock.advance(3999);
    expect(conntrack.flushes).toHaveLength(1);
    await clock.advance(1);
    expect(conntrack.flushes).toEqual([[A, B], [A]]);
  });

  test("tries a pass that failed again a second later", async () => {
    const { conntrack, clock, flusher, logged } = setUp();
    conntrack.entries = [[A]];
    holdNext(conntrack).fail();
    flusher.released([A]);
    await clock.advance(100);
    expect(logged).toEqual([expect.stringMatching(/^warn .*tried again/)]);
    await clock.advance(1000);
    expect(conntrack.entries).toEqual([]);
  });

  test("says once that connections are not tracked", async () => {
    const { conntrack, clock, flusher, logged } = setUp();
    conntrack.instead = async () => ({ kind: "untracked", reason: "no module" });
    for (const ip of [A, B]) {
      flusher.released([ip]);
      await clock.advance(100);
    }
    expect(conntrack.flushes).toHaveLength(2);
    expect(logged).toEqual(["debug Connections are not tracked here"]);
  });
});

describe("settled()", () => {
  test("asks nothing of the kernel for an address that is not due", async () => {
    const { conntrack, flusher } = setUp();
    flusher.released([A]);
    await flusher.settled([B, C]);
    expect(conntrack.flushes).toEqual([]);
  });

  test("flushes at once what is due, with all that waits beside it", async () => {
    const { conntrack, clock, flusher } = setUp();
    conntrack.entries = [[A], [B]];
    flusher.released([A, B]);
    await flusher.settled([A]);
    expect(conntrack.entries).toEqual([]);
    await flusher.settled([A, B]);
    await clock.advance(1000);
    expect(conntrack.flushes).toEqual([[A, B]]);
  });

  test("waits for a pass under way, and for the one after it when the address was released again", async () => {
    const { conntrack, clock, flusher } = setUp();
    const held = holdNext(conntrack);
    flusher.released([A, B]);
    await clock.advance(100);
    const done: string[] = [];
    void flusher.settled([B]).then(() => done.push("B"));
    await clock.advance(10);
    expect(done).toEqual([]);
    flusher.released([A]);
    const settled = flusher.settled([A]);
    held.answer();
    await settled;
    expect(done).toEqual(["B"]);
    expect(conntrack.flushes).toEqual([[A, B], [A]]);
  });

  test("does what a pass under way fails to do, and throws what it fails with itself", async () => {
    const { conntrack, clock, flusher } = setUp();
    const held = holdNext(conntrack);
    flusher.released([A]);
    await clock.advance(100);
    const settled = flusher.settled([A]);
    held.fail();
    await settled;
    expect(conntrack.flushes).toEqual([[A], [A]]);
    flusher.released([B]);
    holdNext(conntrack).fail();
    await expect(flusher.settled([B])).rejects.toThrow("ENOBUFS");
    await flusher.settled([B]);
    expect(conntrack.flushes).toEqual([[A], [A], [B], [B]]);
  });
});

test("drain() flushes what is due and what is under way", async () => {
  const { conntrack, clock, flusher } = setUp();
  const held = holdNext(conntrack);
  flusher.released([A]);
  await clock.advance(100);
  flusher.released([B]);
  const drained = flusher.drain();
  held.answer();
  await drained;
  expect(conntrack.flushes).toEqual([[A], [B]]);
  expect(clock.sleeping).toBe(0);
});
