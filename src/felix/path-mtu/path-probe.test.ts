// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { Node } from "../../crds/core.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import { formatIP } from "../../net/ip.ts";
import { FakeLog, FakeSource, fakeNode } from "../fake-resources.ts";
import { PathProbe } from "./path-probe.ts";

test("PathProbe tells of paths that are too narrow, of others' addresses in both families, until they are wide", async () => {
  const clock = new FakeClock();
  const log = new FakeLog();
  const carries: Record<string, number> = { "192.0.2.2": 1400, "2001:db8::2": 1500, "192.0.2.3": 0 };
  let [packets, neededBytes] = [0, 0];
  const probe = new PathProbe({
    nodeName: "node-a",
    port: {
      echo: async (to, bytes) => {
        packets++;
        return bytes <= (carries[formatIP(to)] ?? Number.NaN);
      },
    },
    nodes: new FakeSource<Node>(
      fakeNode("node-a", ["192.0.2.1"]),
      fakeNode("node-b", ["192.0.2.2", "2001:db8::2"]),
      fakeNode("node-c", ["192.0.2.3"]),
    ),
    neededBytes: () => neededBytes,
    clock,
    random: () => 0.5,
    log,
  });
  probe.start();
  await clock.advance(60_000);
  expect(packets).toBe(0);
  neededBytes = 1500;
  await clock.advance(10_000);
  expect(probe.findings()).toMatchObject([{ code: "PathMTUTooSmall", subject: "node-b" }]);
  expect(probe.findings()[0]?.message).toContain(
    "node-b (192.0.2.2) get through up to 1400 bytes, and pods and tunnels send 1500",
  );
  const before = packets;
  await clock.advance(500_000);
  expect(packets).toBe(before);
  carries["192.0.2.2"] = 1500;
  await clock.advance(120_000);
  expect(probe.findings()).toEqual([]);
  await probe.stop();
  expect(log.lines).toEqual([]);
});

test("PathProbe does not go on with a path when it is stopped", async () => {
  const clock = new FakeClock();
  const log = new FakeLog();
  let packets = 0;
  const probe = new PathProbe({
    nodeName: "node-a",
    port: {
      echo: async (_, bytes) => {
        packets++;
        await clock.sleep(500);
        return bytes < 600;
      },
    },
    nodes: new FakeSource<Node>(fakeNode("node-b", ["192.0.2.2"])),
    neededBytes: () => 1500,
    clock,
    random: () => 0.5,
    log,
  });
  probe.start();
  await clock.advance(2000);
  expect(packets).toBeGreaterThan(2);
  const before = packets;
  const stopped = probe.stop();
  await clock.advance(500);
  await stopped;
  expect([packets, log.lines]).toEqual([before, []]);
});
