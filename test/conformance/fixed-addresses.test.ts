// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ApiServer, createApiServer } from "../../src/apiserver/api-server.ts";
import type { CNI } from "../../src/cni/commands/cni.ts";
import { execute } from "../../src/cni/executor.ts";
import { CONF, FakeMachine } from "../../src/cni/fake-cni.ts";
import { NODES, PODS } from "../../src/crds/core.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { IP_POOLS } from "../../src/crds/ip-pool.ts";
import { IP_RESERVATIONS } from "../../src/crds/ip-reservation.ts";
import { IPAM_BLOCKS } from "../../src/crds/ipam-block.ts";
import { IPAM_CONFIGS } from "../../src/crds/ipam-config.ts";
import { IPAM_HANDLES } from "../../src/crds/ipam-handle.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { type Allocator, createAllocator } from "../../src/ipam/allocator/allocator.ts";
import { checkBlock } from "../../src/ipam/check-block.ts";
import { heldAddresses } from "../../src/ipam/gc/addresses.ts";
import { KubeStore } from "../../src/ipam/kube-store.ts";
import { releaseHeld } from "../../src/ipam/release-held.ts";
import { sourcesOf } from "../../src/ipam/sources.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { ClusterCache } from "../../src/kube/cluster-cache.ts";
import { liveHolders } from "../../src/kube/holder-source.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { podSource } from "../../src/kube/pod-source.ts";
import { systemClock as clock } from "../../src/lib/system-clock.ts";
import { formatIP } from "../../src/net/ip.ts";

/** Fixed addresses over a real API server: what agents watch, ask and write; only the kernel is a fake. */

const NAMES = ["node-a", "node-b"] as const;
type NodeName = (typeof NAMES)[number];
const head = (kind: string, name: string) => ({ apiVersion: "crd.projectcalico.org/v1", kind, metadata: { name } });

interface Agent {
  readonly machine: FakeMachine;
  readonly cache: ClusterCache;
  readonly allocator: Allocator;
  readonly cni: CNI;
}

let server: ApiServer;
let dir: string;
let client: HTTPKubeClient;
let agents: Record<NodeName, Agent>;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "gingham-fixed-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

beforeEach(async () => {
  server = await createApiServer({ manifests: KINDS.map(renderCRD) });
  const kubeconfigPath = join(dir, "kubeconfig");
  writeFileSync(kubeconfigPath, server.adminKubeconfig(), { mode: 0o600 });
  client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }), clock });
  for (const name of NAMES) await client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name } });
  await client.create(IP_POOLS, { ...head("IPPool", "many"), spec: { cidr: "10.0.0.0/26", blockSize: 28 } });
  await client.create(IP_POOLS, { ...head("IPPool", "single"), spec: { cidr: "10.0.1.0/30", blockSize: 32 } });
  await reserve("web", "StatefulSet", ["10.0.0.20/31"]);
  await reserve("db", "StatefulSet", ["10.0.1.0/30"]);
  agents = { "node-a": await startAgent("node-a"), "node-b": await startAgent("node-b") };
});
afterEach(async () => {
  for (const { spec } of (await client.list(IPAM_BLOCKS)).items) expect(checkBlock(spec, clock.nowMs())).toEqual([]);
  const owners = new Set((await held()).map(({ handleID }) => handleID));
  const handles = (await client.list(IPAM_HANDLES)).items.map(({ spec }) => spec.handleID);
  expect(new Set(handles)).toEqual(owners);
  for (const { machine, cache, allocator } of Object.values(agents)) {
    allocator.close();
    await cache.stop();
    machine[Symbol.dispose]();
  }
  client.close();
  await server.close();
});

async function startAgent(nodeName: NodeName): Promise<Agent> {
  const machine = new FakeMachine();
  const { random } = Math;
  const cache = new ClusterCache({ client, nodeName, clock, random, onError: () => {} });
  cache.start();
  const store = new KubeStore(client);
  const sources = sourcesOf(cache.ipamObjects(), nodeName);
  const allocator = createAllocator({ store, sources, clock, random, nodeName });
  const { cni } = machine.start();
  await cache.allocationSynced;
  return {
    ...{ machine, cache, allocator },
    cni: {
      ...cni,
      clock,
      addresses: allocator,
      host: { ...cni.host, nodeName },
      pods: podSource(cache.pods, client),
      reservations: cache.reservationSource(),
      holders: {
        ...liveHolders(client),
        routed: async () => new Set(),
        takeAway: (address) => releaseHeld({ store, clock, random }, address),
      },
    },
  };
}

async function reserve(owner: string, kind: string, reservedCIDRs: readonly string[]): Promise<void> {
  const labels = {
    "gingham.dev/owner-kind": kind,
    "gingham.dev/owner-namespace": "default",
    "gingham.dev/owner-name": owner,
  };
  const reservation = head("IPReservation", `${owner}-addresses`);
  const metadata = { ...reservation.metadata, labels };
  await client.create(IP_RESERVATIONS, { ...reservation, metadata, spec: { reservedCIDRs } });
}

/** Makes a pod as a StatefulSet's controller and the scheduler do. @returns its UID */
async function createPod(name: string, nodeName: NodeName): Promise<string> {
  const set = name.replace(/-\d+$/, "");
  const owner = { apiVersion: "apps/v1", kind: "StatefulSet", name: set, uid: set, controller: true };
  const metadata = { name, namespace: "default", ownerReferences: [owner] };
  const spec = { nodeName, containers: [{ name: "main", image: "x" }] };
  const pod = await client.create(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec }, { namespace: "default" });
  return pod.metadata.uid ?? "";
}

function deletePod(name: string): Promise<void> {
  return client.delete(PODS, name, { namespace: "default" });
}

async function call(node: NodeName, command: string, container: string, pod: string, uid: string): Promise<string> {
  const { cni, machine } = agents[node];
  if (command === "ADD") machine.kernel.addNetns(`/run/netns/${container}`);
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_IFNAME: "eth0",
    CNI_NETNS: `/run/netns/${container}`,
    CNI_ARGS: `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod};K8S_POD_UID=${uid}`,
  };
  const { stdout } = await execute(cni, env, JSON.stringify(CONF));
  if (stdout === "") return "";
  const answer = JSON.parse(stdout) as { ips?: { address: string }[]; code?: number; msg?: string };
  return answer.ips?.map(({ address }) => address).join() ?? `${answer.code}: ${answer.msg}`;
}

async function held(): Promise<ReturnType<typeof heldAddresses>> {
  return (await client.list(IPAM_BLOCKS)).items.flatMap(({ spec }) => heldAddresses(spec));
}

async function whereIs(ip: string): Promise<readonly (string | undefined)[]> {
  return (await held()).filter((address) => formatIP(address.ip) === ip).map(({ attributes }) => attributes["node"]);
}

async function setStrictAffinity(): Promise<void> {
  const spec = { strictAffinity: true, autoAllocateBlocks: true, maxBlocksPerHost: 0 };
  const more = { kubeVirtVMAddressPersistence: "Enabled", ipCooldownSeconds: 0 } as const;
  await client.create(IPAM_CONFIGS, { ...head("IPAMConfig", "default"), spec: { ...spec, ...more } });
  for (const name of NAMES) {
    const sources = sourcesOf(agents[name].cache.ipamObjects(), name);
    await expect.poll(async () => (await sources.settings()).strictAffinity).toBe(true);
  }
}

describe("the addresses of a StatefulSet", () => {
  it("are given to nobody else, though the pools are full, and to its pods by ordinal", async () => {
    const outcomes: string[] = [];
    for (let i = 0; i < 64; i++) {
      const name = `app${i}-0`;
      outcomes.push(
        await call(i % 2 === 0 ? "node-a" : "node-b", "ADD", `c${i}`, name, await createPod(name, "node-a")),
      );
    }
    expect(outcomes.filter((outcome) => outcome.startsWith("10.0.0."))).toHaveLength(62);
    expect(outcomes.filter((outcome) => outcome.startsWith("101: "))).toHaveLength(2);
    expect([...(await whereIs("10.0.0.20")), ...(await whereIs("10.0.0.21")), ...(await whereIs("10.0.1.0"))]).toEqual(
      [],
    );
    expect(await call("node-a", "ADD", "w1", "web-1", await createPod("web-1", "node-a"))).toBe("10.0.0.21/32");
    expect(await call("node-b", "ADD", "w0", "web-0", await createPod("web-0", "node-b"))).toBe("10.0.0.20/32");
    expect(await call("node-b", "ADD", "w2", "web-2", await createPod("web-2", "node-b"))).toMatch(
      /^101: IPReservation web-addresses has no IPv4 address for pod default\/web-2/,
    );
  });

  it.each([
    ["out of a block of several, which lends it", "web-0", "10.0.0.20"],
    ["with its block of one address", "db-3", "10.0.1.3"],
  ])("move with a pod that was deleted by force: %s", async (_what, name, ip) => {
    const first = await createPod(name, "node-a");
    expect(await call("node-a", "ADD", "c1", name, first)).toBe(`${ip}/32`);
    await deletePod(name);
    const second = await createPod(name, "node-b");
    expect(await call("node-b", "ADD", "c2", name, second)).toBe(`${ip}/32`);
    expect(await whereIs(ip)).toEqual(["node-b"]);
    // The late DEL of the lost node frees nothing.
    expect(await call("node-a", "DEL", "c1", name, first)).toBe("");
    expect(await whereIs(ip)).toEqual(["node-b"]);
    expect(await call("node-b", "DEL", "c2", name, second)).toBe("");
    expect(await whereIs(ip)).toEqual([]);
  });

  it("move also where nothing may be borrowed, when each has a block of its own", async () => {
    await setStrictAffinity();
    for (const [name, ip] of [
      ["db-0", "10.0.1.0/32"],
      ["web-0", "10.0.0.20/32"],
    ] as const) {
      expect(await call("node-a", "ADD", name, name, await createPod(name, "node-a"))).toBe(ip);
      await deletePod(name);
    }
    expect(await call("node-b", "ADD", "c2", "db-0", await createPod("db-0", "node-b"))).toBe("10.0.1.0/32");
    expect(await call("node-b", "ADD", "c3", "web-0", await createPod("web-0", "node-b"))).toMatch(
      /^101: Address 10\.0\.0\.20 of IPPool \S+ is in block 10\.0\.0\.16\/28 of host:node-a, and strictAffinity of IPAMConfig default/,
    );
  });

  it("stay while the pod is not deleted, until its node is out of service", async () => {
    const uid = await createPod("web-0", "node-a");
    await call("node-a", "ADD", "c1", "web-0", uid);
    // As if a kubelet ran a pod that is another node's.
    expect(await call("node-b", "ADD", "c2", "web-0", uid)).toMatch(
      /^11: Address 10\.0\.0\.20 .* is still held by pod default\/web-0 on node node-a .*\(kubectl taint nodes node-a /,
    );
    expect(await whereIs("10.0.0.20")).toEqual(["node-a"]);
    const node = await client.get(NODES, "node-a");
    const taints = [{ key: "node.kubernetes.io/out-of-service", value: "nodeshutdown", effect: "NoExecute" }];
    await client.update(NODES, { ...node, spec: { taints } });
    expect(await call("node-b", "ADD", "c2", "web-0", uid)).toBe("10.0.0.20/32");
    expect(await whereIs("10.0.0.20")).toEqual(["node-b"]);
  });

  it("go to one of two nodes that want them at once", async () => {
    const annotations = { "cni.projectcalico.org/ipAddrs": '["10.0.0.40"]' };
    const wanted = await Promise.all(
      NAMES.map(async (nodeName, i) => {
        const metadata = { name: `same-${i}`, namespace: "default", annotations };
        const spec = { nodeName, containers: [{ name: "main", image: "x" }] };
        const pod = { apiVersion: "v1", kind: "Pod", metadata, spec };
        const { uid = "" } = (await client.create(PODS, pod, { namespace: "default" })).metadata;
        return await call(nodeName, "ADD", `s${i}`, metadata.name, uid);
      }),
    );
    expect(wanted.filter((outcome) => outcome === "10.0.0.40/32")).toHaveLength(1);
    expect(wanted.filter((outcome) => outcome.startsWith("11: Address 10.0.0.40 of pod default/same-"))).toHaveLength(
      1,
    );
    expect(await whereIs("10.0.0.40")).toHaveLength(1);
  });
});
