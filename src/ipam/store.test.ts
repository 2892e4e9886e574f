// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { CLUSTER_INFORMATIONS } from "../crds/cluster-information.ts";
import { NAMESPACES, NODES } from "../crds/core.ts";
import { IP_POOLS } from "../crds/ip-pool.ts";
import { IP_RESERVATIONS } from "../crds/ip-reservation.ts";
import { DEFAULT_IPAM_CONFIG, type IPAMConfig } from "../crds/ipam-config.ts";
import { kubeErrorOf, UnreachableError } from "../kube/errors.ts";
import { MemoryClient } from "../kube/memory-client.ts";
import { parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { pendingAffinity } from "./affinity.ts";
import { newHandle } from "./handle.ts";
import { KubeStore, listedObjects } from "./kube-store.ts";
import { MemoryStore } from "./memory-store.ts";
import { sourcesOf } from "./sources.ts";
import { describeStore } from "./store.contract.ts";

const TARGET = { verb: "update", resource: "ipamblocks.crd.projectcalico.org" };

function clientWithoutStatus(): MemoryClient {
  const client = new MemoryClient();
  const error = kubeErrorOf(TARGET, { status: 404, reason: "NotFound" });
  client.onCall = (call) => (call.subresource === "status" ? { kind: "fail", error } : undefined);
  return client;
}

describeStore(
  "MemoryStore",
  () => new MemoryStore(),
  () => new MemoryStore({ hasStatus: false }),
);
describeStore(
  "KubeStore",
  () => new KubeStore(new MemoryClient()),
  () => new KubeStore(clientWithoutStatus()),
);

describe("KubeStore", () => {
  it("tells an open outcome from a refusal", async () => {
    const client = new MemoryClient();
    const store = new KubeStore(client);
    const handle = newHandle("net.c1", { "10.0.0.0/26": 1 });
    const failWith = async (error: Error): Promise<string> => {
      client.onCall = () => ({ kind: "fail", error });
      return (await store.create("handle", handle)).kind;
    };
    expect(await failWith(new UnreachableError(TARGET, "timed out"))).toBe("unknown");
    expect(await failWith(kubeErrorOf(TARGET, { status: 500 }))).toBe("unknown");
    expect(await failWith(kubeErrorOf(TARGET, { status: 422 }))).toBe("refused");
    expect(await failWith(kubeErrorOf(TARGET, { status: 403 }))).toBe("refused");
    expect(await failWith(kubeErrorOf(TARGET, { status: 429 }))).toBe("refused");
    await expect(store.get("handle", "net.c1")).rejects.toMatchObject({ code: "Datastore" });
  });

  it("calls a damaged object by its name", async () => {
    const client = new MemoryClient();
    const bad = {
      ...newHandle("net.c1", {}),
      spec: { handleID: "net.c1", block: { "10.0.0.0/26": -1 }, deleted: false },
    };
    const store = new KubeStore(client);
    expect((await store.create("handle", bad)).kind).toBe("unknown");
    await expect(store.get("handle", "net.c1")).rejects.toMatchObject({ code: "BrokenObject" });
  });
});

describe("listedObjects()", () => {
  it("reads pools, settings and this node's affinities, also those without labels", async () => {
    const client = new MemoryClient();
    const sources = sourcesOf(listedObjects(client, "node-a"), "node-a");
    expect(await sources.settings()).toEqual({
      datastoreReady: true,
      autoAllocateBlocks: true,
      strictAffinity: false,
      maxBlocksPerHost: 0,
      ipCooldownMs: 0,
      recordsReleases: false,
    });
    const head = (kind: string, name: string) => ({ apiVersion: "crd.projectcalico.org/v1", kind, metadata: { name } });
    await client.create(CLUSTER_INFORMATIONS, {
      ...head("ClusterInformation", "default"),
      spec: { datastoreReady: false },
    });
    await client.create(IP_POOLS, { ...head("IPPool", "p"), spec: { cidr: "10.0.0.0/16" } });
    expect((await sources.settings()).datastoreReady).toBe(false);
    expect(await sources.pools()).toMatchObject([{ name: "p", blockSize: 26 }]);

    const store = new KubeStore(client);
    const unlabelled = pendingAffinity("node-a", parseCIDR("10.0.0.0/26"));
    await store.create("affinity", { ...unlabelled, metadata: { name: unlabelled.metadata.name } });
    await store.create("affinity", pendingAffinity("node-b", parseCIDR("10.0.0.64/26")));
    expect((await sources.ownAffinities()).map((a) => a.spec.cidr)).toEqual(["10.0.0.0/26"]);
    await store.create("affinity", pendingAffinity("node-a", parseCIDR("10.0.1.0/26")));
    expect((await sources.ownAffinities()).map((a) => a.spec.cidr)).toEqual(["10.0.1.0/26"]);
    // Blocks are all that is known of others, but for one who is just claiming a block.
    expect(await sources.knownBlocks()).not.toContainEqual(parseCIDR("10.0.0.64/26"));
    const [claim] = await sources.ownAffinities();
    expect(await sources.knownBlocks(claim)).toContainEqual(parseCIDR("10.0.0.64/26"));
  });

  it("reads reservations, and the labels of the node and of a namespace", async () => {
    const client = new MemoryClient();
    const sources = sourcesOf(listedObjects(client, "node-a"), "node-a");
    expect(await sources.nodeLabels()).toBeUndefined();
    expect(await sources.namespaceLabels("default")).toBeUndefined();
    expect((await sources.reservations()).has(parseIP("10.0.0.1"))).toBe(false);
    const labels = { zone: "west" };
    const core = (kind: string, name: string) => ({ apiVersion: "v1", kind, metadata: { name, labels } });
    await client.create(NODES, core("Node", "node-a"));
    await client.create(NAMESPACES, core("Namespace", "default"));
    await client.create(IP_RESERVATIONS, {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "IPReservation",
      metadata: { name: "r" },
      spec: { reservedCIDRs: [" 10.0.0.0/30 ", "10.0.0.9", "nonsense"] },
    });
    expect([await sources.nodeLabels(), await sources.namespaceLabels("default")]).toEqual([labels, labels]);
    const reservations = await sources.reservations();
    const reserved = ["10.0.0.3", "10.0.0.4", "10.0.0.9"].map((ip) => reservations.has(parseIP(ip)));
    expect(reserved).toEqual([true, false, true]);
  });

  it("records releases where a cooldown is set and the CRD keeps them; where it does not, what is recorded is over", async () => {
    const config = (ipCooldownSeconds: number): IPAMConfig => ({
      ...{ apiVersion: "crd.projectcalico.org/v1", kind: "IPAMConfig", metadata: { name: "default" } },
      spec: { ...DEFAULT_IPAM_CONFIG, ipCooldownSeconds },
    });
    const cases: readonly (readonly [number, boolean | undefined, number, boolean])[] = [
      [0, true, 0, false],
      [60, true, 60_000, true],
      [60, false, 0, false],
      [60, undefined, 60_000, false],
    ];
    for (const [seconds, keeps, ipCooldownMs, recordsReleases] of cases) {
      const objects = listedObjects(new MemoryClient(), "node-a");
      const told = { ...objects, ipamConfig: () => config(seconds), keepsReleasedAt: () => keeps };
      expect(await sourcesOf(told, "node-a").settings()).toMatchObject({ ipCooldownMs, recordsReleases });
    }
  });

  it("keeps one Reservations while the objects are the same", async () => {
    const networks = [[parseCIDR("10.0.0.0/30")], [parseCIDR("10.0.0.8/32")]];
    const none = { clusterInformation: () => undefined, ipamConfig: () => undefined, pools: () => [] };
    const labels = { affinities: () => [], nodeLabels: () => undefined, namespaceLabels: () => undefined };
    const sources = sourcesOf({ ...none, ...labels, reservations: () => [...networks] }, "node-a");
    const first = await sources.reservations();
    expect(await sources.reservations()).toBe(first);
    networks.pop();
    expect(await sources.reservations()).not.toBe(first);
  });
});
