// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { PODS } from "../../src/crds/core.ts";
import { Cluster, until } from "./support/crash/cluster.ts";
import { expectNothing, expectWired } from "./support/crash/expectations.ts";
import { type CallResult, Machine, type Sandbox } from "./support/crash/machine.ts";

/** A DEL succeeds at once, whatever is away or gone; what it could not give back is given back later. */

/** A second is promised; twenty launchers at once on a busy machine take some time to start. */
const AT_ONCE_MS = 1500;

let cluster: Cluster;
let machine: Machine;
beforeAll(async () => {
  cluster = await Cluster.start(["node"]);
  machine = await Machine.start(cluster, "node");
  await machine.startAgent();
  await cluster.claimed("node");
});
afterAll(async () => {
  await machine?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

let count = 0;

interface Pod {
  readonly name: string;
  readonly sandbox: Sandbox;
}

async function createPod(): Promise<Pod> {
  const name = `node-${++count}`;
  await cluster.createPod(name, "node");
  return { name, sandbox: machine.addSandbox(`${name}-c`, name) };
}

async function addPod(): Promise<Pod> {
  const pod = await createPod();
  await succeed(machine.call("ADD", pod.sandbox));
  return pod;
}

async function succeed(call: Promise<CallResult>): Promise<void> {
  expect(await call).toMatchObject({ exitCode: 0, stdout: expect.not.stringContaining('"code"') as unknown });
}

async function succeedAtOnce(call: Promise<CallResult>, limitMs = AT_ONCE_MS): Promise<void> {
  const result = await call;
  expect(result).toMatchObject({ exitCode: 0, stdout: "" });
  expect(result.tookMs).toBeLessThan(limitMs);
}

/** On a busy machine the launcher may have written a DEL down that the agent is still at. */
const noLinks = (): Promise<void> => until("the links are gone", () => machine.links().length === 0);

/** An agent that starts again works off at once what it owes. */
async function restartAgent(): Promise<void> {
  await machine.killAgent();
  await machine.startAgent();
}

describe.each([
  ["refuses connections", () => machine.proxy.refuse()],
  ["takes connections and never answers", () => machine.proxy.silent()],
] as const)("while the API server %s", (_how, goAway) => {
  afterEach(() => machine.proxy.up());

  it("the link goes, a record keeps what is owed, and the next ADD pays it first", async () => {
    const { sandbox } = await addPod();
    goAway();
    await succeedAtOnce(machine.call("DEL", sandbox));
    await succeedAtOnce(machine.call("DEL", sandbox));
    await noLinks();
    const owed = `attachments/${sandbox.containerID}:eth0.json`;
    await until("a record alone tells what is owed", () => machine.files().join() === owed);
    await machine.proxy.up();
    await succeed(machine.call("ADD", sandbox));
    await expectWired(machine, [sandbox]);
    await succeed(machine.call("DEL", sandbox));
    await expectNothing(machine);
  });

  it("a DEL of what was never added", async () => {
    goAway();
    await succeedAtOnce(machine.call("DEL", machine.addSandbox(`node-${++count}-none`, "nobody")));
    await machine.proxy.up();
    await restartAgent();
    await expectNothing(machine);
  });

  it("a DEL of an ADD that waits for the API server", async () => {
    const { sandbox } = await createPod();
    goAway();
    const adding = machine.call("ADD", sandbox);
    // With nobody to connect to it fails at once, else it hangs.
    await Promise.race([adding, until("the ADD has begun", () => machine.files().length > 0).catch(() => {})]);
    await succeedAtOnce(machine.call("DEL", sandbox));
    await machine.proxy.up();
    expect((await adding).exitCode).toBe(1);
    await restartAgent();
    await expectNothing(machine);
  });

  it("twenty at once", async () => {
    const pods = await Promise.all(Array.from({ length: 20 }, () => addPod()));
    goAway();
    // Twenty processes start at once on two cores, which other tests use as well.
    await Promise.all(pods.map(({ sandbox }) => succeedAtOnce(machine.call("DEL", sandbox), 2 * AT_ONCE_MS)));
    await noLinks();
    await machine.proxy.up();
    await restartAgent();
    await expectNothing(machine);
  });
});

it("while no agent runs, the launcher writes it down, and the next ADD pays it first", async () => {
  const [gone, again] = [(await addPod()).sandbox, (await addPod()).sandbox];
  await machine.killAgent();
  for (const sandbox of [gone, again]) await succeedAtOnce(machine.call("DEL", sandbox));
  expect(machine.files().filter((file) => file.startsWith("pending/"))).toHaveLength(2);
  await machine.startAgent();
  await succeed(machine.call("ADD", again));
  await expectWired(machine, [again]);
  await succeed(machine.call("DEL", again));
  await expectNothing(machine);
});

/** Signals to the agent that stop it and let it go on, as a machine that hangs does. */
describe("while the agent hangs", () => {
  afterEach(() => machine.signalAgent("SIGCONT"));

  it("the launcher writes it down; the agent wakes up to both, and has released once", async () => {
    const pods = [await addPod(), await addPod(), await addPod()];
    machine.signalAgent("SIGSTOP");
    await Promise.all(pods.map(({ sandbox }) => succeedAtOnce(machine.call("DEL", sandbox))));
    // As runtimes do.
    await Promise.all(pods.map(({ sandbox }) => succeedAtOnce(machine.call("DEL", sandbox))));
    expect(machine.files().filter((file) => file.startsWith("pending/"))).toHaveLength(6);
    machine.signalAgent("SIGCONT");
    await expectNothing(machine);
  });

  it("an ADD of the same container that comes after it is left alone", async () => {
    const { sandbox } = await addPod();
    machine.signalAgent("SIGSTOP");
    await succeedAtOnce(machine.call("DEL", sandbox));
    const adding = machine.call("ADD", sandbox);
    await sleep(100);
    machine.signalAgent("SIGCONT");
    await succeed(adding);
    await expectWired(machine, [sandbox]);
    await succeed(machine.call("DEL", sandbox));
    await expectNothing(machine);
  });

  it("and is killed then, the next one does it", async () => {
    const { sandbox } = await addPod();
    machine.signalAgent("SIGSTOP");
    const deleting = machine.call("DEL", sandbox);
    await sleep(100);
    await machine.killAgent();
    await succeedAtOnce(deleting);
    await machine.startAgent();
    await expectNothing(machine);
  });
});

it.each<readonly [string, (pod: Pod) => unknown, object]>([
  ["the namespace is gone", ({ sandbox }) => machine.removeSandbox(sandbox), {}],
  ["the pod object is gone", ({ name }) => cluster.client.delete(PODS, name, { namespace: "default" }), {}],
  ["the configuration names other pools", () => {}, { ipam: { type: "gingham-ipam", ipv4_pools: ["other"] } }],
  ["the configuration names another IPAM, which is not installed", () => {}, { ipam: { type: "nobody-has-this" } }],
  ["the configuration names no IPAM", () => {}, { ipam: undefined }],
  ["the configuration has keys of wrong types", () => {}, { mtu: "big", ipam: { type: "gingham-ipam", subnet: 7 } }],
  ["the configuration is another node's", () => {}, { nodename: "somebody" }],
])("after %s", async (_what, change, conf) => {
  const pod = await addPod();
  await change(pod);
  await succeedAtOnce(machine.call("DEL", pod.sandbox, { conf }));
  await expectNothing(machine);
});
