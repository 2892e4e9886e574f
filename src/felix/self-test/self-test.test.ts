// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { formatIP, parseIP } from "../../net/ip.ts";
import { FakeLog } from "../fake-resources.ts";
import { SelfTest } from "./self-test.ts";

function setUp() {
  const clock = new FakeClock();
  const log = new FakeLog();
  const sent: string[] = [];
  const world = { isTime: false, fails: undefined as Error | undefined };
  const selfTest = new SelfTest({
    port: {
      exchange: async (pair) => {
        sent.push(pair.map(formatIP).join(" "));
        if (world.fails !== undefined) throw world.fails;
      },
    },
    isTime: () => world.isTime,
    pairs: () => [
      [parseIP("10.0.0.2"), parseIP("10.0.0.3")],
      [parseIP("fd00::2"), parseIP("fd00::3")],
    ],
    clock,
    random: () => 0.5,
    log,
  });
  return { clock, log, sent, world, selfTest };
}

test("SelfTest waits for routes and packet filter, then tries each family once", async () => {
  const { clock, log, sent, world, selfTest } = setUp();
  selfTest.start();
  await clock.advance(10_000);
  expect([sent, selfTest.check]).toEqual([[], { ok: false, detail: "not made yet" }]);
  world.isTime = true;
  await clock.advance(200);
  expect(sent).toEqual(["10.0.0.2 10.0.0.3", "fd00::2 fd00::3"]);
  expect(selfTest.check).toEqual({
    ok: true,
    detail: "a packet came back from 10.0.0.2 and 10.0.0.3, from fd00::2 and fd00::3",
  });
  await clock.advance(3_600_000);
  expect(sent).toHaveLength(2);
  expect(log.said("info")).toEqual(["self-test passed: pods of this node reach each other"]);
  await selfTest.stop();
});

test("SelfTest that fails is a finding and one line in the log for each reason, and is repeated until it passes", async () => {
  const { clock, log, sent, world, selfTest } = setUp();
  world.isTime = true;
  world.fails = new Error("a packet from 10.0.0.2 to 10.0.0.3 did not arrive");
  selfTest.start();
  await clock.advance(600_000);
  expect(sent.length).toBeGreaterThan(8);
  expect(selfTest.check.ok).toBe(false);
  expect(selfTest.findings()).toMatchObject([{ code: "SelfTestFailed" }]);
  expect(selfTest.findings()[0]?.message).toContain("10.0.0.2 to 10.0.0.3 did not arrive");
  expect(log.said("warn")).toHaveLength(1);
  world.fails = undefined;
  await clock.advance(60_000);
  expect([selfTest.check.ok, selfTest.findings()]).toEqual([true, []]);
  await selfTest.stop();
});
