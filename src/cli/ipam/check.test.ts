// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from "vitest";
import { BLOCK_AFFINITIES } from "../../crds/block-affinity.ts";
import { NODES, PODS } from "../../crds/core.ts";
import { IP_POOLS } from "../../crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../../crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../crds/ipam-handle.ts";
import type { KubeObject, Resource } from "../../crds/object.ts";
import { affinityOf, blockOf, handleOf, podAttributes } from "../../ipam/gc/fake-cluster.ts";
import { kubeErrorOf } from "../../kube/errors.ts";
import { MemoryClient } from "../../kube/memory-client.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseJSON } from "../../lib/json.ts";
import { type Ran, runGingham, type Terminal } from "../fake-terminal.ts";

const CIDR = "10.0.0.0/30";
const NODE = { apiVersion: "v1", kind: "Node", metadata: { name: "node-a" } };
let clock: FakeClock;
let client: MemoryClient;

function add<T extends KubeObject>(resource: Resource<T>, object: T, more: Record<string, unknown> = {}): void {
  const { resourceVersion: _version, uid: _uid, ...metadata } = object.metadata;
  client.seed(resource, { ...object, metadata: { ...metadata, ...more } });
}

const run = async (line: string, more: Partial<Terminal> = {}): Promise<Ran> =>
  await runGingham(line, { client, clock, ...more });

/** A node with pod `a`, and an address of pod `b`, which is gone. */
beforeEach(() => {
  clock = new FakeClock();
  client = new MemoryClient({ clock });
  const holders = ["a", "b"].map((pod) => ({ handleID: `net.${pod}`, attributes: podAttributes("node-a", pod) }));
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name: "main" } };
  add(IP_POOLS, { ...head, spec: { cidr: "10.0.0.0/24" } });
  add(IPAM_BLOCKS, blockOf(CIDR, "node-a", holders));
  add(BLOCK_AFFINITIES, affinityOf("node-a", CIDR));
  for (const id of ["net.a", "net.b"]) add(IPAM_HANDLES, handleOf(id, { [CIDR]: 1 }));
  add(NODES, NODE);
  for (const [name, podIP] of [["a", "10.0.0.0"]] as const) {
    const metadata = { name, namespace: "default" };
    add(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "node-a" }, status: { podIP } });
  }
});

/** Only what nobody has touched for an hour. */
const old = (): Record<string, unknown> => {
  return { managedFields: [{ time: new Date(clock.nowMs() - 3_600_000).toISOString() }] };
};
const outcome = (ran: Ran): readonly string[] =>
  ran.stdout.split("\n").filter((line) => /^(done|left|FAILED)/.test(line));
const writes = (): number => client.calls.filter(({ verb }) => !["get", "list"].includes(verb)).length;

describe("gingham ipam check", () => {
  it("tells findings with reason and next step, and what it looked at; status 1", async () => {
    expect(await run("ipam check")).toEqual({
      status: 1,
      stdout: `\
warning  IPAMBlock 10-0-0-0-30, 10.0.0.1  leakedAddress
         held for pod default/b on node-a, and the pod is gone
         → gingham-controller frees it after leakGracePeriod; sooner: gingham ipam check --fix --wait 1m

Looked at 1 blocks, 2 addresses, 2 handles, 1 claims; 1 pods, 1 nodes.
1 warning.
`,
      stderr: "",
    });
  });

  it("answers 0 when there is no problem, after one look", async () => {
    const metadata = { name: "b", namespace: "default" };
    add(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "node-a" }, status: { podIP: "10.0.0.1" } });
    const { status, stdout } = await run("ipam check");
    expect([status, stdout.split("\n").at(-2)]).toEqual([0, "No problem."]);
    expect(client.calls.filter(({ verb, resource }) => verb === "list" && resource === IPAM_BLOCKS)).toHaveLength(1);
  });

  it("does not tell what is in order at the second look", async () => {
    add(IPAM_HANDLES, handleOf("net.c", {}));
    const meanwhile = async (): Promise<void> => await client.delete(IPAM_HANDLES, "net.c");
    expect((await run("ipam check", { meanwhile })).stdout).not.toContain("net.c");
    add(IPAM_HANDLES, handleOf("net.c", {}));
    expect((await run("ipam check")).stdout).toContain("orphanHandle");
  });

  it("gives programs a report with all that a release must name", async () => {
    const { stdout, status } = await run("ipam check -o json");
    expect(status).toBe(1);
    expect(parseJSON(stdout)).toEqual({
      kind: "GinghamIPAMReport",
      version: 1,
      time: expect.stringMatching(/^2026-08-22T/) as string,
      clusterGUID: "",
      looked: { blocks: 1, addresses: 2, handles: 2, affinities: 1, pods: 1, nodes: 1 },
      problems: 1,
      findings: [
        {
          code: "leakedAddress",
          severity: "warning",
          object: { kind: "IPAMBlock", name: "10-0-0-0-30" },
          address: "10.0.0.1",
          reason: expect.any(String) as string,
          nextStep: expect.any(String) as string,
          leak: { why: "podGone", handleID: "net.b", block: CIDR, sequenceNumber: 1_787_395_200_123_456_790n },
        },
      ],
    });
  });

  it.each([["ipam check now"], ["ipam check --wait soon"]])("refuses %s", async (line) => {
    expect((await run(line)).status).toBe(2);
  });

  it("names the right that is missing", async () => {
    client.onCall = ({ resource }) => {
      const target = { verb: "list", resource: "pods" };
      return resource === PODS
        ? { kind: "fail", error: kubeErrorOf(target, { status: 403, message: "no" }) }
        : undefined;
    };
    const { status, stderr } = await run("ipam check");
    expect(status).toBe(2);
    expect(stderr).toContain("lacks the right: list on pods, the core group");
  });
});

describe("gingham ipam check --fix", () => {
  it("shows the plan first, and changes nothing when nobody says yes", async () => {
    add(IPAM_HANDLES, handleOf("net.c", {}), old());
    const ran = await run("ipam check --fix");
    expect(ran.status).toBe(1);
    expect(ran.stdout).toContain("\nPlan:\n  delete IPAMHandle net.c, which no address names\nNothing was changed");
    expect(ran.stderr).toBe("Carry out these 1 steps?\n");
    expect(writes()).toBe(0);
  });

  it("frees what looked leaked for all of a minute, and its handle, and answers 0", async () => {
    const ran = await run("ipam check --fix --wait 1m", { answer: true });
    expect(outcome(ran)).toEqual(["done: free 10.0.0.1 of handle net.b (sequence number 1787395200123456790)"]);
    expect(ran.status).toBe(0);
    const { spec } = await client.get(IPAM_BLOCKS, "10-0-0-0-30");
    expect(spec.allocations).toEqual([0, null, null, null]);
    await expect(client.get(IPAM_HANDLES, "net.b")).rejects.toThrow(/404/);
    expect((await run("ipam check")).status).toBe(0);
  });

  it("frees no leak after the two seconds of an ordinary check", async () => {
    const ran = await run("ipam check --fix --yes");
    expect(ran.stdout).toContain("There is nothing that --fix can mend safely.");
    expect([ran.status, writes()]).toEqual([1, 0]);
  });

  it("frees no address that was given to another pod between the looks", async () => {
    const meanwhile = async (): Promise<void> => {
      const block = await client.get(IPAM_BLOCKS, "10-0-0-0-30");
      const attributes = block.spec.attributes.map((attribute) => {
        return attribute.handle_id === "net.b"
          ? { handle_id: "net.n", secondary: podAttributes("node-a", "n") }
          : attribute;
      });
      const sequenceNumberForAllocation = { ...block.spec.sequenceNumberForAllocation, "1": block.spec.sequenceNumber };
      await client.update(IPAM_BLOCKS, { ...block, spec: { ...block.spec, attributes, sequenceNumberForAllocation } });
      add(IPAM_HANDLES, handleOf("net.n", { [CIDR]: 1 }));
    };
    await run("ipam check --fix --yes --wait 1m", { meanwhile });
    expect((await client.get(IPAM_BLOCKS, "10-0-0-0-30")).spec.allocations).toEqual([0, 1, null, null]);
  });

  it("mends counts, labels, claims, tombstones and blocks, each as the plan says", async () => {
    await client.delete(IPAM_HANDLES, "net.b");
    const handle = await client.get(IPAM_HANDLES, "net.a");
    await client.update(IPAM_HANDLES, { ...handle, spec: { ...handle.spec, block: {} } });
    await client.delete(BLOCK_AFFINITIES, "node-a-10-0-0-0-30");
    add(BLOCK_AFFINITIES, affinityOf("node-b", CIDR), old());
    add(IPAM_BLOCKS, blockOf("10.0.0.4/30", "node-a"));
    add(BLOCK_AFFINITIES, affinityOf("node-a", "10.0.0.4/30"), { labels: {} });
    add(BLOCK_AFFINITIES, affinityOf("node-a", "10.0.0.8/30"), old());
    add(IPAM_BLOCKS, blockOf("10.0.0.12/30", undefined));
    add(
      IPAM_BLOCKS,
      blockOf("10.0.0.16/30", "node-a", [{ handleID: "net.a", attributes: podAttributes("node-a", "a") }]),
    );
    add(BLOCK_AFFINITIES, affinityOf("node-a", "10.0.0.16/30", "pendingDeletion"), old());
    add(IPAM_HANDLES, { ...handleOf("net.t", {}), spec: { handleID: "net.t", block: {}, deleted: true } });
    const ran = await run("ipam check --fix --yes");
    expect(outcome(ran)).toEqual([
      "done: finish the deletion of handle net.t",
      "done: label BlockAffinity node-a-10-0-0-4-30",
      "done: create IPAMHandle net.b with 1 in 10.0.0.0/30",
      "done: set the counts of IPAMHandle net.a to 1 in 10.0.0.0/30, 1 in 10.0.0.16/30",
      "done: create the BlockAffinity of node-a for its block 10.0.0.0/30",
      "done: confirm BlockAffinity node-a-10-0-0-16-30",
      "done: give up BlockAffinity node-b-10-0-0-0-30",
      "done: give up BlockAffinity node-a-10-0-0-8-30",
      "done: delete empty IPAMBlock 10-0-0-12-30",
    ]);
    // Pod b's and a's second address are leaked, and nothing else is wrong any more.
    expect((await run("ipam check")).stdout.match(/ {2}\w+$/gm)).toEqual(["  leakedAddress", "  leakedAddress"]);
    const { spec, metadata } = await client.get(BLOCK_AFFINITIES, "node-a-10-0-0-0-30");
    expect([spec.state, Object.keys(metadata.labels ?? {}).length]).toEqual(["confirmed", 3]);
  });

  it("leaves a leak alone that was given again after the plan was made", async () => {
    let isGivenAgain = false;
    client.onCall = async ({ verb, resource }) => {
      if (verb !== "get" || resource !== IPAM_BLOCKS || isGivenAgain) return undefined;
      isGivenAgain = true;
      const block = await client.get(IPAM_BLOCKS, "10-0-0-0-30");
      const sequenceNumberForAllocation = { ...block.spec.sequenceNumberForAllocation, "1": block.spec.sequenceNumber };
      await client.update(IPAM_BLOCKS, { ...block, spec: { ...block.spec, sequenceNumberForAllocation } });
      return undefined;
    };
    const ran = await run("ipam check --fix --yes --wait 1m");
    expect(outcome(ran).map((line) => line.slice(0, 53))).toEqual([
      "left alone, since it changed meanwhile: free 10.0.0.1",
    ]);
    expect([ran.status, (await client.get(IPAM_BLOCKS, "10-0-0-0-30")).spec.allocations[1]]).toEqual([1, 1]);
  });

  it("labels a load balancer's claim as virtual", async () => {
    const block = blockOf("10.0.0.4/30", undefined);
    add(IPAM_BLOCKS, { ...block, spec: { ...block.spec, affinity: "virtual:lb" } });
    const claim = affinityOf("lb", "10.0.0.4/30");
    add(BLOCK_AFFINITIES, { ...claim, spec: { ...claim.spec, type: "virtual" } });
    expect(outcome(await run("ipam check --fix --yes"))).toEqual(["done: label BlockAffinity lb-10-0-0-4-30"]);
    const { labels } = (await client.get(BLOCK_AFFINITIES, "lb-10-0-0-4-30")).metadata;
    expect(labels?.["projectcalico.org/affinity-type"]).toBe("virtual");
  });

  it("leaves alone what changed since, tells what failed, goes on, and answers 1", async () => {
    add(IPAM_HANDLES, handleOf("net.c", {}), old());
    add(IPAM_HANDLES, handleOf("net.d", {}), old());
    add(BLOCK_AFFINITIES, affinityOf("node-a", "10.0.0.8/30"), old());
    let isChanged = false;
    client.onCall = async ({ verb, name }) => {
      if (verb === "get" && name === "net.c" && !isChanged) {
        isChanged = true;
        // An ADD that has just counted up.
        const handle = await client.get(IPAM_HANDLES, "net.c");
        await client.update(IPAM_HANDLES, { ...handle, spec: { ...handle.spec, block: { [CIDR]: 1 } } });
      }
      const target = { verb, resource: "ipamhandles", objectName: "net.d" };
      const error = kubeErrorOf(target, { status: 403, message: "not yours" });
      return verb === "update" && name === "net.d" ? { kind: "fail", error } : undefined;
    };
    const ran = await run("ipam check --fix --yes");
    expect(outcome(ran).map((line) => line.slice(0, 60))).toEqual([
      "left alone, since it changed meanwhile: delete IPAMHandle ne",
      "FAILED: delete IPAMHandle net.d, which no address names: Can",
      "done: give up BlockAffinity node-a-10-0-0-8-30",
    ]);
    expect(ran.stdout).toContain("not yours");
    expect(ran.status).toBe(1);
  });

  it("keeps stdout for the report when a program reads it", async () => {
    add(IPAM_HANDLES, handleOf("net.c", {}), old());
    const ran = await run("ipam check --fix --yes -o json");
    expect(parseJSON(ran.stdout)).toMatchObject({ findings: [{ code: "leakedAddress" }, { fixed: "done" }] });
    expect(ran.stderr).toContain("done: delete IPAMHandle net.c");
  });
});
