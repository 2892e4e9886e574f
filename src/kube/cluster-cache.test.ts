// SPDX-License-Identifier: Apache-2.0
import { afterEach, describe, expect, it } from "vitest";
import { BLOCK_AFFINITIES } from "../crds/block-affinity.ts";
import { NAMESPACES, NODES } from "../crds/core.ts";
import { IP_RESERVATIONS } from "../crds/ip-reservation.ts";
import { pendingAffinity } from "../ipam/affinity.ts";
import { sourcesOf } from "../ipam/sources.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { ClusterCache } from "./cluster-cache.ts";
import { MemoryClient } from "./memory-client.ts";

const head = (kind: string, name: string) => ({ apiVersion: "crd.projectcalico.org/v1", kind, metadata: { name } });
const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

describe("ClusterCache.ipamObjects()", () => {
  it("knows this node's labels, namespaces' labels and reservations, and the labels of this node's claims alone", async () => {
    const client = new MemoryClient();
    const core = (kind: string, name: string, labels: Record<string, string>) => ({
      apiVersion: "v1",
      kind,
      metadata: { name, labels, annotations: { "cni.projectcalico.org/ipv4pools": '["a"]', "other/key": "long" } },
    });
    await client.create(NODES, core("Node", "node-a", { zone: "west" }));
    await client.create(NODES, core("Node", "node-b", { zone: "east" }));
    await client.create(NAMESPACES, core("Namespace", "default", { team: "x" }));
    await client.create(IP_RESERVATIONS, {
      ...head("IPReservation", "r"),
      spec: { reservedCIDRs: ["10.0.0.0/30"] },
    });
    const labels = {
      "gingham.dev/owner-kind": "Pod",
      "gingham.dev/owner-namespace": "x",
      "gingham.dev/owner-name": "db",
    };
    const owned = { ...head("IPReservation", "owned"), spec: { reservedCIDRs: ["10.0.0.9", "typo"] } };
    await client.create(IP_RESERVATIONS, { ...owned, metadata: { ...owned.metadata, labels } });
    const own = await client.create(BLOCK_AFFINITIES, pendingAffinity("node-a", parseCIDR("10.0.0.0/26")));
    await client.create(BLOCK_AFFINITIES, pendingAffinity("node-b", parseCIDR("10.0.0.64/26")));
    const cache = new ClusterCache({
      client,
      nodeName: "node-a",
      clock: new FakeClock(),
      random: () => 0.5,
      onError: (error) => expect(error).toBeUndefined(),
    });
    cache.start();
    stops.push(() => cache.stop());
    await cache.allocationSynced;
    const sources = sourcesOf(cache.ipamObjects(), "node-a");
    expect(await sources.nodeLabels()).toEqual({ zone: "west" });
    expect(await sources.namespaceLabels("default")).toEqual({ team: "x" });
    expect(cache.namespaces.get("default")?.annotations).toEqual({ "cni.projectcalico.org/ipv4pools": '["a"]' });
    expect((await sources.reservations()).has(parseIP("10.0.0.3"))).toBe(true);
    expect((await sources.reservations()).has(parseIP("10.0.0.9"))).toBe(true);
    expect(await sources.reservations()).toBe(await sources.reservations());
    expect(await cache.reservationSource().owned()).toEqual([
      {
        name: "owned",
        networks: [parseCIDR("10.0.0.9/32")],
        owner: { kind: "Pod", namespace: "x", name: "db", firstOrdinal: "", unreadable: ["typo"] },
      },
    ]);
    expect([...cache.affinities.list()].map(({ metadata }) => metadata.labels)).toEqual([
      own.metadata.labels,
      undefined,
    ]);
    // Made a moment ago, and perhaps not in the cache yet.
    await client.create(NAMESPACES, core("Namespace", "new", { team: "y" }));
    expect(await sources.namespaceLabels("new")).toEqual({ team: "y" });
    expect(await sources.namespaceLabels("none")).toBeUndefined();
  });
});
