// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { IPAMError } from "../../ipam/errors.ts";
import { formatIP } from "../../net/ip.ts";
import type { CNI } from "../commands/cni.ts";
import { execute } from "../executor.ts";
import { CONF, FakeMachine, type FakeProcess, K8S_ARGS } from "../fake-cni.ts";
import { announce, sweep } from "../reconcile.ts";
import { FakePods } from "./fake-pods.ts";
import { PodStatusQueue } from "./queue.ts";
import { repair } from "./repair.ts";
import { CONTAINER_ID, POD_IP, POD_IPS } from "./wish.ts";

/** What ADD, DEL, sweep and repair make of a pod's annotations. */

const web = { namespace: "default", name: "web-0", uid: "u1" };
let machine: FakeMachine;
let pods: FakePods;
let routes: Set<string>;
/** Where the API server has the pods. */
let nodeName: string;

interface Agent {
  readonly process: FakeProcess;
  readonly cni: CNI;
  readonly queue: PodStatusQueue;
}

beforeEach(() => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  machine.kernel.addNetns("/run/netns/c2");
  pods = new FakePods();
  pods.set(web);
  routes = new Set();
  nodeName = "node-a";
  machine.pods = {
    get: async (pod) => {
      const found = pods.find(pod);
      return found !== undefined && (pod.uid ?? found.uid) === found.uid
        ? { ...found, labels: {}, nodeName }
        : undefined;
    },
  };
});
afterEach(() => machine[Symbol.dispose]());

function start(): Agent {
  const process = machine.start();
  const { clock } = machine;
  const queue = new PodStatusQueue({ store: pods, clock, random: () => 0.5, log: process.cni.log });
  return { process, queue, cni: { ...process.cni, podStatus: queue } };
}

async function call({ cni }: Agent, command: string, containerID: string, args = K8S_ARGS): Promise<number> {
  const env = {
    ...{ CNI_COMMAND: command, CNI_CONTAINERID: containerID, CNI_IFNAME: "eth0" },
    ...{ CNI_NETNS: `/run/netns/${containerID}`, CNI_ARGS: args },
  };
  return (await execute(cni, env, JSON.stringify(CONF))).errorCode;
}

async function look(agent: Agent): Promise<number> {
  const { cni, queue } = agent;
  return await repair({ cni, pods, queue, routed: async () => routes, random: () => 0.5 });
}

function annotationsOf(containerID: string) {
  const held = machine.addresses.held.find(({ handleID }) => handleID.endsWith(`.${containerID}`));
  const text = held === undefined ? "" : `${formatIP(held.ip)}/32`;
  return { [POD_IP]: text, [POD_IPS]: text, [CONTAINER_ID]: containerID };
}

describe("a call", () => {
  test("answers before anything is written, and a later one of the same attachment writes nothing more", async () => {
    const agent = start();
    expect(await call(agent, "ADD", "c1")).toBe(0);
    expect(pods.calls).toEqual([]);
    await machine.clock.advance(100);
    expect(pods.of(web)).toEqual(annotationsOf("c1"));
    expect(pods.of(web)?.[POD_IP]).not.toBe("");
    expect(await call(agent, "ADD", "c1")).toBe(0);
    await machine.clock.advance(1000);
    expect(pods.calls).toHaveLength(1);
  });

  test("DEL empties the annotations, and once more writes nothing", async () => {
    const agent = start();
    await call(agent, "ADD", "c1");
    await machine.clock.advance(100);
    expect(await call(agent, "DEL", "c1")).toBe(0);
    expect(await call(agent, "DEL", "c1")).toBe(0);
    await machine.clock.advance(1000);
    expect(pods.of(web)).toEqual({ [POD_IP]: "", [POD_IPS]: "", [CONTAINER_ID]: "c1" });
    expect(pods.calls).toHaveLength(3);
  });

  test("DEL empties them also while the addresses cannot be given back", async () => {
    const agent = start();
    await call(agent, "ADD", "c1");
    await machine.clock.advance(100);
    machine.addresses.away = new IPAMError("Datastore", "locked");
    expect(await call(agent, "DEL", "c1")).toBe(0);
    await machine.clock.advance(100);
    expect(pods.of(web)).toMatchObject({ [POD_IP]: "" });
  });

  test("a late DEL of the old sandbox leaves the new one's alone", async () => {
    const agent = start();
    await call(agent, "ADD", "c1");
    await machine.clock.advance(100);
    await call(agent, "ADD", "c2");
    await machine.clock.advance(100);
    await call(agent, "DEL", "c1");
    await machine.clock.advance(100);
    expect(pods.of(web)).toEqual(annotationsOf("c2"));
  });

  test("ADD writes nothing when it fails, nor for a pod that Kubernetes does not know, or knows elsewhere", async () => {
    const agent = start();
    machine.addresses.away = new IPAMError("NoAddress", "full");
    expect(await call(agent, "ADD", "c1")).not.toBe(0);
    machine.addresses.away = undefined;
    expect(await call(agent, "ADD", "c1", K8S_ARGS.replace("web-0", "nobody"))).toBe(0);
    expect(await call(agent, "ADD", "c2", "")).toBe(0);
    nodeName = "node-b";
    machine.kernel.addNetns("/run/netns/c3");
    expect(await call(agent, "ADD", "c3")).toBe(0);
    await machine.clock.advance(1000);
    expect(pods.calls).toEqual([]);
  });

  test("never fails because of it", async () => {
    const agent = start();
    pods.away = new Error("down");
    expect(await call(agent, "ADD", "c1")).toBe(0);
    await machine.clock.advance(100);
    expect(await call(agent, "DEL", "c1")).toBe(0);
    await machine.clock.advance(100);
    expect(pods.calls.length).toBeGreaterThan(0);
  });

  test("the sweep empties those of a sandbox whose namespace has gone", async () => {
    const agent = start();
    await call(agent, "ADD", "c1");
    await machine.clock.advance(100);
    machine.kernel.removeNetns("/run/netns/c1");
    await sweep(agent.cni);
    await machine.clock.advance(100);
    expect(pods.of(web)).toMatchObject({ [POD_IP]: "", [CONTAINER_ID]: "c1" });
  });
});

describe("repair()", () => {
  /** The agent before has made a sandbox and died before it wrote a word. */
  async function restartAfterAdd(): Promise<Agent> {
    await machine.start().call("ADD");
    const agent = start();
    await announce(agent.cni);
    await machine.clock.advance(60_000);
    return agent;
  }

  test("asks nobody for anything while all is right", async () => {
    const agent = start();
    await call(agent, "ADD", "c1");
    await machine.clock.advance(60_000);
    pods.set({ namespace: "default", name: "other" }, { unrelated: "yes" });
    const before = pods.calls.length;
    expect(await look(agent)).toBe(0);
    await machine.clock.advance(60_000);
    expect(pods.calls).toHaveLength(before);
  });

  test("writes what the agent before did not come to", async () => {
    const agent = await restartAfterAdd();
    expect(await look(agent)).toBe(1);
    await machine.clock.advance(1000);
    expect(pods.of(web)).toEqual(annotationsOf("c1"));
  });

  test("leaves alone what an ADD has just made, and what a DEL takes down", async () => {
    const agent = start();
    await call(agent, "ADD", "c1");
    pods.set(web);
    expect(await look(agent)).toBe(0);
    await machine.clock.advance(60_000);
    pods.set(web);
    await agent.cni.endpoints.down("k8s-pod-network/c1:eth0");
    expect(await look(agent)).toBe(0);
  });

  test("leaves a pod alone that has the name of the recorded one", async () => {
    const agent = await restartAfterAdd();
    pods.set({ ...web, uid: "u2" });
    expect(await look(agent)).toBe(0);
  });

  test("empties what a DEL of the agent before left", async () => {
    const agent = start();
    pods.set(web, { [POD_IP]: "10.9.0.9/32", [POD_IPS]: "10.9.0.9/32", [CONTAINER_ID]: "c0" });
    expect(await look(agent)).toBe(1);
    await machine.clock.advance(1000);
    expect(pods.of(web)).toEqual({ [POD_IP]: "", [POD_IPS]: "", [CONTAINER_ID]: "c0" });
    expect(await look(agent)).toBe(0);
  });

  test("leaves a pod of another plugin alone, whose address has a route; but one of ours has taken it", async () => {
    const agent = start();
    routes.add("10.9.0.9");
    pods.set({ namespace: "default", name: "calico" }, { [POD_IP]: "10.9.0.9/32", [CONTAINER_ID]: "c0" });
    expect(await look(agent)).toBe(0);
    await call(agent, "ADD", "c1");
    await machine.clock.advance(100);
    const [taken] = machine.addresses.held;
    const stale = { [POD_IP]: `${taken && formatIP(taken.ip)}/32`, [CONTAINER_ID]: "c00" };
    for (const { ip } of machine.addresses.held) routes.add(formatIP(ip));
    pods.set({ namespace: "default", name: "stale" }, stale);
    expect(await look(agent)).toBe(1);
  });

  test("spreads many pods out", async () => {
    const agent = start();
    for (let i = 0; i < 100; i++) {
      pods.set({ namespace: "default", name: `p${i}` }, { [POD_IP]: "10.9.0.9/32", [CONTAINER_ID]: `c${i}` });
    }
    expect(await look(agent)).toBe(100);
    await machine.clock.advance(10_000);
    expect(pods.calls).toHaveLength(20);
    expect(await look(agent)).toBe(0);
    await machine.clock.advance(90_000);
    expect(pods.calls).toHaveLength(200);
  });
});
