// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test, vi } from "vitest";
import { FakeClock } from "./fake-clock.ts";
import { systemClock } from "./system-clock.ts";

test("FakeClock wakes sleepers in the order of their time, and those that they start in turn", async () => {
  const clock = new FakeClock(1_000);
  const woken: string[] = [];
  const nap = async (name: string, ms: number): Promise<void> => {
    await clock.sleep(ms);
    woken.push(`${name} at ${clock.nowMs()}`);
  };
  void nap("late", 30);
  void nap("early", 10).then(() => nap("again", 10));
  await clock.advance(25);
  expect(woken).toEqual(["early at 1010", "again at 1020"]);
  expect(clock.nowMs()).toBe(1_025);
  expect(clock.nowNs()).toBe(1_025_000_000n);
  await clock.advance(5);
  expect(woken).toContain("late at 1030");
});

test.each([
  ["FakeClock", new FakeClock()],
  ["systemClock", systemClock],
])("%s rejects a sleep with the signal's own reason", async (_, clock) => {
  const reason = new Error("stop");
  await expect(clock.sleep(1_000_000, AbortSignal.abort(reason))).rejects.toBe(reason);
  const abort = new AbortController();
  const sleep = clock.sleep(1_000_000, abort.signal);
  abort.abort(reason);
  await expect(sleep).rejects.toBe(reason);
});

test("systemClock counts from 1970, in nanoseconds beyond 2^53", async () => {
  await systemClock.sleep(0);
  const ns = systemClock.nowNs();
  expect(ns / 1_000_000n - BigInt(systemClock.nowMs())).toBeLessThanOrEqual(0n);
  expect(ns).toBeGreaterThan(2n ** 53n);
});

describe("systemClock.nowNs()", () => {
  test("never goes back while nobody sets the machine's clock, and stays beside nowMs()", () => {
    const end = process.hrtime.bigint() + 30_000_000n;
    let last = systemClock.nowNs();
    let steps = 0;
    while (process.hrtime.bigint() < end) {
      const now = systemClock.nowNs();
      if (now < last) steps++;
      last = now;
    }
    expect(steps).toBe(0);
    expect(Math.abs(Number(systemClock.nowNs() / 1_000_000n) - systemClock.nowMs())).toBeLessThan(20);
  });

  test("follows a clock that somebody set", () => {
    const real = Date.now();
    const spy = vi.spyOn(Date, "now").mockReturnValue(real + 3_600_000);
    try {
      expect(Number(systemClock.nowNs() / 1_000_000n)).toBe(real + 3_600_000);
    } finally {
      spy.mockRestore();
    }
  });
});
