// SPDX-License-Identifier: Apache-2.0
import { afterEach, describe, expect, it } from "vitest";
import { BLOCK_AFFINITIES } from "../crds/block-affinity.ts";
import { NAMESPACES, NODES } from "../crds/core.ts";
import { IP_RESERVATIONS } from "../crds/ip-reservation.ts";
import { pendingAffinity } from "../ipam/affinity.ts";
import { sourcesOf } from "../ipam/sources.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { type CIDR, parseCIDR } from "../net/cidr.ts";
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

  describe("claims since one of this node's", () => {
    const cidrs = ["10.0.0.0/26", "10.0.0.64/26"].map(parseCIDR);

    async function claimBehindWatch(): Promise<{
      readonly client: MemoryClient;
      readonly clock: FakeClock;
      readonly known: Promise<readonly CIDR[]>;
      readonly release: () => void;
    }> {
      const client = new MemoryClient();
      const clock = new FakeClock();
      const cache = new ClusterCache({ client, nodeName: "node-a", clock, random: () => 0.5, onError: () => {} });
      cache.start();
      stops.push(() => cache.stop());
      await cache.allocationSynced;
      await clock.advance(0);
      const held = Promise.withResolvers<undefined>();
      client.onCall = ({ verb }) => (verb === "watch" ? held.promise : undefined);
      client.endWatches();
      await clock.advance(0);
      const [theirs, ours] = cidrs.map((cidr, i) => pendingAffinity(`node-${i === 0 ? "b" : "a"}`, cidr));
      if (theirs === undefined || ours === undefined) throw new Error("two claims");
      await client.create(BLOCK_AFFINITIES, theirs);
      const claim = await client.create(BLOCK_AFFINITIES, ours);
      const sources = sourcesOf(cache.ipamObjects(), "node-a");
      expect(await sources.knownBlocks()).toEqual([]);
      return {
        client,
        clock,
        known: Promise.resolve(sources.knownBlocks(claim)),
        release: () => held.resolve(undefined),
      };
    }

    it("are there as soon as the watch shows that one", async () => {
      const { client, clock, known, release } = await claimBehindWatch();
      const before = client.calls.length;
      release();
      await clock.advance(500);
      expect(await known).toEqual(cidrs);
      expect(client.calls.slice(before).map(({ verb }) => verb)).not.toContain("list");
    });

    it("are listed when the watch is behind", async () => {
      const { clock, known, release } = await claimBehindWatch();
      await clock.advance(1000);
      expect(new Set(await known)).toEqual(new Set(cidrs));
      release();
    });
  });
});
