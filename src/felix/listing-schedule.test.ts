// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { ListingSchedule } from "./listing-schedule.ts";

function rested(): ListingSchedule {
  const schedule = new ListingSchedule(90_000);
  schedule.beginLinks();
  schedule.linksListed(0);
  schedule.beginResync(0);
  return schedule;
}

describe("ListingSchedule", () => {
  test("a hint about routes asks for a listing at once, but listings take a tenth of the time at most", () => {
    const schedule = rested();
    schedule.onKernelChange("route", 5000);
    expect(schedule.resyncDueMs).toBe(5000);
    schedule.beginResync(5000);
    schedule.resynced(5000, 5300);
    schedule.onKernelChange("route", 5400);
    // 3 s of spacing, of which 2 s may be run up.
    expect(schedule.resyncDueMs).toBe(5300 + 3000 - 2000);
    schedule.beginResync(6300);
    schedule.resynced(6300, 6600);
    schedule.onKernelChange("route", 6700);
    expect(schedule.resyncDueMs).toBe(5300 + 2 * 3000 - 2000);
  });

  test("a few hints in a row are answered at once, endless ones five times in a second", () => {
    const schedule = rested();
    const listings: number[] = [];
    for (let nowMs = 5000; nowMs < 25_000; nowMs += 10) {
      schedule.onKernelChange("route", nowMs);
      if (nowMs < schedule.resyncDueMs) continue;
      schedule.beginResync(nowMs);
      schedule.resynced(nowMs, nowMs + 5);
      listings.push(nowMs);
    }
    expect(listings.slice(0, 5)).toEqual([5000, 5010, 5020, 5030, 5040]);
    expect(listings.length).toBeLessThan(10 + 5 * 20 + 2);
    const last = listings.slice(-5);
    expect(last.map((ms, i) => ms - (last[i - 1] ?? ms - 200))).toEqual([200, 200, 200, 200, 200]);
  });

  test("a link asks for links, and later for routes, which may have gone without a word", () => {
    const schedule = rested();
    schedule.onKernelChange("link", 200);
    expect(schedule).toMatchObject({ areLinksDirty: true, linksAllowedMs: 1000, resyncDueMs: 5200 });
  });

  test("a tunnel's device does not wait for the spacing of links", () => {
    const schedule = rested();
    schedule.onKernelChange("tunnel", 200);
    expect(schedule).toMatchObject({ areLinksDirty: true, linksAllowedMs: 0 });
  });

  test("configure() brings the next resync forward, never back", () => {
    const schedule = rested();
    schedule.configure(10_000, 1000);
    expect(schedule.resyncDueMs).toBe(11_000);
    schedule.configure(90_000, 1000);
    expect(schedule.resyncDueMs).toBe(11_000);
  });
});
