// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { NODES, PODS } from "../crds/core.ts";
import { IP_RESERVATIONS } from "../crds/ip-reservation.ts";
import { liveHolders, reservationSource } from "./holder-source.ts";
import { MemoryClient } from "./memory-client.ts";

describe("liveHolders()", () => {
  it("knows who has a pod's name now, where it is and who made it", async () => {
    const client = new MemoryClient();
    const owner = { apiVersion: "apps/v1", kind: "StatefulSet", name: "web", uid: "s" };
    const metadata = { name: "web-0", namespace: "x", ownerReferences: [{ ...owner, controller: true }] };
    await client.create(
      PODS,
      { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "node-a" } },
      { namespace: "x" },
    );
    const holders = liveHolders(client);
    expect(await holders.pod("x", "web-0")).toMatchObject({
      nodeName: "node-a",
      controller: { kind: "StatefulSet", name: "web" },
    });
    expect(await holders.pod("x", "web-1")).toBeUndefined();
    expect(await holders.pod("y", "web-0")).toBeUndefined();
  });

  it("knows nodes that are marked as out of service; a node that is missing is not", async () => {
    const client = new MemoryClient();
    const taints = [{ key: "node.kubernetes.io/out-of-service", effect: "NoExecute" }];
    await client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "lost" }, spec: { taints } });
    await client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "well" } });
    const holders = liveHolders(client);
    const answers = await Promise.all(["lost", "well", "none"].map((name) => holders.isOutOfService(name)));
    expect(answers).toEqual([true, false, false]);
  });
});

describe("reservationSource()", () => {
  it("lists those that name an owner", async () => {
    const client = new MemoryClient();
    const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPReservation" };
    const spec = { reservedCIDRs: ["10.0.0.5"] };
    await client.create(IP_RESERVATIONS, { ...head, metadata: { name: "plain" }, spec });
    const labels = { "gingham.dev/owner-name": "web" };
    await client.create(IP_RESERVATIONS, { ...head, metadata: { name: "owned", labels }, spec });
    expect((await reservationSource(client).owned()).map(({ name }) => name)).toEqual(["owned"]);
  });
});
