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
    expect(schedule.resyncDueMs).toBe(5300 + 3000);
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
