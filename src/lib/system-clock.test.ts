// SPDX-License-Identifier: Apache-2.0
import { afterEach, expect, test, vi } from "vitest";
import { wallMs } from "./clock.ts";
import { steadyClock, systemClock } from "./system-clock.ts";

const HOUR_MS = 3_600_000;

afterEach(() => {
  vi.restoreAllMocks();
});

test.each([HOUR_MS, -HOUR_MS])(
  "steadyClock does not follow when the machine's clock jumps by %i ms; nowNs does",
  (jumpMs) => {
    const before = steadyClock.nowMs();
    expect(Math.abs(before - Date.now())).toBeLessThan(HOUR_MS);
    const nowMs = Date.now();
    vi.spyOn(Date, "now").mockImplementation(() => nowMs + jumpMs);
    const after = steadyClock.nowMs();
    expect(after).toBeGreaterThanOrEqual(before);
    expect(after - before).toBeLessThan(HOUR_MS / 2);
    // Within the drift that is tolerated.
    for (const clock of [steadyClock, systemClock]) expect(Math.abs(wallMs(clock) - nowMs - jumpMs)).toBeLessThan(1000);
  },
);
