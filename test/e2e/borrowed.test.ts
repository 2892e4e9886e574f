// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { RunResult } from "../../src/lab/run.ts";
import type { LabPod } from "../../src/lab/types.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** Pods whose address is not out of a block of their own node, as Calico's nodes and people leave them. */

const REPAIR_MS = 60_000;
/** Far below the five minutes between two listings. */
const HINT_MS = 10_000;
const NODE_IP = { "node-1": "172.30.0.11", "node-2": "172.30.0.12", "node-3": "172.30.0.13" } as const;
/** A pool of a single block. */
const SMALL = { cidr: "10.99.0.0/29", blockSize: 29 };

interface Item {
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec: { readonly cidr: string; readonly affinity?: string; readonly node?: string };
}

let lab: RemoteLab;
let pods: readonly LabPod[];

beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 3, pods: 6 });
  pods = await lab.listPods();
});
afterAll(() => lab.stop());

async function ok(result: Promise<RunResult>): Promise<string> {
  const { exitCode, stdout, stderr } = await result;
  if (exitCode !== 0) throw new Error(`exit status ${exitCode}: ${stderr}${stdout}`);
  return stdout;
}

async function listItems(plural: string): Promise<readonly Item[]> {
  const { items } = JSON.parse(await ok(lab.kubectl(["get", plural, "-o", "json"]))) as { items: Item[] };
  return items;
}

async function routesOf(node: string): Promise<string> {
  return ok(lab.exec(node, ["ip", "route"]));
}

function podsOn(node: string): readonly LabPod[] {
  return pods.filter((pod) => pod.node === node);
}

/** The object by which the node claims its only block, and the block. */
async function claimOf(node: string): Promise<{ readonly claim: Item; readonly block: Item }> {
  const claim = (await listItems("blockaffinities")).find(({ spec }) => spec.node === node);
  const block = (await listItems("ipamblocks")).find(({ spec }) => spec.cidr === claim?.spec.cidr);
  if (claim === undefined || block === undefined) throw new Error(`No block of ${node}`);
  return { claim, block };
}

/** Waits until every pod of the node answers every pod elsewhere, and the node those pods. */
async function waitForPings(node: string): Promise<void> {
  const targets = podsOn(node).flatMap(({ ips }) => ips);
  expect(targets.length).toBeGreaterThan(0);
  for (const pod of pods) {
    const ping = async (): Promise<boolean> =>
      (await lab.exec(pod.name, ["fping", "-q", "-c", "2", "-p", "50", "-t", "500", ...targets])).exitCode === 0;
    await waitUntil(`pings from ${pod.name} on ${pod.node} to the pods of ${node}`, ping, REPAIR_MS);
  }
}

/** What the Node says to borrow from. */
async function hintOf(node: string): Promise<string> {
  return ok(
    lab.kubectl(["get", "node", node, "-o", String.raw`jsonpath={.metadata.annotations.gingham\.dev/borrows-from}`]),
  );
}

describe("borrowed addresses", () => {
  test("one that is asked for by name while pools are roomy: other nodes read its block by the hint of the borrower", async () => {
    const { block } = await claimOf("node-1");
    const ip = block.spec.cidr.replace(/(\d+)\/\d+$/, (_, last: string) => String(Number(last) + 41));
    const annotations = { "cni.projectcalico.org/ipAddrs": JSON.stringify([ip]) };
    const pod = await lab.addPod({ name: "fixed", node: "node-2", annotations });
    expect(pod.ips).toEqual([ip]);
    const route = `${ip} via ${NODE_IP["node-2"]} `;
    for (const node of ["node-1", "node-3"])
      await waitUntil(`the route of ${ip} on ${node}`, async () => (await routesOf(node)).includes(route), HINT_MS);
    expect(await hintOf("node-2")).toBe(block.metadata.name);

    await lab.delPod(pod.name);
    for (const node of ["node-1", "node-3"]) {
      const isGone = async (): Promise<boolean> => !(await routesOf(node)).includes(`${ip} `);
      await waitUntil(`the route of ${ip} to vanish from ${node}`, isGone, REPAIR_MS);
    }
    await waitUntil("the hint to be taken off", async () => (await hintOf("node-2")) === "", REPAIR_MS);
  });

  test("a block that nobody owns any more: its pods keep routes of their own on all other nodes", async () => {
    const { claim, block } = await claimOf("node-1");
    const patch = JSON.stringify([
      { op: "remove", path: "/spec/affinity" },
      { op: "remove", path: "/spec/affinityClaimTime" },
    ]);
    await ok(lab.kubectl(["patch", "ipamblock", block.metadata.name, "--type=json", "-p", patch]));
    await ok(lab.kubectl(["delete", "blockaffinity", claim.metadata.name]));
    await waitUntil(
      "the block's route to vanish",
      async () => !(await routesOf("node-2")).includes(`${block.spec.cidr} `),
      REPAIR_MS,
    );

    await waitForPings("node-1");
    for (const node of ["node-2", "node-3"]) {
      const routes = await routesOf(node);
      for (const { ips } of podsOn("node-1")) expect(routes).toContain(`${ips[0]} via ${NODE_IP["node-1"]} `);
    }
    expect(await routesOf("node-1")).toMatch(new RegExp(`^${podsOn("node-1")[0]?.ips[0]} dev cali`, "m"));
  });

  test("a restarted agent keeps these routes in the kernel while it reads the blocks", async () => {
    const before = await routesOf("node-2");
    await lab.killAgent("node-2", "SIGKILL");
    await lab.startAgent("node-2");
    expect(await routesOf("node-2")).toBe(before);
  });

  test("the block becomes another node's: its pods are reached past that node's blackhole", async () => {
    const block = (await listItems("ipamblocks")).find(({ spec }) => spec.affinity === undefined);
    const { claim } = await claimOf("node-2");
    if (block === undefined) throw new Error("No block without an owner");
    const patch = JSON.stringify({ spec: { affinity: "host:node-2", affinityClaimTime: "2026-01-01T00:00:00Z" } });
    await ok(lab.kubectl(["patch", "ipamblock", block.metadata.name, "--type=merge", "-p", patch]));
    const added = {
      ...claim,
      metadata: { name: `node-2-${block.metadata.name}`, labels: claim.metadata.labels },
      spec: { ...claim.spec, cidr: block.spec.cidr },
    };
    await ok(lab.kubectl(["create", "-f", "-"], JSON.stringify(added)));
    await waitUntil(
      "the new owner's blackhole",
      async () => (await routesOf("node-2")).includes(`blackhole ${block.spec.cidr} `),
      REPAIR_MS,
    );

    await waitForPings("node-1");
    expect(await routesOf("node-3")).toContain(`${block.spec.cidr} via ${NODE_IP["node-2"]} `);
    expect(await routesOf("node-2")).toContain(`${podsOn("node-1")[0]?.ips[0]} via ${NODE_IP["node-1"]} `);
  });

  test("an address that is given back loses its route everywhere", async () => {
    const [pod] = podsOn("node-1");
    if (pod === undefined) throw new Error("No pod on node-1");
    await lab.delPod(pod.name);
    pods = await lab.listPods();
    for (const node of ["node-2", "node-3"]) {
      const isGone = async (): Promise<boolean> => !(await routesOf(node)).includes(`${pod.ips[0]} `);
      await waitUntil(`the route of ${pod.name} to vanish from ${node}`, isGone, REPAIR_MS);
    }
    await waitForPings("node-1");
  });

  test("a node that finds no block left borrows an address by itself, and its pod is reached from everywhere", async () => {
    const disable = JSON.stringify({ spec: { disabled: true } });
    await ok(lab.kubectl(["patch", "ippool", "default-ipv4-ippool", "--type=merge", "-p", disable]));
    const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name: "small" } };
    await ok(lab.kubectl(["create", "-f", "-"], JSON.stringify({ ...head, spec: SMALL })));
    const inSmall = /^10\.99\.0\.[0-7]$/;
    // An agent that has not yet heard of the pools gives an address out of the old one.
    const addPod = async (name: string, node: string): Promise<LabPod> => {
      for (let attempt = 0; ; attempt++) {
        const pod = await lab.addPod({ name: `${name}-${attempt}`, node });
        if (inSmall.test(pod.ips[0] ?? "")) return pod;
        await lab.delPod(pod.name);
        if (attempt > 20) throw new Error(`${node} keeps giving addresses of a disabled pool: ${pod.ips[0]}`);
      }
    };
    const owner = await addPod("owner", "node-2");
    const borrower = await addPod("borrower", "node-3");
    const [ip] = borrower.ips;
    pods = await lab.listPods();

    const blocks = (await listItems("ipamblocks")).filter(({ spec }) => spec.cidr === SMALL.cidr);
    expect(blocks.map(({ spec }) => spec.affinity)).toEqual(["host:node-2"]);
    for (const node of ["node-1", "node-2"]) {
      const isThere = async (): Promise<boolean> => (await routesOf(node)).includes(`${ip} via ${NODE_IP["node-3"]} `);
      await waitUntil(`the route of ${borrower.name} on ${node}`, isThere, REPAIR_MS);
    }
    expect(await routesOf("node-1")).toContain(`${SMALL.cidr} via ${NODE_IP["node-2"]} `);
    await waitForPings("node-3");
    await waitForPings("node-2");

    await lab.delPod(borrower.name);
    for (const node of ["node-1", "node-2"]) {
      const isGone = async (): Promise<boolean> => !(await routesOf(node)).includes(`${ip} `);
      await waitUntil(`the route of ${borrower.name} to vanish from ${node}`, isGone, REPAIR_MS);
    }
    await lab.delPod(owner.name);
  });
});
