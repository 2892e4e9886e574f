// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { Reply } from "./executor.ts";
import { FakeMachine, type FakeProcess, Faults } from "./fake-cni.ts";
import { recover, sweep } from "./reconcile.ts";

/*
 * A fault point is before and after every call of a port. A crash there ends the process for good: nothing after it
 * happens, not even an undo. A new process then meets the same kernel, datastore and disk. A throw fails one call.
 */

const COMMANDS = ["ADD", "DEL", "GC"] as const;
type Command = (typeof COMMANDS)[number];

/** GC is of everything. */
const GC = { conf: { cniVersion: "1.1.0", "cni.dev/valid-attachments": [] } };

function callOn(agent: FakeProcess, command: Command): Promise<Reply> {
  return agent.call(command, command === "GC" ? GC : {});
}

/** How many points a command passes when nothing happens. */
async function countPoints(command: Command): Promise<readonly string[]> {
  using machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  if (command !== "ADD") await machine.start().call("ADD");
  const faults = new Faults();
  await callOn(machine.start(faults), command);
  return faults.points;
}

async function runUntilFault(machine: FakeMachine, command: Command, faults: Faults): Promise<void> {
  const victim = machine.start(faults);
  await Promise.race([callOn(victim, command), faults.crashed]);
  machine.kill(victim.executor);
}

async function expectNothing(machine: FakeMachine): Promise<void> {
  expect(machine.kernel.links).toEqual([]);
  expect(machine.addresses.held).toEqual([]);
  expect(await machine.start().cni.records.list()).toEqual([]);
}

/** One link of the right container, with the one address that is held. */
async function expectOne(machine: FakeMachine, containerID: string): Promise<void> {
  expect(machine.kernel.links).toHaveLength(1);
  expect(machine.addresses.held.map(({ ip, handleID }) => ({ ip, handleID }))).toEqual([
    { ip: machine.kernel.links[0]?.ips[0], handleID: `k8s-pod-network.${containerID}` },
  ]);
  expect(await machine.start().cni.records.list()).toMatchObject([{ containerID }]);
}

/** What a runtime may do after its call was lost, and what must be there in the end. */
const AFTERMATHS: Readonly<Record<string, (machine: FakeMachine) => Promise<void>>> = {
  "nobody comes back, and the namespace dies": async (machine) => {
    machine.kernel.removeNetns("/run/netns/c1");
    await recover(machine.start().cni);
    await expectNothing(machine);
  },
  "the machine reboots": async (machine) => {
    machine.reboot();
    await recover(machine.start().cni);
    await expectNothing(machine);
  },
  "DEL before any sweep": async (machine) => {
    expect((await machine.start().call("DEL")).exitCode).toBe(0);
    await expectNothing(machine);
  },
  "DEL without a namespace after the recovery": async (machine) => {
    const agent = machine.start();
    await recover(agent.cni);
    machine.kernel.removeNetns("/run/netns/c1");
    expect((await agent.call("DEL", { netns: "" })).exitCode).toBe(0);
    await expectNothing(machine);
  },
  "GC of everything before any sweep": async (machine) => {
    expect((await callOn(machine.start(), "GC")).exitCode).toBe(0);
    await expectNothing(machine);
  },
  "ADD again before any sweep": async (machine) => {
    expect((await machine.start().call("ADD")).exitCode).toBe(0);
    await expectOne(machine, "c1");
  },
  "ADD again after the recovery": async (machine) => {
    const agent = machine.start();
    await recover(agent.cni);
    expect((await agent.call("ADD")).exitCode).toBe(0);
    await expectOne(machine, "c1");
  },
  "a new sandbox of the pod, then a late DEL of the old one": async (machine) => {
    const agent = machine.start();
    machine.kernel.addNetns("/run/netns/c2");
    expect((await agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2" })).exitCode).toBe(0);
    expect((await agent.call("DEL")).exitCode).toBe(0);
    await expectOne(machine, "c2");
  },
};

for (const command of COMMANDS) {
  const points = await countPoints(command);
  describe.each(["crash", "throw"] as const)(`${command} with a %s`, (kind) => {
    describe.each(points.map((point, index) => ({ point, index })))("at $index $point", ({ index }) => {
      it.each(Object.keys(AFTERMATHS))("then %s", async (aftermath) => {
        using machine = new FakeMachine();
        machine.kernel.addNetns("/run/netns/c1");
        if (command !== "ADD") await machine.start().call("ADD");
        await runUntilFault(machine, command, new Faults(index, kind));
        await AFTERMATHS[aftermath]?.(machine);
      });
    });
  });
}

it("sweep() after a crash of the sweep finishes what it began", async () => {
  for (let index = 0; ; index++) {
    using machine = new FakeMachine();
    machine.kernel.addNetns("/run/netns/c1");
    await machine.start().call("ADD");
    machine.reboot();
    const faults = new Faults(index);
    await Promise.race([sweep(machine.start(faults).cni), faults.crashed]);
    await sweep(machine.start().cni);
    await expectNothing(machine);
    if (faults.points.length <= index) return;
  }
});

it("an ADD that failed is not taken for whole, although its last line is on disk and the record cannot be removed", async () => {
  using machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  const failing = machine.start();
  const { records } = failing.cni;
  let isSick = true;
  const sick = {
    ...records,
    async append(...line: Parameters<typeof records.append>): Promise<void> {
      await records.append(...line);
      if (isSick) throw new Error("EIO");
    },
    async remove(...id: Parameters<typeof records.remove>): Promise<void> {
      if (!isSick) return await records.remove(...id);
      isSick = false;
      throw new Error("EIO");
    },
  };
  Object.assign(failing.cni, { records: sick });
  expect((await failing.call("ADD")).exitCode).toBe(1);
  expect(machine.addresses.held).toEqual([]);
  expect((await failing.call("ADD")).exitCode).toBe(0);
  expect(machine.addresses.held).toHaveLength(1);
  expect(machine.kernel.links).toHaveLength(1);
});
