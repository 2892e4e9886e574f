// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { SocketHealth } from "./socket-health.ts";

test("SocketHealth is ready while somebody answers; a minute without is for a restart", async () => {
  const clock = new FakeClock();
  const lost: string[] = [];
  let isGone = false;
  const ask = async (): Promise<void> => {
    if (isGone) throw new Error("ENOENT");
  };
  const health = new SocketHealth({ socketPath: "/run/agent.sock", ask, clock, onLost: (detail) => lost.push(detail) });
  const stop = new AbortController();
  expect([health.readiness(), health.liveness().ok]).toEqual([{ ok: false, detail: "not serving yet" }, true]);
  await clock.advance(3_600_000);
  expect(health.liveness().ok).toBe(true);
  const ran = health.run(stop.signal);
  await clock.advance(1);
  expect(health.readiness()).toEqual({ ok: true, detail: "/run/agent.sock answers" });
  isGone = true;
  await clock.advance(5000);
  expect(health.readiness()).toEqual({
    ok: false,
    detail: "/run/agent.sock does not answer (ENOENT), so no pod can be made",
  });
  await clock.advance(50_000);
  expect(health.liveness().ok).toBe(true);
  expect(lost).toEqual([]);
  await clock.advance(10_000);
  expect(health.liveness().ok).toBe(false);
  await clock.advance(10_000);
  expect(lost).toEqual(["/run/agent.sock does not answer (ENOENT), so no pod can be made"]);
  isGone = false;
  await clock.advance(5000);
  expect([health.readiness().ok, health.liveness().ok]).toEqual([true, true]);
  stop.abort();
  await ran;
});
