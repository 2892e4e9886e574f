// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeMachine, type FakeProcess } from "./fake-cni.ts";
import { FakeWiring } from "./fake-wiring.ts";
import type { WiredPod, WiringPlan } from "./ports.ts";
import { sweep } from "./reconcile.ts";

/** One pod's namespace hangs: it hangs alone. */

class HungWiring extends FakeWiring {
  readonly asked: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly released: PromiseWithResolvers<void> = Promise.withResolvers();

  override async wire(plan: WiringPlan): Promise<WiredPod> {
    if (plan.netns === "/run/netns/c1") {
      this.asked.resolve();
      await this.released.promise;
    }
    return await super.wire(plan);
  }
}

const SUCCESS = { stdout: "", exitCode: 0, errorCode: 0 };

let machine: FakeMachine;
let agent: FakeProcess;
let wiring: HungWiring;
let adding: ReturnType<FakeProcess["call"]>;
beforeEach(async () => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  machine.kernel.addNetns("/run/netns/c2");
  agent = machine.start();
  wiring = new HungWiring(machine.kernel);
  Object.assign(agent.cni, { wiring });
  adding = agent.call("ADD");
  await wiring.asked.promise;
});
afterEach(() => machine[Symbol.dispose]());

/** A DEL of the pod that hangs. */
async function del(): Promise<unknown> {
  const deleting = agent.call("DEL");
  await machine.clock.advance(999);
  return await deleting;
}

async function expectNothing(): Promise<void> {
  expect(machine.kernel.links).toEqual([]);
  expect(machine.addresses.held).toEqual([]);
  expect(await agent.cni.records.list()).toEqual([]);
  expect(await agent.cni.pending.list()).toEqual([]);
}

describe("while the wiring of one pod hangs", () => {
  it("others are added and removed, and the sweep goes on", async () => {
    const other = { containerID: "c2", netns: "/run/netns/c2", args: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1" };
    expect(await agent.call("ADD", other)).toMatchObject({ exitCode: 0 });
    expect(await sweep(agent.cni)).toMatchObject({ live: 1 });
    expect(await agent.call("DEL", other)).toEqual(SUCCESS);
    wiring.released.resolve();
    expect(await adding).toMatchObject({ exitCode: 0 });
  });

  it("its DEL answers within a second, is written down, and is done when the ADD has ended", async () => {
    expect(await del()).toEqual(SUCCESS);
    expect(await agent.cni.pending.list()).toMatchObject([{ env: { CNI_COMMAND: "DEL", CNI_CONTAINERID: "c1" } }]);
    // Nor does the sweep wait for it.
    expect(await sweep(agent.cni)).toMatchObject({ pending: 0 });
    wiring.released.resolve();
    expect(await adding).toMatchObject({ exitCode: 1, errorCode: 11 });
    expect(await sweep(agent.cni)).toMatchObject({ pending: 1 });
    await expectNothing();
  });

  it("its DEL is done before its next ADD", async () => {
    await del();
    const again = agent.call("ADD");
    wiring.released.resolve();
    expect(await again).toMatchObject({ exitCode: 0 });
    expect(await agent.cni.pending.list()).toEqual([]);
    await sweep(agent.cni);
    expect(machine.kernel.links).toHaveLength(1);
    expect(await agent.call("DEL")).toEqual(SUCCESS);
    await expectNothing();
  });

  it("its DEL outlives the agent", async () => {
    await del();
    machine.kill(agent.executor);
    agent = machine.start();
    await sweep(agent.cni);
    await expectNothing();
  });
});

it("while the removal of one pod hangs, others are removed, and a second DEL of it is written down", async () => {
  wiring.released.resolve();
  await adding;
  const [asked, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  wiring.unwire = async (link) => {
    if (link.hostIface === "cali0d7763386da") {
      asked.resolve();
      await released.promise;
    }
    return await FakeWiring.prototype.unwire.call(wiring, link);
  };
  const hanging = agent.call("DEL");
  await asked.promise;
  const other = { containerID: "c2", netns: "/run/netns/c2", args: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1" };
  expect(await agent.call("ADD", other)).toMatchObject({ exitCode: 0 });
  expect(await agent.call("DEL", other)).toEqual(SUCCESS);
  expect(await del()).toEqual(SUCCESS);
  released.resolve();
  expect(await hanging).toEqual(SUCCESS);
  expect(await sweep(agent.cni)).toMatchObject({ pending: 1 });
  await expectNothing();
});

it("a removal that the kernel was slow with leaves the datastore its own time: nothing is left to the sweep", async () => {
  wiring.released.resolve();
  await adding;
  wiring.unwire = async (link) => {
    await machine.clock.sleep(1_500);
    return await FakeWiring.prototype.unwire.call(wiring, link);
  };
  const release = machine.addresses.release.bind(machine.addresses);
  machine.addresses.release = async (allocations, signal) => {
    await machine.clock.sleep(100, signal);
    await release(allocations, signal);
  };
  const deleting = agent.call("DEL");
  await machine.clock.advance(2_000);
  expect(await deleting).toEqual(SUCCESS);
  await expectNothing();
});

it.each([
  ["is slow: the DEL's line is no warning", (ms: number) => machine.clock.sleep(ms), "info"],
  ["refuses: the DEL's line is a warning", () => Promise.reject(new Error("away")), "warn"],
])("a datastore that %s", async (_, answer, level) => {
  wiring.released.resolve();
  await adding;
  machine.addresses.release = () => answer(5_000);
  expect(await del()).toEqual(SUCCESS);
  const message = "DEL done, but the release is still to come";
  expect(agent.logged.filter((line) => line.message === message)).toMatchObject([{ level, fields: { op: "DEL" } }]);
});
