// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { Node } from "../../crds/core.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import { FakeLog, fakeNode } from "../fake-resources.ts";
import { NodeStatusDriver } from "./node-status.ts";
import { NodeWriter } from "./node-writer.ts";

const NODE = fakeNode("node-a", ["192.0.2.1"]);
const CLAIMS = { addresses: { 4: "192.0.2.1/24" } };

function setUp(updateStatus: (node: Node) => Promise<unknown>) {
  const clock = new FakeClock();
  const log = new FakeLog();
  const writer = new NodeWriter({ get: async () => NODE, updateStatus, setTaints: async () => {} });
  return { clock, log, driver: new NodeStatusDriver({ writer, clock, random: () => 0, log }) };
}

describe("NodeStatusDriver", () => {
  test("check() retries in the background until the write is taken, with the newest claims", async () => {
    const written: Node[] = [];
    let fails = 3;
    const { clock, driver, log } = setUp(async (node) => {
      if (fails-- > 0) throw new Error("conflict");
      written.push(node);
    });
    driver.check(NODE, { addresses: { 4: "192.0.2.9/24" } });
    driver.check(NODE, CLAIMS);
    await clock.advance(60_000);
    expect(written.map((node) => node.metadata.annotations)).toEqual([
      { "projectcalico.org/IPv4Address": "192.0.2.1/24" },
    ]);
    expect(log.said("warn")).toHaveLength(2);
    await driver.stop();
  });

  test("check() writes the same again less and less often when the server drops it, and something else at once", async () => {
    let writes = 0;
    const { clock, driver } = setUp(async () => writes++);
    const writtenAfter: number[] = [];
    for (let second = 0; second < 70; second++) {
      const before = writes;
      driver.check(NODE, CLAIMS);
      await clock.advance(1000);
      if (writes > before) writtenAfter.push(second);
    }
    // At once, and then after 1, 2, 4, … seconds more, each counted from the write before.
    expect(writtenAfter).toHaveLength(7);
    expect(writtenAfter.slice(0, 2)).toEqual([0, 1]);
    driver.check(NODE, { addresses: { 4: "192.0.2.1/25" } });
    await clock.advance(100_000);
    expect(writes).toBe(8);
    await driver.stop();
  });

  test("stop() ends a retry", async () => {
    const { clock, driver } = setUp(async () => {
      throw new Error("down");
    });
    driver.check(NODE, CLAIMS);
    await clock.advance(1);
    await driver.stop();
    expect(clock.sleeping).toBe(0);
  });
});
