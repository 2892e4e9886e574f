// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { Finding } from "./calc/findings.ts";
import { FindingLog } from "./finding-log.ts";

const finding: Finding = { code: "UnknownNode", subject: "node-b", message: "node-b is unknown" };

describe("FindingLog", () => {
  test("update() tells a finding once, after it has lasted, and once more when it is over", () => {
    const log = new FindingLog(1000);
    expect(log.update([finding], 0)).toEqual({ appeared: [], cleared: [], againInMs: 1000 });
    expect(log.update([finding], 1000)).toEqual({ appeared: [finding], cleared: [] });
    expect(log.update([finding], 5000)).toEqual({ appeared: [], cleared: [] });
    expect(log.update([], 6000)).toEqual({ appeared: [], cleared: [finding] });
    expect(log.update([], 7000)).toEqual({ appeared: [], cleared: [] });
  });

  test("update() never tells one that comes and goes within a moment", () => {
    const log = new FindingLog(1000);
    log.update([finding], 0);
    expect(log.update([], 500)).toEqual({ appeared: [], cleared: [] });
    expect(log.update([finding], 1200)).toEqual({ appeared: [], cleared: [], againInMs: 1000 });
  });
});
