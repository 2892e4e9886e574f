// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from "vitest";
import { BLOCK_AFFINITIES } from "../../crds/block-affinity.ts";
import { CLUSTER_INFORMATIONS } from "../../crds/cluster-information.ts";
import { NODES, PODS } from "../../crds/core.ts";
import { IP_POOLS } from "../../crds/ip-pool.ts";
import { IP_RESERVATIONS } from "../../crds/ip-reservation.ts";
import { IPAM_BLOCKS } from "../../crds/ipam-block.ts";
import { IPAM_CONFIGS } from "../../crds/ipam-config.ts";
import { IPAM_HANDLES } from "../../crds/ipam-handle.ts";
import type { KubeObject, Resource } from "../../crds/object.ts";
import { reservationOf } from "../../ipam/audit/fake-snapshot.ts";
import { affinityOf, blockOf, handleOf, podAttributes } from "../../ipam/gc/fake-cluster.ts";
import { MemoryClient } from "../../kube/memory-client.ts";
import { parseJSON } from "../../lib/json.ts";
import { runGingham } from "../fake-terminal.ts";

const CRD = "crd.projectcalico.org/v1";
let client: MemoryClient;

function add<T extends KubeObject>(resource: Resource<T>, object: T): void {
  const { resourceVersion: _version, uid: _uid, ...metadata } = object.metadata;
  client.seed(resource, { ...object, metadata });
}

const pod = (name: string, nodeName: string, podIP: string): KubeObject & { spec: object; status: object } => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "default" },
  spec: { nodeName },
  status: { podIP, phase: "Running" },
});

/** Two nodes; b has borrowed an address of a's block. */
beforeEach(() => {
  client = new MemoryClient();
  const holders = [
    { handleID: "net.a", attributes: podAttributes("node-a", "a") },
    { handleID: "net.b", attributes: podAttributes("node-b", "b") },
  ];
  const pool = (name: string, spec: { cidr: string; blockSize?: number; disabled?: boolean }) =>
    add(IP_POOLS, { apiVersion: CRD, kind: "IPPool", metadata: { name }, spec });
  pool("main", { cidr: "10.0.0.0/28", blockSize: 30 });
  pool("six", { cidr: "fd00::/64", disabled: true });
  add(IPAM_BLOCKS, blockOf("10.0.0.0/30", "node-a", holders));
  add(IPAM_BLOCKS, blockOf("10.0.0.4/30", "node-b"));
  add(IPAM_BLOCKS, blockOf("192.0.2.0/30", undefined, [{ handleID: "net.c", attributes: {} }]));
  for (const [node, cidr] of [
    ["node-a", "10.0.0.0/30"],
    ["node-b", "10.0.0.4/30"],
  ] as const) {
    add(BLOCK_AFFINITIES, affinityOf(node, cidr));
    add(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: node } });
  }
  for (const id of ["net.a", "net.b"]) add(IPAM_HANDLES, handleOf(id, { "10.0.0.0/30": 1 }));
  add(IP_RESERVATIONS, reservationOf("r", "10.0.0.3", "10.0.0.8"));
  add(PODS, pod("a", "node-a", "10.0.0.0"));
  add(PODS, pod("b", "node-b", "10.0.0.1"));
});

const show = async (args = ""): Promise<string> => {
  const { stdout, stderr, status } = await runGingham(`ipam show ${args}`.trim(), { client });
  expect([status, stderr]).toEqual([0, ""]);
  return stdout;
};

describe("gingham ipam show", () => {
  it("shows pools", async () => {
    expect(await show()).toBe(`\
POOL                CIDR               TOTAL   IN USE   RESERVED         FREE   USED
main                10.0.0.0/28           16        2          2           12   ██░░░░░░░░ 13%
six (not enabled)   fd00::/64     1.8447e+19        0          0   1.8447e+19   ░░░░░░░░░░ 0%

Blocks in no pool: 1, see gingham ipam show --blocks
`);
  });

  it("shows more of them with -o wide", async () => {
    expect((await show("-o wide")).split("\n").slice(0, 2)).toEqual([
      "POOL                CIDR               TOTAL   IN USE   COOLING   RESERVED         FREE   BLOCKS   BLOCK SIZE   USED",
      "main                10.0.0.0/28           16        2         0          2           12        2          /30   ██░░░░░░░░ 13%",
    ]);
  });

  it("shows blocks", async () => {
    expect(await show("--blocks")).toBe(`\
POOL / BLOCK       OWNER    STATE            TOTAL   IN USE   RESERVED         FREE   BORROWED   USED
main 10.0.0.0/28                                16        2          2           12              ██░░░░░░░░ 13%
  10.0.0.0/30      node-a   confirmed            4        2          1            1          1   █████░░░░░ 50%
  10.0.0.4/30      node-b   confirmed            4        0          0            4          0   ░░░░░░░░░░ 0%
six fd00::/64                           1.8447e+19        0          0   1.8447e+19              ░░░░░░░░░░ 0%
in no pool
  192.0.2.0/30     nobody                        4        1          0            3          0   ███░░░░░░░ 25%
`);
  });

  it("shows borrowed addresses", async () => {
    expect(await show("--borrowed")).toBe(`\
ADDRESS    BORROWED BY   BLOCK         BLOCK OWNER   TYPE   ALLOCATED TO
10.0.0.1   node-b        10.0.0.0/30   node-a        pod    default/b
`);
  });

  it("shows settings, and which of them are defaults", async () => {
    const spec = {
      strictAffinity: true,
      autoAllocateBlocks: true,
      maxBlocksPerHost: 4,
      kubeVirtVMAddressPersistence: "Enabled",
      ipCooldownSeconds: 30,
    } as const;
    add(IPAM_CONFIGS, { apiVersion: CRD, kind: "IPAMConfig", metadata: { name: "default" }, spec });
    const head = { apiVersion: CRD, kind: "ClusterInformation", metadata: { name: "default" } };
    add(CLUSTER_INFORMATIONS, { ...head, spec: { datastoreReady: false } });
    expect(await show("--config")).toBe(`\
SETTING                        VALUE     FROM
strictAffinity                 true      IPAMConfig default
autoAllocateBlocks             true      IPAMConfig default
maxBlocksPerHost               4         IPAMConfig default
ipCooldownSeconds              30        IPAMConfig default
kubeVirtVMAddressPersistence   Enabled   IPAMConfig default
leakGracePeriod                15m       default
datastoreReady                 false     ClusterInformation default
`);
  });

  it("tells the story of an address", async () => {
    expect(await show("10.0.0.1")).toBe(`\
Address           10.0.0.1
State             in use
Pool              main 10.0.0.0/28
Block             10.0.0.0/30, ordinal 1
Block owner       node node-a, claim confirmed
Handle            net.b
Sequence number   1787395200123456790
Pod               default/b, which reports it
Node              node-b
Since             2026-08-22 10:40:00 +0000 UTC
Borrowed          yes: used on node-b, out of a block of node-a
Routed            to node-b, by a route of its own (borrowed)
Collection        stays: the pod runs and has it
`);
    expect(await show("10.0.0.3 10.0.0.9")).toBe(`\
Address       10.0.0.3
State         free
Pool          main 10.0.0.0/28
Block         10.0.0.0/30, ordinal 3
Block owner   node node-a, claim confirmed
Reserved by   r
Routed        to node-a, by its block 10.0.0.0/30

Address   10.0.0.9
State     free: nobody has claimed a block with it
Pool      main 10.0.0.0/28
Routed    to nobody: it is in no block
`);
  });

  it("names every block that an address is in", async () => {
    add(IPAM_BLOCKS, blockOf("10.0.0.0/29", "node-b", [{ handleID: "net.x", attributes: {} }]));
    expect((await show("10.0.0.0")).split("\n").filter((line) => /lock/.test(line))).toEqual([
      "Block             10.0.0.0/30, ordinal 0",
      "Block owner       node node-a, claim confirmed",
      "Also in block     10.0.0.0/29, ordinal 0, of node node-b; there: in use (net.x)",
      "Routed            to node-a, by its block 10.0.0.0/30",
    ]);
  });

  it("tells who has an address that was not given to it, and what is missing", async () => {
    await client.delete(PODS, "b", { namespace: "default" });
    await client.delete(IPAM_HANDLES, "net.b");
    await client.delete(NODES, "node-b");
    add(PODS, pod("x", "node-a", "10.0.0.1"));
    expect(
      (await show("10.0.0.1")).split("\n").filter((line) => /^(Handle|Pod|Node|Reported|Coll)/.test(line)),
    ).toEqual([
      "Handle            net.b (no such IPAMHandle)",
      "Pod               default/b (no such pod)",
      "Node              node-b (not in the cluster)",
      "Reported by       pod default/x, which it was not given to",
      "Collection        leaked: the pod is gone",
    ]);
  });

  it("gives programs the same, with exact integers", async () => {
    const story = parseJSON(await show("10.0.0.1 -o json"));
    expect(story).toMatchObject({ state: "held", sequenceNumber: 1_787_395_200_123_456_790n, isBorrowed: true });
    expect(parseJSON(await show("--blocks -o json"))).toMatchObject({
      pools: [{ pool: "main", total: 16, blocks: [{ cidr: "10.0.0.0/30", borrowed: 1 }, {}] }, { total: 2n ** 64n }],
      outside: [{ cidr: "192.0.2.0/30" }],
    });
    expect(await show("--borrowed -o yaml")).toContain("- address: 10.0.0.1\n  node: node-b\n");
  });

  it("answers 1 for an address that nobody knows, 2 for what is none and for two views at once", async () => {
    const unknown = await runGingham("ipam show 203.0.113.1", { client });
    expect([unknown.status, unknown.stderr]).toEqual([1, "gingham: no pool and no block holds 203.0.113.1\n"]);
    const wrong = await runGingham("ipam show 203.0.113", { client });
    expect([wrong.status, wrong.stderr]).toEqual([
      2,
      'gingham: "203.0.113" is no IP address\nTry: gingham ipam show --help\n',
    ]);
    expect(await runGingham("ipam show --blocks --config", { client })).toMatchObject({ status: 2 });
  });

  it("asks for each list once, and for no pods or handles where they do not matter", async () => {
    await show("--blocks");
    const lists = client.calls.filter(({ verb }) => verb === "list").map(({ resource }) => resource.plural);
    expect(lists.sort()).toEqual(["blockaffinities", "ipamblocks", "ippools", "ipreservations"]);
  });
});
