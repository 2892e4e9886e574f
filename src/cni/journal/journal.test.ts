// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { formatIP, parseIP } from "../../net/ip.ts";
import { execute } from "../executor.ts";
import { CONF, FakeMachine, type FakeProcess, K8S_ARGS } from "../fake-cni.ts";
import { recover } from "../reconcile.ts";
import { openJournal, readAddressHistory, readVerbs } from "./node-journal.ts";
import { tenuresOf } from "./tenures.ts";

let machine: FakeMachine;
let folder: string;
let agent: FakeProcess;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "gingham-journal-"));
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  agent = machine.start();
});
afterEach(() => {
  machine[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

/** Work of an agent with a journal, which is on disk afterwards. */
async function journaled(work: (cni: FakeProcess["cni"]) => Promise<unknown>): Promise<void> {
  const journal = openJournal({
    stateDir: folder,
    maxBytes: 100_000,
    clock: machine.clock,
    onError: (error) => {
      throw error;
    },
  });
  await work({ ...agent.cni, journal });
  await journal.close();
}

async function call(cni: FakeProcess["cni"], command: string, env: Record<string, string> = {}): Promise<number> {
  const all = { CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0", CNI_NETNS: "/run/netns/c1", CNI_ARGS: K8S_ARGS, ...env };
  const reply = await execute(cni, { CNI_COMMAND: command, ...all }, JSON.stringify(CONF));
  await machine.clock.advance(10_000);
  return reply.errorCode;
}

const containing = (words: string): unknown => expect.stringContaining(words);
const IP = parseIP("10.244.0.64");
const tenures = async () => tenuresOf((await readAddressHistory(folder, IP)).events);

describe("the journal of addresses", () => {
  it("tells who had one, from when to when, and why it came back", async () => {
    const start = machine.clock.nowMs();
    await journaled(async (cni) => {
      await call(cni, "ADD");
      await call(cni, "DEL");
      await call(cni, "ADD", { CNI_CONTAINERID: "c2", CNI_ARGS: "" });
    });
    expect(await tenures()).toMatchObject([
      {
        node: "node-a",
        handleID: "k8s-pod-network.c1",
        attachment: { network: "k8s-pod-network", containerID: "c1", ifName: "eth0" },
        pod: { namespace: "default", name: "web-0", uid: "u1" },
        fromMs: start,
        toMs: start + 10_000,
        why: "DEL",
      },
      { attachment: { containerID: "c2" }, fromMs: start + 20_000 },
    ]);
    const [, second] = await tenures();
    expect(second).not.toHaveProperty("toMs");
    expect(second).not.toHaveProperty("pod");
    expect((await readAddressHistory(folder, parseIP("10.244.0.65"))).events).toEqual([]);
    expect((await readAddressHistory(folder, IP)).sinceMs).toBe(start);
  });

  it("notes the undo of an ADD that failed after it had an address", async () => {
    machine.kernel.netns("/run/netns/c1").ifaces.set("eth0", undefined);
    await journaled(async (cni) => expect(await call(cni, "ADD")).not.toBe(0));
    expect(await tenures()).toMatchObject([{ attachment: { containerID: "c1" }, why: "undo" }]);
  });

  it("notes what the sweep frees after a reboot", async () => {
    await journaled((cni) => call(cni, "ADD"));
    machine.reboot();
    agent = machine.start();
    await journaled((cni) => recover(cni));
    expect(await tenures()).toMatchObject([{ pod: { name: "web-0" }, why: "namespaceGone" }]);
  });

  it("notes a DEL that waited for the datastore when it is done", async () => {
    await journaled(async (cni) => {
      await call(cni, "ADD");
      machine.addresses.away = new Error("away");
      await call(cni, "DEL");
      expect((await tenures())[0]?.why).toBeUndefined();
      machine.addresses.away = undefined;
      await recover(cni);
    });
    expect(await tenures()).toMatchObject([{ why: "DEL" }]);
  });
});

describe("the journal of calls", () => {
  it("tells of each with pod, addresses, steps and what went wrong", async () => {
    await journaled(async (cni) => {
      await call(cni, "ADD");
      await call(cni, "ADD", { CNI_CONTAINERID: "c2", CNI_NETNS: "/run/netns/none" });
      machine.addresses.away = new Error("away");
      await call(cni, "DEL");
    });
    const verbs = await readVerbs(folder, { last: 10 });
    expect(verbs).toMatchObject([
      { verb: "ADD", attachment: { containerID: "c1" }, pod: { namespace: "default", name: "web-0" }, code: 0 },
      { verb: "ADD", attachment: { containerID: "c2" }, code: 4, message: containing("/run/netns/none") },
      { verb: "DEL", code: 0, ips: [IP], message: containing("still to come: away") },
    ]);
    expect(Object.keys(verbs[2]?.stepsMs ?? {})).toEqual(["lock", "kernel", "release", "total"]);
    expect(verbs[0]?.ips?.map(formatIP)).toEqual(["10.244.0.64"]);
    expect(Object.keys(verbs[0]?.stepsMs ?? {})).toEqual(expect.arrayContaining(["assign", "wire", "total"]));
  });

  it("tells of a call that was refused, as far as it could be read", async () => {
    await journaled(async (cni) => {
      await execute(cni, { CNI_COMMAND: "ADD", CNI_CONTAINERID: "c3" }, JSON.stringify(CONF));
      await execute(cni, { CNI_COMMAND: "VERSION" }, "{}");
      await execute(cni, { CNI_COMMAND: "STATUS" }, "{");
    });
    expect(await readVerbs(folder, { last: 10 })).toMatchObject([
      { verb: "ADD", attachment: { containerID: "c3" }, code: 4, message: containing("refused: ") },
    ]);
  });

  it("gives the last ones of those that are wanted", async () => {
    await journaled(async (cni) => {
      for (let i = 0; i < 7; i++) await call(cni, i % 2 ? "DEL" : "ADD");
    });
    const adds = await readVerbs(folder, { last: 2, wanted: ({ verb }) => verb === "ADD" });
    expect(adds.map(({ verb }) => verb)).toEqual(["ADD", "ADD"]);
    expect(adds[1]?.atMs).toBe((await readVerbs(folder, { last: 1 }))[0]?.atMs);
    expect(await readVerbs(folder, { last: 0 })).toEqual([]);
  });
});
