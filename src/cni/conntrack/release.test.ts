// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type IP, parseIP } from "../../net/ip.ts";
import { NetlinkError } from "../../netlink/errors.ts";
import { FakeMachine, type FakeProcess } from "../fake-cni.ts";
import type { FlushOutcome } from "./ports.ts";

// What a pod's end does to the connections of its address, through the whole plugin.

const POD = parseIP("10.244.0.64");
const CLIENT = parseIP("192.0.2.9");
const SERVICE = parseIP("10.96.0.10");
/** A client's UDP flow to a service, which NAT sends to the pod; and one that is none of the pod's. */
const TO_POD: readonly IP[] = [CLIENT, SERVICE, POD, CLIENT];
const ELSEWHERE: readonly IP[] = [CLIENT, SERVICE, parseIP("10.244.0.65"), CLIENT];
const ANOTHER = { containerID: "c2", netns: "/run/netns/c2" };

let machine: FakeMachine;
let agent: FakeProcess;
beforeEach(() => {
  machine = new FakeMachine();
  for (const name of ["c1", "c2"]) machine.kernel.addNetns(`/run/netns/${name}`);
  agent = machine.start();
});
afterEach(() => machine[Symbol.dispose]());

/** From now on, a flush hangs until `answer`. */
function hold() {
  const { promise, resolve } = Promise.withResolvers<FlushOutcome>();
  const asked = Promise.withResolvers<void>();
  machine.conntrack.instead = () => {
    asked.resolve();
    return promise;
  };
  return {
    asked: asked.promise,
    answer: () => {
      machine.conntrack.instead = undefined;
      resolve({ kind: "flushed", entries: 0 });
    },
  };
}

describe("DEL", () => {
  test("answers before the connections of its address are forgotten, which is soon after", async () => {
    await agent.call("ADD");
    machine.conntrack.entries = [TO_POD, ELSEWHERE];
    expect((await agent.call("DEL")).exitCode).toBe(0);
    expect(machine.conntrack.flushes).toEqual([]);
    await machine.clock.advance(100);
    expect(machine.conntrack.entries).toEqual([ELSEWHERE]);
  });

  test("forgets them also where no record tells its address, but the pod does", async () => {
    await agent.call("ADD");
    for (const id of await agent.cni.records.list()) await agent.cni.records.remove(id);
    machine.conntrack.entries = [TO_POD];
    expect((await agent.call("DEL")).exitCode).toBe(0);
    await machine.clock.advance(100);
    expect(machine.conntrack.entries).toEqual([]);
  });

  test("succeeds when the table cannot be flushed", async () => {
    await agent.call("ADD");
    machine.conntrack.instead = () => Promise.reject(new Error("ENOBUFS"));
    expect((await agent.call("DEL")).exitCode).toBe(0);
    await machine.clock.advance(100);
    expect(agent.logged.filter(({ level }) => level === "warn")).toHaveLength(1);
  });
});

describe("ADD", () => {
  test("of an address that was given back just now waits for the flush before it makes a link", async () => {
    await agent.call("ADD");
    await agent.call("DEL");
    const held = hold();
    const adding = agent.call("ADD", ANOTHER);
    await held.asked;
    expect(machine.addresses.held.map(({ ip }) => ip)).toEqual([POD]);
    expect(machine.conntrack.flushes).toEqual([[POD]]);
    expect(machine.kernel.links).toEqual([]);
    held.answer();
    expect((await adding).exitCode).toBe(0);
    expect(machine.kernel.links).toHaveLength(1);
    await machine.clock.advance(10_000);
    expect(machine.conntrack.flushes).toHaveLength(1);
  });

  test("asks for no flush of another address", async () => {
    await agent.call("ADD");
    await agent.call("ADD", { ...ANOTHER, args: "" });
    await agent.call("DEL", { ...ANOTHER, args: "" });
    hold();
    machine.kernel.addNetns("/run/netns/c3");
    machine.addresses.assign = async ({ handleID }) => [
      { ip: parseIP("10.244.0.70"), handleID, block: { network: POD, prefixLength: 26 }, sequenceNumber: 1n },
    ];
    expect((await agent.call("ADD", { containerID: "c3", netns: "/run/netns/c3", args: "" })).exitCode).toBe(0);
    expect(machine.conntrack.flushes).toEqual([]);
  });

  test("fails rather than give a pod the connections of another, and leaves nothing", async () => {
    await agent.call("ADD");
    await agent.call("DEL");
    machine.conntrack.instead = () => Promise.reject(new NetlinkError({ op: "IPCTNL_MSG_CT_GET", errno: 105 }));
    expect((await agent.call("ADD", ANOTHER)).errorCode).toBe(104);
    expect(machine.addresses.held).toEqual([]);
    expect(machine.kernel.links).toEqual([]);
    machine.conntrack.instead = undefined;
    machine.conntrack.entries = [TO_POD];
    expect((await agent.call("ADD", ANOTHER)).exitCode).toBe(0);
    expect(machine.conntrack.entries).toEqual([]);
  });

  test("that is undone has the connections forgotten that came in between", async () => {
    const { records } = agent.cni;
    Object.assign(agent.cni, {
      records: Object.assign(Object.create(records), { append: () => Promise.reject(new Error("ENOSPC")) }) as unknown,
    });
    machine.conntrack.entries = [TO_POD];
    expect((await agent.call("ADD")).exitCode).toBe(1);
    expect(machine.kernel.links).toEqual([]);
    await machine.clock.advance(100);
    expect(machine.conntrack.entries).toEqual([]);
  });
});
