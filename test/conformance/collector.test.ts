// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type ApiServer, createApiServer } from "../../src/apiserver/api-server.ts";
import { NodeCollector } from "../../src/cni/collect/collect.ts";
import { FakeMachine } from "../../src/cni/fake-cni.ts";
import { Collector } from "../../src/controller/collector.ts";
import { EVENT_NAMESPACE } from "../../src/controller/event.ts";
import { KubeSource } from "../../src/controller/kube-source.ts";
import { createControllerMetrics } from "../../src/controller/metrics.ts";
import { createReporter } from "../../src/controller/reporter.ts";
import { BLOCK_AFFINITIES } from "../../src/crds/block-affinity.ts";
import { CLUSTER_INFORMATIONS } from "../../src/crds/cluster-information.ts";
import { EVENTS, NODES, PODS } from "../../src/crds/core.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { IP_POOLS } from "../../src/crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../../src/crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../src/crds/ipam-handle.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { KUBE_CONTROLLERS_CONFIGURATIONS } from "../../src/crds/kube-controllers-configuration.ts";
import { TUNNEL_KINDS, tunnelClaim } from "../../src/felix/calc/tunnel-address.ts";
import { type Allocator, createAllocator } from "../../src/ipam/allocator/allocator.ts";
import { heldAddresses } from "../../src/ipam/gc/addresses.ts";
import { podAttributes } from "../../src/ipam/gc/fake-cluster.ts";
import { KubeStore, listedObjects } from "../../src/ipam/kube-store.ts";
import { deleteOrphanHandle } from "../../src/ipam/release.ts";
import { sourcesOf } from "../../src/ipam/sources.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { nodeBlocks } from "../../src/kube/node-blocks.ts";
import { systemClock as clock } from "../../src/lib/system-clock.ts";
import { formatIP, type IP, parseIP } from "../../src/net/ip.ts";

const NODE_NAMES = ["node-a", "node-b", "node-c"] as const;
const PODS_EACH = 5;
const GRACE_MS = 2000;
const head = (kind: string, name: string) => ({
  apiVersion: "crd.projectcalico.org/v1",
  kind,
  metadata: { name },
});

/** A cluster of three nodes whose pods have their addresses by the allocator that agents use. */
class Cluster {
  readonly client: HTTPKubeClient;
  readonly stop: AbortController = new AbortController();
  readonly log: string[] = [];
  readonly metrics: ReturnType<typeof createControllerMetrics> = createControllerMetrics();
  readonly #server: ApiServer;
  readonly #dir: string;
  #running: Promise<unknown> = Promise.resolve();

  private constructor(server: ApiServer, dir: string, client: HTTPKubeClient) {
    this.#server = server;
    this.#dir = dir;
    this.client = client;
  }

  static async start(): Promise<Cluster> {
    const server = await createApiServer({ manifests: KINDS.map(renderCRD) });
    const dir = mkdtempSync(join(tmpdir(), "gingham-collector-"));
    const kubeconfigPath = join(dir, "kubeconfig");
    writeFileSync(kubeconfigPath, server.adminKubeconfig(), { mode: 0o600 });
    const client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }), clock });
    const cluster = new Cluster(server, dir, client);
    await client.create(IP_POOLS, { ...head("IPPool", "pool"), spec: { cidr: "10.0.0.0/24", blockSize: 28 } });
    await client.create(KUBE_CONTROLLERS_CONFIGURATIONS, {
      ...head("KubeControllersConfiguration", "default"),
      spec: { controllers: { node: { leakGracePeriod: `${GRACE_MS}ms` } } },
    });
    await client.create(CLUSTER_INFORMATIONS, {
      ...head("ClusterInformation", "default"),
      spec: { datastoreReady: true },
    });
    for (const name of NODE_NAMES) await client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name } });
    return cluster;
  }

  /** Pods with addresses, published as a kubelet does. */
  async addPods(node: string): Promise<void> {
    const allocator = this.allocator(node);
    for (let i = 0; i < PODS_EACH; i++) {
      const name = `${node}-pod-${i}`;
      const container = { name: "main", image: "gingham.example/test" };
      const spec: { nodeName: string; containers: readonly object[] } = { nodeName: node, containers: [container] };
      const metadata = { name, namespace: "default" };
      const pod = await this.client.create(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec });
      const attributes = podAttributes(node, name);
      const [allocation] = await allocator.assign({ handleID: `net.${name}`, attributes, families: [4] });
      if (allocation === undefined) throw new Error("no address");
      const podIP = formatIP(allocation.ip);
      const status = { phase: "Running", podIP, podIPs: [{ ip: podIP }] };
      await this.client.update(PODS, { ...pod, status }, { subresource: "status" });
    }
    allocator.close();
  }

  /** A deleted node, whose pods are deleted by somebody else. */
  async removeNode(node: string): Promise<void> {
    await this.client.delete(NODES, node);
    for (let i = 0; i < PODS_EACH; i++) await this.client.delete(PODS, `${node}-pod-${i}`, { namespace: "default" });
  }

  allocator(nodeName: string): Allocator {
    return createAllocator({
      store: new KubeStore(this.client),
      sources: sourcesOf(listedObjects(this.client, nodeName), nodeName),
      clock,
      random: Math.random,
      nodeName,
    });
  }

  collect({ isDryRun = false } = {}): void {
    const { client } = this;
    const source = new KubeSource({ client, clock, random: Math.random, onError: (e) => this.log.push(String(e)) });
    source.start();
    const write = (fields: object, message: string) => void this.log.push(`${message} ${JSON.stringify(fields)}`);
    const reporter = createReporter({
      log: { info: write, warn: write, error: write },
      metrics: this.metrics,
      emit: async (event) => void (await client.create(EVENTS, event, { namespace: EVENT_NAMESPACE })),
      clock,
      instance: "test",
    });
    const collector = new Collector({
      source,
      store: new KubeStore(client),
      reporter,
      clock,
      random: Math.random,
      isDryRun,
      requestsPerSecond: 1000,
      minHandleGraceMs: 0,
    });
    this.#running = (async (): Promise<void> => {
      await collector.run(this.stop.signal);
      await source.stop();
    })();
  }

  /** The network of a node's block. */
  async blockOf(node: string): Promise<string> {
    const { items } = await this.client.list(IPAM_BLOCKS);
    return items.find(({ spec }) => spec.affinity === `host:${node}`)?.spec.cidr ?? "";
  }

  async addresses(): Promise<IP[]> {
    return (await this.client.list(IPAM_BLOCKS)).items.flatMap(({ spec }) => heldAddresses(spec).map(({ ip }) => ip));
  }

  /** Addresses in use, by node. */
  async held(): Promise<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const { spec } of (await this.client.list(IPAM_BLOCKS)).items) {
      for (const { attributes } of heldAddresses(spec)) {
        const node = attributes["node"] ?? "";
        counts[node] = (counts[node] ?? 0) + 1;
      }
    }
    return counts;
  }

  async handles(): Promise<string[]> {
    return (await this.client.list(IPAM_HANDLES)).items.map(({ spec }) => spec.handleID);
  }

  async owners(): Promise<string[]> {
    return (await this.client.list(BLOCK_AFFINITIES)).items.map(({ spec }) => spec.node).sort();
  }

  async close(): Promise<void> {
    this.stop.abort(new Error("the test is over"));
    await this.#running;
    this.client.close();
    await this.#server.close();
    rmSync(this.#dir, { recursive: true });
  }
}

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.start();
  for (const node of NODE_NAMES) await cluster.addPods(node);
});
afterEach(() => cluster.close());

const patience = { timeout: 30_000, interval: 200 };

describe("NodeCollector against the embedded API server, without a controller", () => {
  it("deletes this node's handles without addresses, and no others", async () => {
    const { client } = cluster;
    const own = await cluster.blockOf("node-a");
    const others = await cluster.blockOf("node-b");
    const orphans = { "net.late": own, "net.gone": "10.0.9.0/28", "net.theirs": others };
    for (const [handleID, cidr] of Object.entries(orphans))
      await client.create(IPAM_HANDLES, {
        ...head("IPAMHandle", handleID),
        spec: { handleID, block: { [cidr]: 1 }, deleted: false },
      });
    using machine = new FakeMachine();
    const store = new KubeStore(client);
    const sources = sourcesOf(listedObjects(client, "node-a"), "node-a");
    const collector = new NodeCollector({
      cni: { ...machine.start().cni, addresses: cluster.allocator("node-a") },
      blocks: nodeBlocks(client, sources, "node-a", () => {}),
      // Its pods are not known to this agent, which must let them be.
      routed: async () => new Set((await cluster.addresses()).map(formatIP)),
      isDryRun: false,
      deleteHandle: (orphan) => deleteOrphanHandle({ store, clock, random: Math.random }, orphan),
    });
    const { signal } = cluster.stop;
    await collector.look("handles", signal);
    await machine.clock.advance(600_000);
    await collector.look("own", signal);
    const left = await cluster.handles();
    expect(Object.keys(orphans).filter((handleID) => left.includes(handleID))).toEqual(["net.theirs"]);
    expect(await cluster.held()).toEqual({ "node-a": PODS_EACH, "node-b": PODS_EACH, "node-c": PODS_EACH });
    expect(left).toHaveLength(NODE_NAMES.length * PODS_EACH + 1);
  });
});

describe("Collector against the embedded API server", () => {
  it("frees all that a deleted node left, and touches nobody else's", async () => {
    await cluster.removeNode("node-c");
    cluster.collect();
    await vi.waitFor(async () => expect(await cluster.owners()).toEqual(["node-a", "node-b"]), patience);
    expect(await cluster.held()).toEqual({ "node-a": PODS_EACH, "node-b": PODS_EACH });
    expect((await cluster.handles()).filter((handle) => handle.includes("node-c"))).toEqual([]);
    expect((await cluster.client.list(IPAM_BLOCKS)).items.length).toBe(2);
    const events = (await cluster.client.list(EVENTS, { namespace: EVENT_NAMESPACE })).items;
    expect(events.map(({ reason, involvedObject }) => `${reason} ${involvedObject.name}`).sort()).toEqual([
      "FreedAddress node-c",
      "FreedAffinity node-c",
    ]);
    const text = await cluster.metrics.text();
    expect(text).toContain(`ipam_allocations_gc_reclamations{ippool="pool",node="node-c"} ${PODS_EACH}`);
    expect(text).toContain(`ipam_allocations_in_use{ippool="pool",node="node-a"} ${PODS_EACH}`);
    expect(text).toContain('ipam_ippool_size{ippool="pool"} 256');
  });

  it("frees the tunnel addresses of a deleted node in both families, which gets new ones when it comes back", async () => {
    const { client } = cluster;
    await client.create(IP_POOLS, { ...head("IPPool", "six"), spec: { cidr: "fd00::/120", blockSize: 124 } });
    const tunnels = async (node: string): Promise<string[]> => {
      const allocator = cluster.allocator(node);
      const taken = [];
      for (const kind of TUNNEL_KINDS)
        taken.push(await allocator.assign({ ...tunnelClaim(node, kind), families: [kind.family], use: "Tunnel" }));
      allocator.close();
      return taken.flat().map(({ ip }) => formatIP(ip));
    };
    const tunnelHandles = async (node: string): Promise<string[]> =>
      (await cluster.handles()).filter((handle) => handle.endsWith(`-tunnel-addr-${node}`));
    for (const node of ["node-b", "node-c"]) expect(await tunnels(node)).toHaveLength(3);
    await cluster.removeNode("node-c");
    cluster.collect();
    await vi.waitFor(async () => expect(await cluster.owners()).toEqual(["node-a", "node-b", "node-b"]), patience);
    expect(await cluster.held()).toEqual({ "node-a": PODS_EACH, "node-b": PODS_EACH + 3 });
    expect([await tunnelHandles("node-b"), await tunnelHandles("node-c")]).toEqual([expect.any(Array), []]);
    await client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "node-c" } });
    expect(await tunnels("node-c")).toHaveLength(3);
  });

  it("frees leaked addresses and orphan handles, but none that a node calls in use", async () => {
    const { client } = cluster;
    const of = async (name: string) => {
      const { status } = await client.get(PODS, name, { namespace: "default" });
      return status?.podIP ?? "";
    };
    const kept = await of("node-a-pod-0");
    const sources = sourcesOf(listedObjects(client, "node-a"), "node-a");
    const blocks = nodeBlocks(client, sources, "node-a", () => {});
    await blocks.publishInUse([parseIP(kept)], cluster.stop.signal);
    for (const name of ["node-a-pod-0", "node-a-pod-1"]) await client.delete(PODS, name, { namespace: "default" });
    await client.create(IPAM_HANDLES, {
      ...head("IPAMHandle", "net.orphan"),
      spec: { handleID: "net.orphan", block: { "10.0.0.0/28": 1 }, deleted: false },
    });
    cluster.collect();
    await vi.waitFor(async () => {
      expect(await cluster.held()).toEqual({ "node-a": PODS_EACH - 1, "node-b": PODS_EACH, "node-c": PODS_EACH });
      expect(await cluster.handles()).not.toContain("net.orphan");
    }, patience);
    const handles = await cluster.handles();
    expect([handles.includes("net.node-a-pod-0"), handles.includes("net.node-a-pod-1")]).toEqual([true, false]);
    // No longer in use, so it goes, too.
    await blocks.publishInUse([], cluster.stop.signal);
    await vi.waitFor(async () => expect(await cluster.handles()).not.toContain("net.node-a-pod-0"), patience);
  });

  it("frees nothing in a dry run, nor while the datastore is locked", async () => {
    const { client } = cluster;
    await client.delete(PODS, "node-a-pod-0", { namespace: "default" });
    cluster.collect({ isDryRun: true });
    await vi.waitFor(() => expect(cluster.log.join("\n")).toContain("Would be freed"), patience);
    expect((await cluster.held())["node-a"]).toBe(PODS_EACH);
    const information = await client.get(CLUSTER_INFORMATIONS, "default");
    await client.update(CLUSTER_INFORMATIONS, { ...information, spec: { ...information.spec, datastoreReady: false } });
    await vi.waitFor(() => expect(cluster.log.join("\n")).toContain("Nothing is collected"), patience);
    expect((await cluster.held())["node-a"]).toBe(PODS_EACH);
  });
});
