// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseIP } from "../../net/ip.ts";
import type { AttachmentID, PodRef, WholeRecord } from "../types.ts";
import { FakePods } from "./fake-pods.ts";
import type { PodStatusOutcome } from "./ports.ts";
import { PodStatusQueue } from "./queue.ts";
import { CONTAINER_ID, POD_IP, POD_IPS } from "./wish.ts";

const web = podNamed("web-0");
let pods: FakePods;
let clock: FakeClock;
let logged: string[];
let outcomes: PodStatusOutcome[];
let waiting: number;
let queue: PodStatusQueue;

beforeEach(() => {
  pods = new FakePods();
  clock = new FakeClock();
  logged = [];
  outcomes = [];
  const at = (level: string) => (_: object, message: string) => void logged.push(`${level} ${message}`);
  queue = new PodStatusQueue({
    store: pods,
    clock,
    random: () => 1,
    log: { debug: () => {}, info: at("info"), warn: at("warn"), error: at("error") },
    metrics: {
      podStatus: (outcome) => void outcomes.push(outcome),
      podStatusWaiting: (now) => {
        waiting = now;
      },
    },
  });
  pods.set(web);
});

function podNamed(name: string, uid = "u1"): PodRef {
  return { namespace: "default", name, uid };
}

function idOf(containerID: string, ifName = "eth0"): AttachmentID {
  return { network: "k8s-pod-network", containerID, ifName };
}

function attach(pod: PodRef | undefined, containerID: string, ip = "10.0.0.1", ifName = "eth0"): void {
  const result: WholeRecord["result"] = {
    host: { name: "cali1", mac: "" },
    container: { name: ifName, mac: "", mtuBytes: 1500, sandbox: "" },
    ips: [parseIP(ip)],
    routes: [],
    dns: {},
  };
  queue.attached(idOf(containerID, ifName), { ...(pod && { pod }), result });
}

function attachMany(count: number): readonly PodRef[] {
  const all = Array.from({ length: count }, (_, i) => podNamed(`pod-${i}`));
  for (const [i, pod] of all.entries()) {
    pods.set(pod);
    attach(pod, `c${i}`);
  }
  return all;
}

describe("events", () => {
  test("an ADD's is one PATCH, a DEL's a GET and a PATCH, a moment later", async () => {
    attach(web, "c1");
    await clock.advance(99);
    expect(pods.calls).toEqual([]);
    await clock.advance(1);
    expect(pods.calls).toEqual(["patch default/web-0"]);
    expect(pods.of(web)).toEqual({ [POD_IP]: "10.0.0.1/32", [POD_IPS]: "10.0.0.1/32", [CONTAINER_ID]: "c1" });
    queue.detached(idOf("c1"), web);
    await clock.advance(100);
    expect(pods.calls.slice(1)).toEqual(["read default/web-0", "patch default/web-0"]);
    expect(pods.of(web)).toEqual({ [POD_IP]: "", [POD_IPS]: "", [CONTAINER_ID]: "c1" });
    expect([outcomes, waiting]).toEqual([["written", "written"], 0]);
    await clock.advance(3_600_000);
    expect(pods.calls).toHaveLength(3);
  });

  test("of other interfaces and of containers that are no pods are none of its business", async () => {
    attach(web, "c1", "10.0.0.1", "net1");
    attach(undefined, "c1");
    queue.detached(idOf("c1", "net1"), web);
    queue.detached(idOf("c1"), undefined);
    await clock.advance(1000);
    expect(pods.calls).toEqual([]);
  });

  test("the latest wins, and only that is written", async () => {
    attach(web, "c1");
    queue.detached(idOf("c1"), web);
    attach(web, "c2", "10.0.0.2");
    queue.detached(idOf("c1"), web);
    await clock.advance(1000);
    expect(pods.calls).toEqual(["patch default/web-0"]);
    expect(pods.of(web)).toMatchObject({ [POD_IP]: "10.0.0.2/32", [CONTAINER_ID]: "c2" });
  });

  test("a DEL leaves a newer sandbox's annotations alone, though another agent wrote them", async () => {
    pods.set(web, { [POD_IP]: "10.0.0.2/32", [CONTAINER_ID]: "c2" });
    queue.detached(idOf("c1"), web);
    await clock.advance(1000);
    expect(pods.calls).toEqual(["read default/web-0"]);
    expect(outcomes).toEqual(["unneeded"]);
  });

  test("of a pod that is gone or has become another are done with", async () => {
    const [gone, other] = [podNamed("gone"), podNamed("web-0", "u0")];
    attach(gone, "c1");
    queue.detached(idOf("c2"), podNamed("gone-too"));
    attach(other, "c3");
    queue.detached(idOf("c4"), podNamed("web-0", "u00"));
    await clock.advance(60_000);
    expect(outcomes).toEqual(["unneeded", "unneeded", "unneeded", "unneeded"]);
    expect(pods.of(web)).toEqual({});
    expect(logged).toEqual([]);
  });

  test("one that comes while the pod is being written is written after it, never beside it", async () => {
    const gate = Promise.withResolvers<void>();
    pods.gate = gate.promise;
    attach(web, "c1");
    await clock.advance(1000);
    queue.detached(idOf("c1"), web);
    await clock.advance(1000);
    expect(pods.calls).toEqual(["patch default/web-0"]);
    gate.resolve();
    await clock.advance(1000);
    expect(pods.of(web)).toMatchObject({ [POD_IP]: "", [CONTAINER_ID]: "c1" });
  });
});

describe("conflicts", () => {
  test("are answered by reading again", async () => {
    pods.set(web, { [POD_IP]: "10.0.0.1/32", [CONTAINER_ID]: "c1" });
    let left = 3;
    pods.beforePatch = () => void (left-- > 0 && pods.set(web, pods.of(web)));
    queue.detached(idOf("c1"), web);
    await clock.advance(100);
    expect(pods.of(web)).toMatchObject({ [POD_IP]: "" });
    expect(pods.calls).toHaveLength(8);
  });

  test("that show another sandbox end it", async () => {
    pods.set(web, { [POD_IP]: "10.0.0.1/32", [CONTAINER_ID]: "c1" });
    pods.beforePatch = () => pods.set(web, { [POD_IP]: "10.0.0.2/32", [CONTAINER_ID]: "c2" });
    queue.detached(idOf("c1"), web);
    await clock.advance(100);
    expect(pods.of(web)).toMatchObject({ [POD_IP]: "10.0.0.2/32" });
    expect(outcomes).toEqual(["unneeded"]);
  });

  test("without an end wait after five tries", async () => {
    pods.set(web, { [POD_IP]: "10.0.0.1/32", [CONTAINER_ID]: "c1" });
    pods.beforePatch = () => pods.set(web, pods.of(web));
    queue.detached(idOf("c1"), web);
    await clock.advance(100);
    expect(pods.calls).toHaveLength(10);
    pods.beforePatch = () => {};
    await clock.advance(1000);
    expect(pods.of(web)).toMatchObject({ [POD_IP]: "" });
    expect(outcomes).toEqual(["failed", "written"]);
  });
});

describe("failures", () => {
  test("are tried again, ever more rarely, and said once until they are over", async () => {
    pods.away = new Error("no route to host");
    attach(web, "c1");
    await clock.advance(100);
    for (const [waitMs, calls] of [
      [1000, 2],
      [2000, 3],
      [4000, 4],
    ] as const) {
      await clock.advance(waitMs - 1);
      expect(pods.calls).toHaveLength(calls - 1);
      await clock.advance(1);
      expect(pods.calls).toHaveLength(calls);
    }
    await clock.advance(600_000);
    expect(pods.calls.length).toBeLessThan(20);
    queue.detached(idOf("c1"), web);
    attach(web, "c2", "10.0.0.2");
    pods.away = undefined;
    await clock.advance(60_000);
    expect(pods.of(web)).toMatchObject({ [POD_IP]: "10.0.0.2/32" });
    expect(logged).toEqual([
      "warn Pods' annotations cannot be written; it is tried again. This was the first",
      "info Pods' annotations are written again",
    ]);
  });

  test("of one pod stop no other, and are not over because others succeed", async () => {
    pods.set(podNamed("broken"));
    pods.failing.set("default/broken", new Error("admission webhook"));
    attach(podNamed("broken"), "c0");
    await clock.advance(10_000);
    const all = attachMany(5);
    await clock.advance(1000);
    for (const pod of all) expect(pods.of(pod)).toMatchObject({ [POD_IP]: "10.0.0.1/32" });
    await clock.advance(300_000);
    expect(logged).toHaveLength(1);
  });

  test("for want of a right name it once, ask rarely, and end when it is granted", async () => {
    pods.lacking = "patch on pods/status";
    const all = attachMany(50);
    await clock.advance(1000);
    expect(pods.calls.length).toBeLessThanOrEqual(3);
    await clock.advance(3_600_000);
    // About one each five minutes for all pods, not one for each.
    expect(pods.calls.length).toBeLessThan(30);
    expect(logged).toHaveLength(1);
    expect(logged[0]).toMatch(/^error .*the account lacks patch on pods\/status; grant it/);
    expect(new Set(outcomes)).toEqual(new Set(["forbidden"]));
    pods.lacking = undefined;
    await clock.advance(600_000);
    for (const pod of all) expect(pods.of(pod)).toMatchObject({ [POD_IP]: "10.0.0.1/32" });
    expect([logged.length, waiting]).toEqual([2, 0]);
  });

  test("of 1,500 pods at once keep the 1,024 newest", async () => {
    pods.away = new Error("down");
    const gate = Promise.withResolvers<void>();
    pods.gate = gate.promise;
    attachMany(1500);
    await clock.advance(10);
    expect(waiting).toBe(1024);
    expect(outcomes.filter((outcome) => outcome === "dropped")).toHaveLength(476);
    expect(logged).toEqual([expect.stringMatching(/^warn Too many/)]);
    gate.resolve();
  });
});

describe("standAside()", () => {
  test("lets a burst of calls end before the first write, and two writes go at a time", async () => {
    const calls = Array.from({ length: 100 }, () => queue.standAside());
    const all = attachMany(100);
    await clock.advance(4000);
    for (const call of calls.slice(1)) call[Symbol.dispose]();
    await clock.advance(100);
    expect(pods.calls).toEqual([]);
    calls[0]?.[Symbol.dispose]();
    await clock.advance(1000);
    expect(pods.calls).toHaveLength(100);
    expect(pods.mostUnderWay).toBe(2);
    for (const pod of all) expect(pods.of(pod)).toMatchObject({ [POD_IP]: "10.0.0.1/32" });
  });

  test("holds a write up for 5 s at most", async () => {
    using _call = queue.standAside();
    attach(web, "c1");
    await clock.advance(5099);
    expect(pods.calls).toEqual([]);
    await clock.advance(1);
    expect(pods.calls).toHaveLength(1);
  });
});

describe("repair()", () => {
  test("comes when its time has come, and gives way to what a call has said", async () => {
    const sandbox = { containerID: "c1", ips: [parseIP("10.0.0.1")] };
    expect(queue.repair({ pod: web, sandbox }, 5000)).toBe(true);
    await clock.advance(4999);
    expect(pods.calls).toEqual([]);
    queue.detached(idOf("c1"), web);
    expect(queue.repair({ pod: web, sandbox }, 0)).toBe(false);
    await clock.advance(100);
    expect(pods.of(web)).toMatchObject({ [POD_IP]: "" });
  });
});

describe("drain()", () => {
  test("writes what waits at once", async () => {
    const all = attachMany(10);
    await queue.drain(1000);
    for (const pod of all) expect(pods.of(pod)).toMatchObject({ [POD_IP]: "10.0.0.1/32" });
    expect(logged).toEqual([]);
  });

  test("waits no longer than it may, tries nothing twice, and says what is left", async () => {
    pods.away = new Error("down");
    attachMany(3);
    await queue.drain(1000);
    expect(pods.calls).toHaveLength(3);
    expect(logged.at(-1)).toMatch(/^warn Pods' annotations are left/);
    pods.away = undefined;
    pods.gate = new Promise(() => {});
    attach(web, "c1");
    const drained = queue.drain(1000);
    await clock.advance(1000);
    await drained;
  });
});
