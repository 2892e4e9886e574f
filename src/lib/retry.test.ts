// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { FakeClock } from "./fake-clock.ts";
import { backoffMs, retry } from "./retry.ts";

const BACKOFF = { baseMs: 100, maxMs: 1_000 };

test("backoffMs() doubles up to its limit, half of it random", () => {
  expect([1, 2, 3, 4, 5, 1_000].map((n) => backoffMs(BACKOFF, n, 0))).toEqual([50, 100, 200, 400, 500, 500]);
  expect(backoffMs(BACKOFF, 1, 0.5)).toBe(75);
  expect(backoffMs({ ...BACKOFF, factor: 1 }, 9, 0)).toBe(50);
});

test("retry() goes on while the error is retryable, and hands out the last one", async () => {
  const clock = new FakeClock();
  const options = { attempts: 3, backoff: BACKOFF, clock, random: () => 0, isRetryable: () => true };
  const tried: number[] = [];
  const result = retry((attempt) => {
    tried.push(attempt);
    return attempt === 3 ? Promise.resolve("done") : Promise.reject(new Error("again"));
  }, options);
  await clock.advance(150);
  expect(await result).toBe("done");
  expect(tried).toEqual([1, 2, 3]);
  const failed = retry((attempt) => Promise.reject(new Error(`try ${attempt}`)), options).catch((e: unknown) => e);
  await clock.advance(10_000);
  expect(await failed).toMatchObject({ message: "try 3" });
});

test("retry() does not repeat what is not retryable, nor after its signal", async () => {
  const clock = new FakeClock();
  const error = new Error("final");
  const options = { attempts: 3, backoff: BACKOFF, clock, random: () => 0 };
  await expect(retry(() => Promise.reject(error), { ...options, isRetryable: () => false })).rejects.toBe(error);
  const abort = new AbortController();
  const waiting = retry(() => Promise.reject(error), { ...options, isRetryable: () => true, signal: abort.signal });
  const reason = new Error("stop");
  await clock.advance(0);
  abort.abort(reason);
  await expect(waiting).rejects.toBe(reason);
});
