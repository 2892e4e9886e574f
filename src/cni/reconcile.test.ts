// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { IPAMError } from "../ipam/errors.ts";
import { CONF, FakeMachine, K8S_ARGS } from "./fake-cni.ts";
import { announce, finishReleases, recover, sweep, sweepPeriodically } from "./reconcile.ts";
import { encodeEnvelope } from "./server/envelope.ts";

let machine: FakeMachine;
beforeEach(() => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
});
afterEach(() => machine[Symbol.dispose]());

const nothing = { live: 0, released: 0, pending: 0, postponed: 0, broken: 0 };

function writePending(name: string, env: Record<string, string>, stdin = JSON.stringify(CONF)): void {
  mkdirSync(join(machine.stateDir, "pending"), { recursive: true });
  writeFileSync(join(machine.stateDir, "pending", name), encodeEnvelope({ env, stdin }));
}
const DEL_ENV = { CNI_COMMAND: "DEL", CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0", CNI_ARGS: K8S_ARGS };

describe("announce()", () => {
  it("tells of live endpoints after a restart, without the datastore", async () => {
    await machine.start().call("ADD");
    machine.addresses.away = new IPAMError("Datastore", "down");
    const agent = machine.start();
    expect(await announce(agent.cni)).toBe(1);
    expect(agent.told).toEqual(["up k8s-pod-network/c1:eth0 cali0d7763386da made"]);
  });

  it("of two sandboxes of one pod tells of the younger", async () => {
    machine.kernel.addNetns("/run/netns/c2");
    const first = machine.start();
    await first.call("ADD");
    await machine.clock.advance(1000);
    await first.call("ADD", { containerID: "c2", netns: "/run/netns/c2" });
    const agent = machine.start();
    await announce(agent.cni);
    expect([...agent.endpoints.keys()]).toEqual(["k8s-pod-network/c2:eth0"]);
  });
});

it("announce() and sweep() go on past what cannot be examined", async () => {
  machine.kernel.addNetns("/run/netns/c2");
  const agent = machine.start();
  await agent.call("ADD");
  await agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2", args: "" });
  const next = machine.start();
  const identifyNetns = next.cni.wiring.identifyNetns.bind(next.cni.wiring);
  const wiring = {
    ...next.cni.wiring,
    identifyNetns: (path: string) => (path.endsWith("c1") ? Promise.reject(new Error("EACCES")) : identifyNetns(path)),
  };
  const pending = { ...next.cni.pending, list: () => Promise.reject(new Error("EIO")) };
  const cni = { ...next.cni, wiring, pending };
  expect(await announce(cni)).toBe(1);
  expect(await sweep(cni)).toEqual({ ...nothing, live: 1, postponed: 1 });
});

describe("sweep()", () => {
  it("leaves a live attachment alone", async () => {
    const agent = machine.start();
    await agent.call("ADD");
    expect(await sweep(agent.cni)).toEqual({ ...nothing, live: 1 });
    expect(machine.kernel.links).toHaveLength(1);
  });

  it.each([
    ["the boot ID changed", () => machine.reboot()],
    ["the path is gone", () => machine.kernel.removeNetns("/run/netns/c1")],
    ["another namespace is at the path", () => machine.kernel.addNetns("/run/netns/c1")],
  ])("releases an attachment when %s", async (_why, happen) => {
    await machine.start().call("ADD");
    happen();
    const agent = machine.start();
    expect(await sweep(agent.cni)).toEqual({ ...nothing, released: 1 });
    expect(machine.addresses.held).toEqual([]);
    expect(machine.kernel.links).toEqual([]);
    expect(await sweep(agent.cni)).toEqual(nothing);
  });

  it("calls nothing dead that it could not see alive", async () => {
    await machine.start().call("ADD");
    machine.kernel.removeNetns("/run/netns/c1");
    machine.vantage = { mntns: 9n, pidns: 9n };
    expect(await sweep(machine.start().cni)).toEqual({ ...nothing, live: 1 });
    machine.vantage = { mntns: 9n, pidns: 9n, dir: { dev: 25n, inode: 7n } };
    expect(await sweep(machine.start().cni)).toEqual({ ...nothing, released: 1 });
  });

  it("leaves the intent of a process that lives, and refuses to work beside it", async () => {
    const other = machine.start();
    machine.addresses.assign = () => new Promise(() => {});
    void other.call("ADD");
    const agent = machine.start();
    while ((await agent.cni.records.list()).length === 0) await new Promise(setImmediate);
    expect(await sweep(agent.cni)).toEqual(nothing);
    for (const command of ["ADD", "DEL"]) {
      expect(JSON.parse((await agent.call(command)).stdout)).toMatchObject({ code: 11 });
    }
    machine.kill(other.executor);
    expect(await sweep(agent.cni)).toEqual({ ...nothing, released: 1 });
  });

  it("skips a broken record and does the rest; a DEL cleans the broken one", async () => {
    machine.kernel.addNetns("/run/netns/c2");
    const agent = machine.start();
    await agent.call("ADD");
    await agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2", args: "" });
    writeFileSync(join(machine.stateDir, "attachments/k8s-pod-network/c1:eth0.json"), '{"format":9}\n');
    machine.kernel.removeNetns("/run/netns/c2");
    expect(await sweep(agent.cni)).toEqual({ ...nothing, broken: 1, released: 1 });
    expect(JSON.parse((await agent.call("ADD")).stdout)).toMatchObject({ code: 5 });
    expect((await agent.call("DEL")).exitCode).toBe(0);
    expect(machine.addresses.held).toEqual([]);
    expect(machine.kernel.links).toEqual([]);
    expect(await sweep(agent.cni)).toEqual(nothing);
  });

  it("tries the datastore once when it is away, and finishes later", async () => {
    const agent = machine.start();
    await agent.call("ADD");
    await agent.call("ADD", { containerID: "c2", args: "", ifName: "net1" });
    machine.kernel.removeNetns("/run/netns/c1");
    machine.addresses.away = new IPAMError("Datastore", "down");
    expect(await sweep(agent.cni)).toEqual({ ...nothing, postponed: 2 });
    machine.addresses.away = undefined;
    expect(await sweep(agent.cni)).toEqual({ ...nothing, released: 2 });
  });

  it("tells once of a datastore that is away, however many releases have tried it at the same time", async () => {
    const agent = machine.start();
    await agent.call("ADD");
    await agent.call("ADD", { containerID: "c2", args: "", ifName: "net1" });
    machine.kernel.removeNetns("/run/netns/c1");
    let asked = 0;
    const bothAsked = Promise.withResolvers<void>();
    machine.addresses.release = async () => {
      if (++asked === 2) bothAsked.resolve();
      await bothAsked.promise;
      throw new IPAMError("Datastore", "down");
    };
    expect(await sweep(agent.cni)).toEqual({ ...nothing, postponed: 2 });
    const message = "Attachment could not be released; it is tried again";
    const told = agent.logged.filter((line) => line.message === message).map(({ level }) => level);
    expect(told).toEqual(["warn", "debug"]);
  });

  it("gives way to a DEL of the attachment that it is releasing", async () => {
    await machine.start().call("ADD");
    machine.kernel.removeNetns("/run/netns/c1");
    const agent = machine.start();
    const reached = Promise.withResolvers<void>();
    const release = machine.addresses.release.bind(machine.addresses);
    machine.addresses.release = () => {
      machine.addresses.release = release;
      reached.resolve();
      return new Promise(() => {});
    };
    const sweeping = sweep(agent.cni);
    await reached.promise;
    const deleting = agent.call("DEL");
    // Both end without the clock: the sweep was cancelled, it did not time out.
    expect((await deleting).exitCode).toBe(0);
    expect(await sweeping).toMatchObject({ live: 0, broken: 0 });
    expect(machine.addresses.held).toEqual([]);
  });
});

describe("after a reboot", () => {
  beforeEach(async () => {
    await machine.start().call("ADD");
    machine.reboot();
  });

  it("an attachment is dead although a namespace of the same inode is at its path", async () => {
    machine.kernel.addNetns("/run/netns/c1");
    expect(await sweep(machine.start().cni)).toEqual({ ...nothing, released: 1 });
  });

  it("the link of a new sandbox stays, which has the old one's name and index", async () => {
    machine.kernel.addNetns("/run/netns/c2");
    const agent = machine.start();
    await agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2" });
    expect(await sweep(agent.cni)).toEqual({ ...nothing, live: 1, released: 1 });
    expect(machine.kernel.links).toHaveLength(1);
    expect(machine.addresses.held).toHaveLength(1);
  });
});

describe("pending releases", () => {
  it("are worked off by recover(), oldest first", async () => {
    await machine.start().call("ADD");
    writePending("00000000000000000001-7.del", DEL_ENV);
    writePending("00000000000000000002-8.del", DEL_ENV);
    const agent = machine.start();
    expect(await recover(agent.cni)).toEqual({ ...nothing, pending: 2 });
    expect(machine.addresses.held).toEqual([]);
    expect(machine.kernel.links).toEqual([]);
    expect(await agent.cni.pending.list()).toEqual([]);
  });

  it("are worked off before a new ADD of that attachment", async () => {
    await machine.start().call("ADD");
    writePending("00000000000000000001-7.del", DEL_ENV);
    const agent = machine.start();
    expect((await agent.call("ADD")).exitCode).toBe(0);
    // A second assignment: the recorded result was not answered any more.
    expect(machine.addresses.requests).toHaveLength(2);
    expect(machine.addresses.held).toHaveLength(1);
    expect(await agent.cni.pending.list()).toEqual([]);
  });

  it("never take away what an ADD has made since it worked them off", async () => {
    await machine.start().call("ADD");
    writePending("00000000000000000001-7.del", DEL_ENV);
    const agent = machine.start();
    // The sweep has read the file, and the whole ADD comes before it goes on.
    const files = agent.cni.pending;
    const pending = {
      ...files,
      async list() {
        const listed = await files.list();
        expect(await agent.call("ADD")).toMatchObject({ exitCode: 0 });
        return listed;
      },
    };
    await sweep({ ...agent.cni, pending });
    await sweep(agent.cni);
    expect(machine.kernel.links).toHaveLength(1);
    expect(machine.addresses.held).toHaveLength(1);
    expect(await agent.cni.pending.list()).toEqual([]);
  });

  it("survive a datastore that is away, as records", async () => {
    await machine.start().call("ADD");
    machine.addresses.away = new IPAMError("Datastore", "down");
    writePending("00000000000000000001-7.del", DEL_ENV);
    const agent = machine.start();
    await recover(agent.cni);
    machine.addresses.away = undefined;
    expect(await sweep(agent.cni)).toEqual({ ...nothing, released: 1 });
    expect(machine.addresses.held).toEqual([]);
  });

  it("are worked off whatever version they name, since they were answered with success", async () => {
    await machine.start().call("ADD");
    writePending("00000000000000000001-7.del", DEL_ENV, JSON.stringify({ ...CONF, cniVersion: "9.0.0" }));
    expect(await recover(machine.start().cni)).toEqual({ ...nothing, pending: 1 });
    expect(machine.addresses.held).toEqual([]);
  });

  it("that make no sense are set aside, and stop nothing", async () => {
    writePending("00000000000000000001-7.del", { ...DEL_ENV, CNI_COMMAND: "ADD" });
    writePending("00000000000000000002-7.del", DEL_ENV, "{");
    mkdirSync(join(machine.stateDir, "pending"), { recursive: true });
    writeFileSync(join(machine.stateDir, "pending/00000000000000000003-7.del"), "cut off");
    writePending("00000000000000000004-7.del", DEL_ENV);
    const agent = machine.start();
    expect(await recover(agent.cni)).toEqual({ ...nothing, pending: 1 });
    expect(agent.logged.filter((line) => line.level === "error")).toHaveLength(3);
    expect(await recover(agent.cni)).toEqual(nothing);
  });
});

it("sweepPeriodically() sweeps at the interval and ends with the signal", async () => {
  await machine.start().call("ADD");
  machine.kernel.removeNetns("/run/netns/c1");
  const agent = machine.start();
  const stop = new AbortController();
  const running = sweepPeriodically(agent.cni, 30_000, stop.signal);
  expect(machine.addresses.held).toHaveLength(1);
  await machine.clock.advance(30_000);
  while (machine.addresses.held.length > 0) await new Promise(setImmediate);
  stop.abort();
  await running;
});

describe("two sandboxes of one pod whose namespaces both live", () => {
  beforeEach(() => machine.kernel.addNetns("/run/netns/c2"));
  const young = { containerID: "c2", netns: "/run/netns/c2" };

  it.each(["the agent that made both", "an agent that starts"])(
    "%s keeps the young one up and gives back what the old one had, whose link is gone",
    async (which) => {
      const first = machine.start();
      await first.call("ADD");
      await machine.clock.advance(1000);
      await first.call("ADD", young);
      const agent = which === "an agent that starts" ? machine.start() : first;
      if (agent !== first) await announce(agent.cni);
      expect(await sweep(agent.cni)).toEqual({ ...nothing, live: 1, released: 1 });
      expect([...agent.endpoints.keys()]).toEqual(["k8s-pod-network/c2:eth0"]);
      expect(agent.told.filter((line) => line.startsWith("down k8s-pod-network/c2"))).toEqual([]);
      expect(machine.kernel.links).toHaveLength(1);
      expect(machine.addresses.held.map(({ handleID }) => handleID)).toEqual(["k8s-pod-network.c2"]);
      // The runtime may remember it later.
      expect((await agent.call("DEL")).exitCode).toBe(0);
      expect(machine.kernel.links).toHaveLength(1);
    },
  );

  it("leaves the old one while the young one is still being made", async () => {
    const agent = machine.start();
    await agent.call("ADD");
    await agent.cni.endpoints.up({
      key: "k8s-pod-network/c2:eth0",
      hostIface: machine.kernel.links[0]?.hostIface ?? "",
      hostIfIndex: 0,
      ips: [],
    });
    expect(await sweep(agent.cni)).toEqual({ ...nothing, live: 1 });
    expect([...agent.endpoints.keys()]).toEqual(["k8s-pod-network/c2:eth0"]);
  });
});

describe("finishReleases()", () => {
  const inUse = (): number => machine.addresses.held.length;

  it("gives back what a DEL had to leave, when the datastore is there again, and leaves the living alone", async () => {
    machine.kernel.addNetns("/run/netns/c2");
    const agent = machine.start();
    await agent.call("ADD");
    await agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2", args: "" });
    machine.addresses.away = new IPAMError("Datastore", "down");
    expect(await agent.call("DEL")).toMatchObject({ exitCode: 0 });
    machine.addresses.away = undefined;
    const next = machine.start();
    await finishReleases(next.cni);
    // Left a moment ago: the datastore may still be away.
    expect(inUse()).toBe(2);
    await machine.clock.advance(10_000);
    await finishReleases(next.cni);
    expect(inUse()).toBe(1);
    expect([...(await next.cni.records.list())]).toHaveLength(1);
  });

  it("undoes what a killed process had half made, and nothing of one that runs", async () => {
    const other = machine.start();
    machine.addresses.assign = () => new Promise(() => {});
    void other.call("ADD");
    const { cni } = machine.start();
    while ((await cni.records.list()).length === 0) await new Promise(setImmediate);
    await finishReleases(cni);
    expect(await cni.records.list()).toHaveLength(1);
    machine.kill(other.executor);
    await finishReleases(cni);
    expect(await cni.records.list()).toEqual([]);
  });
});
