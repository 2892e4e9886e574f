// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { Node } from "../../crds/core.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import type { Finding } from "../calc/findings.ts";
import { FakeLog, fakeNode } from "../fake-resources.ts";
import type { Check } from "../ports.ts";
import { NodeTrouble } from "./node-trouble.ts";

const OTHERS = { type: "Ready", status: "True" };

function setUp() {
  const clock = new FakeClock();
  const world = { checks: {} as Record<string, Check>, findings: [] as Finding[], writes: 0, fails: 0, hangs: false };
  let stored: Node = { ...fakeNode("node-a", []), status: { addresses: [], ...{ conditions: [OTHERS] } } };
  const trouble = new NodeTrouble({
    checks: () => world.checks,
    findings: () => world.findings,
    writer: {
      edit: async (change) => {
        if (world.hangs) await new Promise(() => {});
        if (world.fails-- > 0) throw new Error("away");
        const next = change(stored);
        if (next === undefined) return false;
        world.writes++;
        stored = next;
        return true;
      },
    },
    clock,
    random: () => 0.5,
    log: new FakeLog(),
  });
  const shown = (): unknown => {
    const { conditions } = stored.status as { readonly conditions: readonly { readonly type: string }[] };
    expect(conditions).toContainEqual(OTHERS);
    return conditions.find(({ type }) => type === "NetworkDegraded");
  };
  const replace = (node: Node): void => {
    stored = node;
  };
  return { clock, world, trouble, shown, replace };
}

const READ_ONLY = { ok: false, detail: "EROFS: read-only file system, open '/etc/cni/net.d/10-gingham.conflist'" };

test("NodeTrouble tells what has kept the agent from being ready for a while, once, and takes it back at once", async () => {
  const { clock, world, trouble, shown } = setUp();
  world.checks = { datastore: { ok: true, detail: "in sync" }, networkConfig: READ_ONLY };
  trouble.start();
  await clock.advance(9_000);
  expect(shown()).toBeUndefined();
  await clock.advance(3_000);
  const message = `networkConfig: ${READ_ONLY.detail}`;
  expect(shown()).toMatchObject({ status: "True", reason: "AgentNotReady", message });
  // The words change, the check does not.
  world.checks = { networkConfig: { ok: false, detail: "failing for 31 s" } };
  await clock.advance(60_000);
  expect([shown(), world.writes]).toMatchObject([{ message }, 1]);
  world.checks = { networkConfig: { ok: true, detail: "in place" } };
  await clock.advance(2_100);
  expect([shown(), world.writes]).toEqual([undefined, 2]);
  await trouble.stop();
});

test("NodeTrouble takes back what it said when its agent stops: nobody would later", async () => {
  const { clock, world, trouble, shown } = setUp();
  world.checks = { networkConfig: READ_ONLY };
  trouble.start();
  await clock.advance(13_000);
  expect(shown()).toBeDefined();
  await trouble.stop();
  expect(shown()).toBeUndefined();
  // It says nothing of what it has not said.
  const quiet = setUp();
  quiet.trouble.start();
  await quiet.trouble.stop();
  expect(quiet.world.writes).toBe(0);
});

test("NodeTrouble stops although the API server does not answer", async () => {
  const { clock, world, trouble } = setUp();
  world.checks = { networkConfig: READ_ONLY };
  trouble.start();
  await clock.advance(13_000);
  world.hangs = true;
  const stopped = trouble.stop();
  await clock.advance(1_100);
  await stopped;
});

test("NodeTrouble says nothing of an agent that becomes ready in time, and takes back what an earlier one said", async () => {
  const { clock, world, trouble, shown, replace } = setUp();
  const old = { type: "NetworkDegraded", status: "True", reason: "AgentNotReady", message: "of an earlier agent" };
  replace({ ...fakeNode("node-a", []), status: { addresses: [], ...{ conditions: [OTHERS, old] } } });
  world.checks = { firstApply: { ok: false, detail: "not done yet" } };
  world.fails = 1;
  trouble.start();
  await clock.advance(5_000);
  expect(shown()).toEqual(old);
  world.checks = { firstApply: { ok: true, detail: "done" } };
  // The first write fails, and is tried again.
  await clock.advance(10_000);
  expect([shown(), world.writes]).toEqual([undefined, 1]);
  await trouble.stop();
});

test("NodeTrouble tells what keeps pods from a network whose agent is ready", async () => {
  const { clock, world, trouble, shown } = setUp();
  const message = "/etc/cni/net.d/05-other.conf comes first, so new pods get that network: remove it";
  world.findings = [{ code: "NetworkConfigNotFirst", subject: "/etc/cni/net.d/05-other.conf", message }];
  trouble.start();
  await clock.advance(13_000);
  expect(shown()).toMatchObject({ reason: "NetworkConfigNotFirst", message });
  await trouble.stop();
});
