// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { FakeClock } from "../lib/fake-clock.ts";
import { ApplyLoop } from "./apply-loop.ts";

function setUp(turn: (n: number) => Promise<number | undefined>) {
  const clock = new FakeClock();
  const errors: unknown[] = [];
  let turns = 0;
  const loop = new ApplyLoop({
    clock,
    random: () => 0,
    turn: async () => await turn(++turns),
    onError: (error) => errors.push(error),
  });
  return { clock, loop, errors, turns: () => turns };
}

describe("ApplyLoop", () => {
  test("start() runs a first turn, and wakes that come close together share one", async () => {
    const { clock, loop, turns } = setUp(async () => undefined);
    loop.start();
    await clock.advance(1);
    expect(turns()).toBe(1);
    for (let i = 0; i < 10; i++) loop.wake();
    await clock.advance(4);
    expect(turns()).toBe(1);
    await clock.advance(1);
    expect(turns()).toBe(2);
    await clock.advance(100_000);
    expect(turns()).toBe(2);
    await loop.stop();
  });

  test("wakeWithin() leads to one turn for all calls of that time, and to none once stopped", async () => {
    const { clock, loop, turns } = setUp(async () => undefined);
    loop.start();
    await clock.advance(1);
    for (let i = 0; i < 10; i++) loop.wakeWithin(1000);
    await clock.advance(999);
    expect(turns()).toBe(1);
    await clock.advance(10);
    expect(turns()).toBe(2);
    loop.wakeWithin(1000);
    await loop.stop();
    await clock.advance(2000);
    expect(turns()).toBe(2);
  });

  test("a turn never overlaps another, and a wake meanwhile leads to one more", async () => {
    const gate = Promise.withResolvers<undefined>();
    const { clock, loop, turns } = setUp(async (n) => (n === 1 ? await gate.promise : undefined));
    loop.start();
    await clock.advance(1);
    loop.wake();
    loop.wake();
    await clock.advance(1000);
    expect(turns()).toBe(1);
    expect(loop.turnStartedMs).toBeDefined();
    gate.resolve(undefined);
    await clock.advance(10);
    expect(turns()).toBe(2);
    expect(loop.turnStartedMs).toBeUndefined();
    await loop.stop();
  });

  test("a turn that asks for another gets it in time, and is not woken for nothing", async () => {
    const { clock, loop, turns } = setUp(async (n) => (n === 1 ? 30_000 : undefined));
    loop.start();
    await clock.advance(29_999);
    expect(turns()).toBe(1);
    await clock.advance(1);
    expect(turns()).toBe(2);
    await loop.stop();
  });

  test("a turn that rejects is repeated with back-off, whatever wakes come", async () => {
    const { clock, loop, errors, turns } = setUp(async (n) => {
      if (n < 4) throw new Error(`turn ${n}`);
      return undefined;
    });
    loop.start();
    for (let i = 0; i < 40; i++) {
      loop.wake();
      await clock.advance(1);
    }
    expect(turns()).toBe(1);
    await clock.advance(1000);
    expect(turns()).toBe(4);
    expect(errors).toHaveLength(3);
    await loop.stop();
  });

  test("lastBeatMs goes on while nothing happens", async () => {
    const { clock, loop } = setUp(async () => undefined);
    loop.start();
    await clock.advance(100_000);
    expect(clock.nowMs() - loop.lastBeatMs).toBeLessThanOrEqual(10_000);
    await loop.stop();
  });

  test("stop() waits for the turn under way, and nothing follows", async () => {
    const gate = Promise.withResolvers<undefined>();
    const { clock, loop, turns } = setUp(async () => await gate.promise);
    loop.start();
    await clock.advance(1);
    let isStopped = false;
    const stopped = loop.stop().then(() => {
      isStopped = true;
    });
    await clock.advance(1000);
    expect(isStopped).toBe(false);
    gate.resolve(undefined);
    await stopped;
    loop.wake();
    await clock.advance(1000);
    expect([turns(), clock.sleeping]).toEqual([1, 0]);
  });
});
