// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { KeyedLocks } from "./locks.ts";

describe("KeyedLocks", () => {
  it("gives turns in order of arrival, and keys do not wait for each other", async () => {
    const locks = new KeyedLocks();
    const order: string[] = [];
    const first = await locks.acquire("a");
    const waiting = ["second", "third"].map(async (name) => {
      using _ = await locks.acquire("a");
      order.push(name);
    });
    using _other = await locks.acquire("b");
    order.push("first");
    first[Symbol.dispose]();
    await Promise.all(waiting);
    expect(order).toEqual(["first", "second", "third"]);
    expect(locks.isHeld("a")).toBe(false);
  });

  it("cancels the holder and the waiting that yield, and waits for them", async () => {
    const locks = new KeyedLocks();
    const reason = new Error("a DEL came");
    const holder = await locks.acquire("a", { yields: true });
    const waiter = locks.acquire("a", { yields: true });
    const firm = locks.acquire("a");
    const canceller = locks.acquire("a", { cancel: () => reason });
    expect(holder.signal.reason).toBe(reason);
    await expect(waiter).rejects.toBe(reason);
    holder[Symbol.dispose]();
    const turn = await firm;
    expect(turn.signal.aborted).toBe(false);
    turn[Symbol.dispose]();
    (await canceller)[Symbol.dispose]();
    expect(locks.isHeld("a")).toBe(false);
  });

  it("lets go of a place in the queue when the signal aborts", async () => {
    const locks = new KeyedLocks();
    const hangUp = new AbortController();
    const holder = await locks.acquire("a");
    const waiter = locks.acquire("a", { signal: hangUp.signal });
    const next = locks.acquire("a");
    hangUp.abort(new Error("hung up"));
    await expect(waiter).rejects.toThrow("hung up");
    holder[Symbol.dispose]();
    holder[Symbol.dispose]();
    (await next)[Symbol.dispose]();
    expect(locks.isHeld("a")).toBe(false);
  });
});
