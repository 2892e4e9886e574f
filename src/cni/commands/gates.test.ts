// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, expect, it } from "vitest";
import { FakeMachine, type FakeProcess } from "../fake-cni.ts";
import type { GateProbe } from "../ports.ts";

/** What an ADD does with `readiness_gates`, which Calico's users may have. */

const [FIRST, SECOND] = ["http://127.0.0.1:9099/readiness", "https://gate.example/ready"];
const conf = { readiness_gates: [FIRST, SECOND] };

let machine: FakeMachine;
let agent: FakeProcess;
/** URL and time of each question. */
let asked: string[];
beforeEach(() => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  agent = machine.start();
  asked = [];
});
afterEach(() => machine[Symbol.dispose]());

function answer(gate: GateProbe): void {
  const start = machine.clock.nowMs();
  const noted: GateProbe = (url, signal) => {
    asked.push(`${url} at ${(machine.clock.nowMs() - start) / 1000} s`);
    return gate(url, signal);
  };
  Object.assign(agent.cni, { gate: noted });
}

it("gates that are open cost one question each, and the pod is attached", async () => {
  answer(async () => undefined);
  expect(await agent.call("ADD", { conf })).toMatchObject({ exitCode: 0 });
  expect(asked).toEqual([`${FIRST} at 0 s`, `${SECOND} at 0 s`]);
  // Nor is a pod that is there asked about, nor a DEL.
  expect(await agent.call("ADD", { conf })).toMatchObject({ exitCode: 0 });
  expect(await agent.call("DEL", { conf })).toMatchObject({ exitCode: 0 });
  expect(asked).toHaveLength(2);
});

it("a gate that opens later is asked every 5 s", async () => {
  answer(async (url) => (url === FIRST && asked.length < 4 ? "it answered status 503" : undefined));
  const adding = agent.call("ADD", { conf });
  await machine.clock.advance(14_999);
  expect(machine.addresses.requests).toEqual([]);
  await machine.clock.advance(1);
  expect(await adding).toMatchObject({ exitCode: 0 });
  expect(asked.map((one) => one.split(" at ")[1])).toEqual(["0 s", "5 s", "10 s", "15 s", "15 s"]);
});

it("a gate that stays shut, or does not answer, is error 11 after 30 s, and nothing is begun", async () => {
  answer((_url, signal) =>
    asked.length % 2 === 0
      ? Promise.resolve("it answered status 503")
      : new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  );
  const adding = agent.call("ADD", { conf });
  await machine.clock.advance(30_000);
  const { errorCode, stdout } = await adding;
  expect(errorCode).toBe(11);
  expect(JSON.parse(stdout)).toMatchObject({
    msg: expect.stringContaining(`Readiness gate ${FIRST} was not ready for 30 s: it answered status 503; `) as string,
  });
  expect(asked).toHaveLength(6);
  expect(await agent.cni.records.list()).toEqual([]);
});

it("a DEL ends the wait", async () => {
  answer(async () => "not yet");
  const adding = agent.call("ADD", { conf });
  await machine.clock.advance(6000);
  expect(await agent.call("DEL", { conf })).toMatchObject({ exitCode: 0 });
  expect(await adding).toMatchObject({ errorCode: 11 });
  expect(machine.kernel.links).toEqual([]);
});
