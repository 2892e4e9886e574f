// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ApiServer, createApiServer } from "../../src/apiserver/api-server.ts";
import type { CNI } from "../../src/cni/commands/cni.ts";
import { execute } from "../../src/cni/executor.ts";
import { CONF, FakeMachine } from "../../src/cni/fake-cni.ts";
import type { PodStatusOutcome } from "../../src/cni/pod-status/ports.ts";
import { PodStatusQueue } from "../../src/cni/pod-status/queue.ts";
import { repair } from "../../src/cni/pod-status/repair.ts";
import { announce } from "../../src/cni/reconcile.ts";
import { projectPodFacts } from "../../src/controller/projections.ts";
import { NODES, PODS, type Pod } from "../../src/crds/core.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { Informer } from "../../src/kube/informer.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { podSource, projectPod } from "../../src/kube/pod-source.ts";
import { knownPods, kubePodStatus } from "../../src/kube/pod-status.ts";
import { systemClock as clock } from "../../src/lib/system-clock.ts";

/** Pods' annotations over a real API server, with the rights of a node; only kernel and addresses are fakes. */

interface Agent {
  readonly cni: CNI;
  readonly queue: PodStatusQueue;
  readonly client: HTTPKubeClient;
  readonly outcomes: PodStatusOutcome[];
  readonly logged: string[];
}

let dir: string;
let server: ApiServer;
let admin: HTTPKubeClient;
let machine: FakeMachine;
let agents: Agent[];

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "gingham-pod-status-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

beforeEach(async () => {
  server = await createApiServer();
  admin = await connect(server.adminKubeconfig());
  machine = new FakeMachine();
  agents = [];
  for (const name of ["node-a", "node-b"]) {
    await admin.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name } });
  }
});
afterEach(async () => {
  for (const { queue, client } of agents) {
    await queue.drain(1000);
    client.close();
  }
  machine[Symbol.dispose]();
  admin.close();
  await server.close();
});

async function connect(kubeconfig: string): Promise<HTTPKubeClient> {
  const kubeconfigPath = join(dir, "kubeconfig");
  writeFileSync(kubeconfigPath, kubeconfig, { mode: 0o600 });
  return new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }), clock });
}

/** An agent of node-a, with the credentials of some node. */
async function startAgent(credentialsOf = "node-a"): Promise<Agent> {
  const client = await connect(server.nodeKubeconfig(credentialsOf));
  const outcomes: PodStatusOutcome[] = [];
  const logged: string[] = [];
  const at = (level: string) => (_: object, message: string) => void logged.push(`${level} ${message}`);
  const queue = new PodStatusQueue({
    store: kubePodStatus(client),
    clock,
    random: Math.random,
    log: { debug: () => {}, info: at("info"), warn: at("warn"), error: at("error") },
    metrics: { podStatus: (outcome) => void outcomes.push(outcome), podStatusWaiting: () => {} },
  });
  const { cni } = machine.start();
  const agent = {
    ...{ queue, client, outcomes, logged },
    cni: { ...cni, clock, pods: podSource(undefined, client), podStatus: queue },
  };
  agents.push(agent);
  return agent;
}

async function createPod(name: string): Promise<string> {
  const spec = { nodeName: "node-a", containers: [{ name: "main", image: "x" }] };
  const metadata = { name, namespace: "default", annotations: { kept: "yes" } };
  const pod = await admin.create(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec });
  return pod.metadata.uid ?? "";
}

async function call({ cni }: Agent, command: string, container: string, pod: string, uid: string): Promise<string> {
  if (command === "ADD") machine.kernel.addNetns(`/run/netns/${container}`);
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_IFNAME: "eth0",
    CNI_NETNS: `/run/netns/${container}`,
    CNI_ARGS: `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod};K8S_POD_UID=${uid}`,
  };
  const { stdout, errorCode } = await execute(cni, env, JSON.stringify(CONF));
  expect([errorCode, stdout.includes('"code"')]).toEqual([0, false]);
  return stdout === "" ? "" : ((JSON.parse(stdout) as { ips: { address: string }[] }).ips[0]?.address ?? "");
}

async function read(name: string): Promise<Pod> {
  return await admin.get(PODS, name, { namespace: "default" });
}

function annotations(podIP: string, containerID: string) {
  return {
    kept: "yes",
    "cni.projectcalico.org/podIP": podIP,
    "cni.projectcalico.org/podIPs": podIP,
    "cni.projectcalico.org/containerID": containerID,
  };
}

async function expectAnnotations(name: string, expected: object): Promise<void> {
  await expect.poll(async () => (await read(name)).metadata.annotations, { timeout: 10_000 }).toEqual(expected);
}

describe("an agent with the rights of its node", () => {
  it("annotates a pod after ADD and empties it after DEL, and the collector reads what it wrote", async () => {
    const agent = await startAgent();
    const uid = await createPod("web-0");
    const address = await call(agent, "ADD", "c1", "web-0", uid);
    expect((await read("web-0")).metadata.annotations).toEqual({ kept: "yes" });
    await expectAnnotations("web-0", annotations(address, "c1"));
    expect(projectPodFacts(await read("web-0")).addresses).toEqual([address.replace("/32", "")]);
    await call(agent, "DEL", "c1", "web-0", uid);
    await expectAnnotations("web-0", annotations("", "c1"));
    expect(projectPodFacts(await read("web-0")).addresses).toEqual([]);
    expect([agent.outcomes, agent.logged]).toEqual([["written", "written"], []]);
  });

  it("leaves the annotations of a newer sandbox, and those of the next pod of that name, alone", async () => {
    const agent = await startAgent();
    const uid = await createPod("web-0");
    await call(agent, "ADD", "c1", "web-0", uid);
    await expect.poll(() => agent.outcomes.length).toBe(1);
    const second = await call(agent, "ADD", "c2", "web-0", uid);
    await call(agent, "DEL", "c1", "web-0", uid);
    await expectAnnotations("web-0", annotations(second, "c2"));
    await admin.delete(PODS, "web-0", { namespace: "default" });
    await createPod("web-0");
    await call(agent, "DEL", "c2", "web-0", uid);
    await expect.poll(() => agent.outcomes.at(-1)).toBe("unneeded");
    expect((await read("web-0")).metadata.annotations).toEqual({ kept: "yes" });
  });

  it("gets through while others write the pod's status all the time", async () => {
    const agent = await startAgent();
    const uid = await createPod("web-0");
    const address = await call(agent, "ADD", "c1", "web-0", uid);
    await expectAnnotations("web-0", annotations(address, "c1"));
    let isOver = false;
    const kubelet = (async () => {
      for (let i = 0; !isOver; i++) {
        const body = { status: { message: String(i) } };
        await admin.patch(PODS, "web-0", { type: "strategic", body }, { namespace: "default", subresource: "status" });
        await new Promise((resolve) => setTimeout(resolve, 3));
      }
    })();
    await call(agent, "DEL", "c1", "web-0", uid);
    await expectAnnotations("web-0", annotations("", "c1"));
    isOver = true;
    await kubelet;
  });

  it("repairs after its start what the agent before did not come to", async () => {
    const before = await startAgent();
    const { podStatus: _, ...dying } = before.cni;
    const [uid, uidOfGone] = [await createPod("web-0"), await createPod("gone-0")];
    await call(before, "ADD", "g1", "gone-0", uidOfGone);
    await expect.poll(() => before.outcomes).toEqual(["written"]);
    const address = await call({ ...before, cni: dying }, "ADD", "c1", "web-0", uid);
    await call({ ...before, cni: dying }, "DEL", "g1", "gone-0", uidOfGone);

    const after = await startAgent();
    await announce(after.cni);
    const informer = new Informer({
      ...{ client: after.client, resource: PODS, project: projectPod, clock, random: Math.random },
      fieldSelector: "spec.nodeName=node-a",
    });
    informer.start();
    // Records of before this moment are old enough to be compared.
    const later = { ...clock, nowMs: () => clock.nowMs() + 60_000 };
    const options = {
      queue: after.queue,
      pods: knownPods(informer),
      routed: async () => new Set<string>(),
      random: () => 0,
    };
    expect(await repair({ ...options, cni: { ...after.cni, clock: later } })).toBe(2);
    await expectAnnotations("web-0", annotations(address, "c1"));
    await expectAnnotations("gone-0", annotations("", "g1"));
    await expect.poll(() => repair({ ...options, cni: { ...after.cni, clock: later } })).toBe(0);
    await informer.stop();
  });
});

it("An agent without the right adds and deletes pods as ever, and says once which right it lacks", async () => {
  const agent = await startAgent("node-b");
  for (const i of [1, 2, 3]) {
    const uid = await createPod(`web-${i}`);
    expect(await call(agent, "ADD", `c${i}`, `web-${i}`, uid)).toMatch(/^10\./);
  }
  await expect.poll(() => agent.outcomes.length).toBeGreaterThanOrEqual(2);
  expect(new Set(agent.outcomes)).toEqual(new Set(["forbidden"]));
  expect(agent.logged).toEqual([expect.stringMatching(/^error .* lacks patch on pods\/status; grant it/)]);
  expect((await read("web-1")).metadata.annotations).toEqual({ kept: "yes" });
});
