// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { Node } from "../../crds/core.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import { FakeLog, FakeSource, fakeNode } from "../fake-resources.ts";
import { NodeGate } from "./node-gate.ts";
import { NodeWriter } from "./node-writer.ts";

const TAINT = "gingham.dev/agent-not-ready";

/** A node with both taints, an API server that keeps it and tells of it, and the gate in front of it. */
function setUp(taint = TAINT) {
  const clock = new FakeClock();
  const log = new FakeLog();
  const spec = {
    taints: [
      { key: TAINT, effect: "NoSchedule" },
      { key: "dedicated", effect: "NoSchedule" },
    ],
  };
  const world = { isReady: false, fails: 0, isDropping: false, hangs: false, writes: 0 };
  let stored: Node = { ...fakeNode("node-a", ["192.0.2.1"]), spec };
  const nodes = new FakeSource<Node>(stored, fakeNode("node-b", ["192.0.2.2"]));
  const store = async (node: Node): Promise<void> => {
    world.writes++;
    if (world.hangs) await new Promise(() => {});
    if (world.fails-- > 0) throw new Error("conflict");
    if (world.isDropping) return;
    stored = node;
    nodes.set(node);
  };
  const gate = new NodeGate({
    nodeName: "node-a",
    isReady: () => world.isReady,
    nodes,
    writer: new NodeWriter({
      get: async () => stored,
      updateStatus: store,
      setTaints: (node, taints) => store({ ...node, spec: { ...node.spec, taints } }),
    }),
    taint,
    clock,
    random: () => 0.5,
    log,
  });
  /** What somebody else makes of the node. */
  const replace = (node: Node): void => {
    stored = node;
    nodes.set(node);
  };
  const shown = () => ({ taints: stored.spec?.taints?.map(({ key }) => key), status: stored.status });
  return { clock, log, world, replace, gate, shown };
}

function cloudSays(status: string): NonNullable<Node["status"]> {
  const conditions = [{ type: "NetworkUnavailable", status, reason: "NoRouteCreated" }];
  return { addresses: [], ...{ conditions } };
}

const available = { conditions: [{ type: "NetworkUnavailable", status: "False", reason: "GinghamIsUp" }] };
const unavailable = { conditions: [{ type: "NetworkUnavailable", status: "True", reason: "GinghamIsDown" }] };

test("NodeGate leaves condition and taint alone until the agent is ready, and closes the node at the end", async () => {
  const { clock, log, world, gate, shown } = setUp();
  gate.start();
  await clock.advance(60_000);
  expect(world.writes).toBe(0);
  world.isReady = true;
  await clock.advance(200);
  expect(shown()).toMatchObject({ taints: ["dedicated"], status: available });
  expect(log.lines.map(({ fields }) => fields)).toEqual([{ changed: "condition" }, { changed: `taint ${TAINT}` }]);
  // Not ready for a while: pods that run would gain nothing.
  world.isReady = false;
  await clock.advance(3_600_000);
  expect(world.writes).toBe(2);
  await gate.stop();
  expect(shown()).toMatchObject({ taints: ["dedicated"], status: unavailable });
});

test("NodeGate that never opened closes nothing", async () => {
  const { clock, world, gate } = setUp();
  gate.start();
  await clock.advance(1000);
  await gate.stop();
  expect(world.writes).toBe(0);
});

test("NodeGate opens the node again when somebody else closes it, but does not fight", async () => {
  const { clock, world, replace, gate, shown } = setUp();
  world.isReady = true;
  gate.start();
  await clock.advance(200);
  expect(world.writes).toBe(2);
  const cloud: Node = { ...fakeNode("node-a", ["192.0.2.1"]), status: cloudSays("True") };
  for (let second = 0; second < 120; second++) {
    if (shown().status !== cloud.status) replace(cloud);
    await clock.advance(1000);
  }
  // At once, and then each time after twice as long.
  expect(world.writes).toBeGreaterThan(6);
  expect(world.writes).toBeLessThan(12);
  replace({ ...cloud, spec: { taints: [{ key: TAINT, effect: "NoExecute" }] } });
  await clock.advance(60_000);
  expect(shown()).toMatchObject({ taints: [], status: available });
  await gate.stop();
});

test("NodeGate retries, and waits a second at the end for an API server that is away", async () => {
  const { clock, log, world, gate, shown } = setUp();
  world.isReady = true;
  world.fails = 3;
  gate.start();
  await clock.advance(30_000);
  expect(shown().taints).toEqual(["dedicated"]);
  expect(log.said("warn")).toHaveLength(2);
  world.hangs = true;
  const stopped = gate.stop();
  await clock.advance(1000);
  await stopped;
  expect(log.said("warn").at(-1)).toBe("the node's condition still says that its network is available");
});

test("NodeGate does not wait at the end for a write that hangs", async () => {
  const { clock, world, gate } = setUp();
  world.isReady = true;
  world.hangs = true;
  gate.start();
  await clock.advance(200);
  expect(world.writes).toBe(1);
  const stopped = gate.stop();
  await clock.advance(1000);
  await stopped;
});

test("NodeGate without a taint of its own leaves all taints", async () => {
  const { clock, world, gate, shown } = setUp("");
  world.isReady = true;
  gate.start();
  await clock.advance(200);
  expect(shown()).toMatchObject({ taints: [TAINT, "dedicated"], status: available });
  await gate.stop();
});
