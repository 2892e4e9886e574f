// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { CONF, FakeMachine, type FakeProcess } from "./fake-cni.ts";
import type { AddressManager, PodWiring } from "./ports.ts";
import { sweep, workOffPeriodically } from "./reconcile.ts";
import { encodeEnvelope } from "./server/envelope.ts";

/**
 * The launcher of a DEL waits for an agent that hangs no longer than it may: it writes the DEL down and answers success.
 * The agent finds both when it wakes: the call, in its socket, and the file. Whatever it takes first, and whatever came
 * after, one DEL has happened, before everything that the runtime asked for later.
 */

const CALL = "01787395200123456789-7";
const SUCCESS = { stdout: "", exitCode: 0, errorCode: 0 };

let machine: FakeMachine;
let agent: FakeProcess;
beforeEach(async () => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  agent = machine.start();
  expect(await agent.call("ADD")).toMatchObject({ exitCode: 0 });
});
afterEach(() => machine[Symbol.dispose]());

/** What is on its way through files takes some turns of the loop. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise(setImmediate);
}

function giveUp(call = CALL): void {
  const env = { GINGHAM_CALL: call, CNI_COMMAND: "DEL", CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0" };
  mkdirSync(join(machine.stateDir, "pending"), { recursive: true });
  writeFileSync(join(machine.stateDir, `pending/${call}.del`), encodeEnvelope({ env, stdin: JSON.stringify(CONF) }));
}

const staleDEL = (): ReturnType<FakeProcess["call"]> => agent.call("DEL", { env: { GINGHAM_CALL: CALL } });

async function expectNothing(): Promise<void> {
  expect(machine.kernel.links).toEqual([]);
  expect(machine.addresses.held).toEqual([]);
  expect(await agent.cni.records.list()).toEqual([]);
  expect(await agent.cni.pending.list()).toEqual([]);
}

async function expectWired(): Promise<void> {
  expect(machine.kernel.links).toHaveLength(1);
  expect(machine.addresses.held).toHaveLength(1);
  expect(await agent.cni.records.list()).toHaveLength(1);
  expect(await agent.cni.pending.list()).toEqual([]);
}

it("the call does what the file asks for, and the file goes with it", async () => {
  giveUp();
  expect(await staleDEL()).toEqual(SUCCESS);
  await expectNothing();
});

it("the file comes while the call is at work, or after it", async () => {
  expect(await staleDEL()).toEqual(SUCCESS);
  giveUp();
  expect(await sweep(agent.cni)).toMatchObject({ pending: 1 });
  await expectNothing();
});

it("an agent that goes on looks for files every second, and leaves those that fail to the sweep", async () => {
  const stop = new AbortController();
  const looking = workOffPeriodically(agent.cni, 1000, stop.signal);
  await machine.clock.advance(3000);
  giveUp();
  const { wiring } = agent.cni;
  let tries = 0;
  const refusing: Pick<PodWiring, "unwire"> = {
    unwire: async () => {
      tries++;
      throw new Error("EBUSY");
    },
  };
  Object.assign(agent.cni, { wiring: Object.assign(Object.create(wiring) as PodWiring, refusing) });
  await machine.clock.advance(5000);
  await until(() => tries > 0);
  await machine.clock.advance(5000);
  expect(tries).toBe(1);
  Object.assign(agent.cni, { wiring });
  expect(await sweep(agent.cni)).toMatchObject({ pending: 1 });
  await expectNothing();

  expect(await agent.call("ADD")).toMatchObject({ exitCode: 0 });
  giveUp("01787395200123456790-8");
  await machine.clock.advance(1000);
  await until(() => machine.addresses.held.length === 0);
  await until(() => machine.kernel.links.length === 0);
  stop.abort();
  await looking;
});

it("the file is worked off first, by the sweep", async () => {
  giveUp();
  expect(await sweep(agent.cni)).toMatchObject({ pending: 1 });
  expect(await staleDEL()).toEqual(SUCCESS);
  await expectNothing();
});

it("a later ADD comes before the call: what it made stays, and its own DEL takes it away", async () => {
  giveUp();
  expect(await agent.call("ADD")).toMatchObject({ exitCode: 0 });
  expect(machine.addresses.requests).toHaveLength(2);
  expect(await staleDEL()).toEqual(SUCCESS);
  await expectWired();
  expect(await agent.call("DEL", { env: { GINGHAM_CALL: "01787395200999999999-8" } })).toEqual(SUCCESS);
  await expectNothing();
});

it("a later ADD is at work when the call comes: it is not cancelled", async () => {
  giveUp();
  const reached = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const { addresses } = agent.cni;
  const slow: Pick<AddressManager, "assign"> = {
    assign: async (request, signal) => {
      reached.resolve();
      await held.promise;
      return await addresses.assign(request, signal);
    },
  };
  Object.assign(agent.cni, { addresses: Object.assign(Object.create(addresses) as AddressManager, slow) });
  const adding = agent.call("ADD");
  await reached.promise;
  expect(await staleDEL()).toEqual(SUCCESS);
  held.resolve();
  expect(await adding).toMatchObject({ exitCode: 0 });
  await expectWired();
});

it("a later ADD comes after the call", async () => {
  giveUp();
  const both = [staleDEL(), agent.call("ADD")];
  expect(await Promise.all(both)).toMatchObject([SUCCESS, { exitCode: 0 }]);
  await expectWired();
});

it("a name that is none of the launcher's names no file", async () => {
  const outside = join(machine.stateDir, "outside.del");
  writeFileSync(outside, "");
  expect(await agent.call("DEL", { env: { GINGHAM_CALL: "../outside" } })).toEqual(SUCCESS);
  expect(existsSync(outside)).toBe(true);
  await expectNothing();
});
