// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { FakeIPAM } from "./delegation/fake-ipam.ts";
import type { Reply } from "./executor.ts";
import { FakeMachine, type FakeProcess, Faults } from "./fake-cni.ts";
import { recover } from "./reconcile.ts";

/* As crash.test.ts, for the two ways in which another plugin has a part in the addresses. */

class Machine extends FakeMachine {
  readonly ipam: FakeIPAM = new FakeIPAM();
  override delegates: FakeIPAM = this.ipam;

  constructor() {
    super();
    this.kernel.addNetns("/run/netns/c1");
  }

  /** Addresses of pods, wherever they are kept; what a node keeps of a segment stays. */
  get held(): readonly string[] {
    const own = this.addresses.held.filter(({ handleID }) => !handleID.startsWith("gingham-segment."));
    return [...this.ipam.held.keys(), ...own.map(({ handleID }) => handleID)];
  }
}

const CONFS = {
  "host-local under gingham": { ipam: { type: "host-local" } },
  "gingham-ipam under bridge": { type: "bridge", ipam: { type: "gingham-ipam" } },
} as const;
type Conf = (typeof CONFS)[keyof typeof CONFS];
const COMMANDS = ["ADD", "DEL"] as const;

async function run(conf: Conf, command: "ADD" | "DEL", machine: Machine, faults: Faults): Promise<void> {
  if (command === "DEL") await machine.start().call("ADD", { conf });
  const victim = machine.start(faults);
  await Promise.race([victim.call(command, { conf }), faults.crashed]);
  machine.kill(victim.executor);
}

async function expectNothing(machine: Machine): Promise<void> {
  expect(machine.kernel.links).toEqual([]);
  expect(machine.held).toEqual([]);
  expect(await machine.start().cni.records.list()).toEqual([]);
}

const AFTERMATHS: Readonly<
  Record<string, (machine: Machine, call: (command: "ADD" | "DEL") => Promise<Reply>) => Promise<void>>
> = {
  "nobody comes back, and the namespace dies": async (machine) => {
    machine.kernel.removeNetns("/run/netns/c1");
    await recover(machine.start().cni);
    await expectNothing(machine);
  },
  "DEL before any sweep": async (machine, call) => {
    expect((await call("DEL")).exitCode).toBe(0);
    await expectNothing(machine);
  },
  "ADD again before any sweep": async (machine, call) => {
    expect((await call("ADD")).exitCode).toBe(0);
    expect(machine.held).toHaveLength(1);
    expect(await machine.start().cni.records.list()).toHaveLength(1);
  },
};

for (const [name, conf] of Object.entries(CONFS)) {
  for (const command of COMMANDS) {
    using counted = new Machine();
    const counting = new Faults();
    await run(conf, command, counted, counting);
    const points = counting.points.map((point, index) => ({ point, index }));
    describe.each(["crash", "throw"] as const)(`${command}, ${name}, with a %s`, (kind) => {
      describe.each(points)("at $index $point", ({ index }) => {
        it.each(Object.keys(AFTERMATHS))("then %s", async (aftermath) => {
          using machine = new Machine();
          await run(conf, command, machine, new Faults(index, kind));
          const agent: FakeProcess = machine.start();
          await AFTERMATHS[aftermath]?.(machine, (next) => agent.call(next, { conf }));
        });
      });
    });
  }
}

it("has fault points at the plugin's and the datastore's effects", async () => {
  const passed = async (conf: Conf): Promise<readonly string[]> => {
    using machine = new Machine();
    const faults = new Faults();
    await run(conf, "ADD", machine, faults);
    return faults.points;
  };
  expect(await passed(CONFS["host-local under gingham"])).toContain("delegates.run after");
  expect(await passed(CONFS["gingham-ipam under bridge"])).toContain("addresses.assign after");
});
