// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { encodeEnvelope } from "../../src/cni/server/envelope.ts";
import { Cluster, until } from "./support/crash/cluster.ts";
import { expectNothing, expectWired } from "./support/crash/expectations.ts";
import { type CallResult, Machine, NETWORK, type Sandbox } from "./support/crash/machine.ts";

/** What goes wrong around an agent that lives on: API server, launcher, and runtimes with odd habits. */

let cluster: Cluster;
let machine: Machine;
let other: Machine;
beforeAll(async () => {
  cluster = await Cluster.start(["node", "other"]);
  machine = await Machine.start(cluster, "node");
  other = await Machine.start(cluster, "other");
  await machine.startAgent();
  await cluster.claimed("node");
});
afterAll(async () => {
  for (const each of [machine, other]) await each?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});
afterEach(() => {
  machine.proxy.onWrite = async () => {};
});

let count = 0;

async function createPod(containers: 1): Promise<readonly [Sandbox]>;
async function createPod(containers: 2): Promise<readonly [Sandbox, Sandbox]>;
async function createPod(containers: number): Promise<readonly Sandbox[]> {
  const name = `node-${++count}`;
  await cluster.createPod(name, "node");
  return Array.from({ length: containers }, (_, i) => machine.addSandbox(`${name}-${i}`, name));
}

async function succeed(call: Promise<CallResult>): Promise<void> {
  expect(await call).toMatchObject({ exitCode: 0, stdout: expect.not.stringContaining('"code"') as unknown });
}

/** Tries again as a kubelet does. */
async function retry(verb: "ADD" | "DEL", sandbox: Sandbox): Promise<void> {
  await until(`${verb} succeeds`, async () => (await machine.call(verb, sandbox)).exitCode === 0);
}

/** The agent has seen the end of every connection that ended before now, since it answers in the order of arrival. */
async function expectHungUp(): Promise<void> {
  await succeed(machine.call("VERSION", { containerID: "none", netns: "none" }));
}

async function expectGone(sandbox: Sandbox): Promise<void> {
  await retry("DEL", sandbox);
  await expectNothing(machine);
}

const WRITES = {
  ADD: ["POST ipamhandles", "PUT ipamblocks"],
  DEL: ["PUT ipamblocks", "PUT ipamhandles", "DELETE ipamhandles"],
} as const;
const PHASES = ["before", "after"] as const;

function isWrite(what: string, wanted: string): boolean {
  const [verb = "", plural = ""] = wanted.split(" ");
  return what.startsWith(`${verb} `) && what.includes(`/${plural}`) && !what.endsWith("/status");
}

/** Does something once, when a write is on its way to the server, or its answer on its way back. */
function whenWriting(
  wanted: string,
  phase: "before" | "after",
  act: () => Promise<void>,
): { readonly reached: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let isDone = false;
  machine.proxy.onWrite = async (passing) => {
    if (isDone || passing.phase !== phase || !isWrite(passing.what, wanted)) return;
    isDone = true;
    resolve();
    await act();
  };
  return { reached: promise };
}

const cells = (["ADD", "DEL"] as const).flatMap((verb) =>
  WRITES[verb].flatMap((write) => PHASES.map((phase) => ({ verb, write, phase }))),
);

describe("the API server killed", () => {
  it.each(cells)("in $verb, $phase $write", async ({ verb, write, phase }) => {
    const [sandbox] = await createPod(1);
    if (verb === "DEL") await succeed(machine.call("ADD", sandbox));
    const { reached } = whenWriting(write, phase, async () => {
      await cluster.killServer();
      throw new Error("nobody is there to answer");
    });
    const call = machine.call(verb, sandbox);
    await reached;
    const { exitCode } = await call;
    await cluster.startServer();
    if (verb === "ADD") {
      expect([0, 1]).toContain(exitCode);
      await retry("ADD", sandbox);
      await expectWired(machine, [sandbox]);
    } else expect(exitCode).toBe(0);
    await expectGone(sandbox);
  });
});

describe("the launcher killed", () => {
  it.each(WRITES.ADD.flatMap((write) => PHASES.map((phase) => ({ write, phase }))))(
    "while its ADD is $phase $write: the ADD undoes itself",
    async ({ write, phase }) => {
      const [sandbox] = await createPod(1);
      const held = Promise.withResolvers<void>();
      const { reached } = whenWriting(write, phase, () => held.promise);
      const { child, done } = machine.launch("ADD", sandbox);
      await reached;
      child.kill("SIGKILL");
      await done;
      await expectHungUp();
      held.resolve();
      await expectNothing(machine);
    },
  );

  it.each(WRITES.DEL.flatMap((write) => PHASES.map((phase) => ({ write, phase }))))(
    "while its DEL is $phase $write: the DEL goes on",
    async ({ write, phase }) => {
      const [sandbox] = await createPod(1);
      await succeed(machine.call("ADD", sandbox));
      const held = Promise.withResolvers<void>();
      const { reached } = whenWriting(write, phase, () => held.promise);
      const { child, done } = machine.launch("DEL", sandbox);
      await reached;
      child.kill("SIGKILL");
      await done;
      await expectHungUp();
      held.resolve();
      await expectNothing(machine);
    },
  );

  it("before it reads the answer: the same ADD again has the same answer", async () => {
    const [sandbox] = await createPod(1);
    const held = Promise.withResolvers<void>();
    const { reached } = whenWriting("PUT ipamblocks", "after", () => held.promise);
    const { child, done } = machine.launch("ADD", sandbox);
    await reached;
    child.kill("SIGSTOP");
    held.resolve();
    await expectWired(machine, [sandbox]);
    await until("the record is whole", () =>
      readFileSync(machine.log, "utf8").includes(`"containerID":"${sandbox.containerID}"`),
    );
    child.kill("SIGKILL");
    await done;
    const before = machine.addressesIn(sandbox);
    await succeed(machine.call("ADD", sandbox));
    expect(machine.addressesIn(sandbox)).toEqual(before);
    await expectWired(machine, [sandbox]);
    await expectGone(sandbox);
  });

  it.each([0, 0.5, 0.99])("after it has sent %d of its request: nothing is begun", async (part) => {
    const [{ containerID, netns }] = await createPod(1);
    const env = { CNI_COMMAND: "ADD", CNI_CONTAINERID: containerID, CNI_NETNS: netns, CNI_IFNAME: "eth0" };
    const body = encodeEnvelope({
      env,
      stdin: JSON.stringify({ cniVersion: "1.0.0", name: NETWORK, type: "gingham" }),
    });
    const head = `POST /cni HTTP/1.1\r\nHost: gingham\r\nContent-Length: ${body.length}\r\n\r\n`;
    const request = Buffer.concat([Buffer.from(head), body]);
    const socket = connect(machine.socketPath);
    await new Promise((resolve) => socket.once("connect", resolve));
    await new Promise((resolve) => socket.write(request.subarray(0, Math.floor(request.length * part)), resolve));
    socket.destroy();
    await expectHungUp();
    expect(machine.files()).toEqual([]);
    await expectNothing(machine);
  });
});

describe("a DEL that comes while its ADD runs", () => {
  it.each(WRITES.ADD.flatMap((write) => PHASES.map((phase) => ({ write, phase }))))(
    "$phase $write: the ADD fails, and nothing is left",
    async ({ write, phase }) => {
      const [sandbox] = await createPod(1);
      const held = Promise.withResolvers<void>();
      const { reached } = whenWriting(write, phase, () => held.promise);
      const adding = machine.call("ADD", sandbox);
      await reached;
      const deleting = machine.call("DEL", sandbox);
      // Its launcher has to start first.
      await Promise.race([adding, sleep(300)]);
      held.resolve();
      await succeed(deleting);
      expect(JSON.parse((await adding).stdout)).toMatchObject({ code: 11 });
      await expectNothing(machine);
    },
  );
});

describe("the agent killed while it starts on a new node", () => {
  it("at each point of the claim of its first block: the next one has one block, claimed and owned", async () => {
    const claim = async (at: string): Promise<readonly string[]> => {
      await other.killAgent();
      await cluster.disown("other");
      await other.startAgent(at);
      if (at === "") await until("the claim ends", () => other.points.includes("after update blockaffinities"));
      else expect(await other.agentDied()).toBe("SIGKILL");
      return other.points;
    };
    const points = await claim("");
    expect(points).toEqual(
      ["create blockaffinities", "create ipamblocks", "update blockaffinities"].flatMap((effect) => [
        `before ${effect}`,
        `after ${effect}`,
      ]),
    );
    for (const at of points) {
      expect((await claim(at)).at(-1)).toBe(at);
      await other.startAgent();
      await cluster.claimed("other");
      expect((await cluster.claimsOf("other")).claims).toHaveLength(1);
    }
    await other.killAgent();
  });
});

describe("odd habits", () => {
  it("a late DEL of the old sandbox leaves the new one, whose host interface has the same name", async () => {
    const [old, next] = await createPod(2);
    await succeed(machine.call("ADD", old));
    const links = machine.links();
    await succeed(machine.call("ADD", next));
    expect(machine.links()).toEqual(links);
    await succeed(machine.call("DEL", old));
    await expectWired(machine, [next]);
    await succeed(machine.call("DEL", old));
    await expectWired(machine, [next]);
    await expectGone(next);
  });

  it("a container ID that is used again, without a DEL in between", async () => {
    const [first] = await createPod(1);
    await succeed(machine.call("ADD", first));
    machine.removeSandbox(first);
    const again = machine.addSandbox(first.containerID, first.pod);
    await succeed(machine.call("ADD", again));
    await expectWired(machine, [again]);
    await expectGone(again);
  });

  it("a container ID that is used again, after its DEL", async () => {
    const [sandbox] = await createPod(1);
    for (let round = 0; round < 3; round++) {
      await succeed(machine.call("ADD", sandbox));
      await expectWired(machine, [sandbox]);
      await expectGone(sandbox);
    }
  });

  it("two machines that use the same container name", async () => {
    await other.startAgent();
    const both = [machine, other].map((on) => ({ on, sandbox: on.addSandbox("web") }));
    for (const { on, sandbox } of both) await succeed(on.call("ADD", sandbox));
    const [ours, theirs] = both.map(({ on, sandbox }) => on.addressesIn(sandbox)?.[0]);
    expect(ours).not.toBe(theirs);
    for (const { on, sandbox } of both.slice(0, 1)) await succeed(on.call("DEL", sandbox));
    await expectNothing(machine);
    expect(await cluster.heldBy("other")).toMatchObject([{ ip: theirs }]);
    expect(other.links()).toHaveLength(1);
    for (const { on, sandbox } of both) await succeed(on.call("DEL", sandbox));
    await expectNothing(other);
    expect(await cluster.handles(NETWORK)).toEqual([]);
  });
});
