// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { LabPod } from "../../src/lab/types.ts";
import { ROOT } from "./support/stack.ts";

/**
 * What goes on while agents and API server die: packets between pods of two nodes, in VXLAN, to a hundred a second. For a few
 * seconds every day, and for as many as GINGHAM_FAULT_SECONDS says when somebody asks.
 */

const FAULT_SECONDS = Number(process.env["GINGHAM_FAULT_SECONDS"] ?? 5);
const NODES = ["node-1", "node-2"] as const;
const TIMEOUT_MS = FAULT_SECONDS * 1000 + 60_000;

let lab: RemoteLab;
beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 2, pods: 4, vxlan: "Always" });
});
afterAll(() => lab.stop());

/** Pings for that long, both ways; resolves to the packets that were sent and lost. */
async function ping(seconds: number): Promise<readonly { readonly sent: number; readonly lost: number }[]> {
  const pods = await lab.listPods();
  const [a, b] = NODES.map((node) => pods.find((pod) => pod.node === node)) as [LabPod, LabPod];
  const one = async (from: LabPod, to: LabPod) => {
    const count = String(seconds * 100);
    const { stderr } = await lab.exec(from.name, [
      "fping",
      "-q",
      "-c",
      count,
      "-p",
      "10",
      "-t",
      "1000",
      to.ips[0] ?? "",
    ]);
    const [, sent, received] = /xmt\/rcv\/%loss = (\d+)\/(\d+)\//.exec(stderr) ?? [];
    return { sent: Number(sent), lost: Number(sent) - Number(received) };
  };
  return await Promise.all([one(a, b), one(b, a)]);
}

/** Routes, tunnel and table of a node, in the order that the kernel has them. */
async function dataplaneOf(node: string): Promise<string> {
  const script =
    "ip route show proto 80; ip neigh show nud permanent; bridge fdb show dev vxlan.calico; nft -s list table inet gingham";
  return (await lab.exec(node, ["sh", "-c", script])).stdout.split("\n").toSorted().join("\n");
}

describe("under traffic", () => {
  test(
    "agents that are killed every second lose no packet and change nothing",
    async () => {
      const before = await Promise.all(NODES.map(dataplaneOf));
      const pinging = ping(FAULT_SECONDS);
      const endMs = performance.now() + FAULT_SECONDS * 1000;
      let kills = 0;
      while (performance.now() < endMs) {
        const pause = sleep(1000);
        await Promise.all(NODES.map((node) => lab.killAgent(node, "SIGKILL")));
        kills++;
        await Promise.all(NODES.map((node) => lab.startAgent(node)));
        await pause;
      }
      expect(await pinging).toEqual(NODES.map(() => ({ sent: FAULT_SECONDS * 100, lost: 0 })));
      expect(kills).toBeGreaterThan(FAULT_SECONDS / 4);
      expect(await Promise.all(NODES.map(dataplaneOf))).toEqual(before);
    },
    TIMEOUT_MS,
  );

  test(
    "an API server that is away, and an agent that starts meanwhile, lose no packet and change nothing",
    async () => {
      const before = await Promise.all(NODES.map(dataplaneOf));
      const pinging = ping(FAULT_SECONDS + 2);
      await lab.killAPIServer("SIGKILL");
      await sleep(Math.max(0, FAULT_SECONDS - 3) * 1000);
      // Nothing is written before the watches are in sync, so this one has to leave all as it is.
      await lab.killAgent("node-1", "SIGKILL");
      const started = lab.startAgent("node-1");
      await sleep(2000);
      await lab.exec("node-1", ["nft", "delete", "table", "inet", "gingham"]);
      expect((await lab.exec("node-1", ["curl", "-s", "localhost:9099/readiness"])).stdout).toContain("waiting for");
      await lab.startAPIServer();
      await started;
      expect(await pinging).toEqual(NODES.map(() => ({ sent: (FAULT_SECONDS + 2) * 100, lost: 0 })));
      await expect.poll(() => Promise.all(NODES.map(dataplaneOf)), { timeout: 10_000 }).toEqual(before);
    },
    TIMEOUT_MS,
  );
});

test("a node whose kernel has lost all that its agent made, as by a reboot, has it again, and its pods are reached", async () => {
  const before = await dataplaneOf("node-2");
  await lab.killAgent("node-2", "SIGKILL");
  const lose = "ip link delete vxlan.calico; ip route flush proto 80; nft delete table inet gingham";
  expect(await lab.exec("node-2", ["sh", "-euc", lose])).toMatchObject({ exitCode: 0 });
  expect((await ping(1))[0]).not.toMatchObject({ lost: 0 });
  await lab.startAgent("node-2");
  await expect.poll(() => dataplaneOf("node-2"), { timeout: 10_000 }).toBe(before);
  expect(await ping(1)).toEqual(NODES.map(() => ({ sent: 100, lost: 0 })));
});

test("a node that is deleted and comes back under its name is routed again, and its pods are reached", async () => {
  const isRouted = async (): Promise<boolean> => (await dataplaneOf("node-1")).includes(" dev vxlan.calico onlink");
  expect(await isRouted()).toBe(true);
  const { stdout } = await lab.kubectl(["get", "node", "node-2", "-o", "json"]);
  await lab.kubectl(["delete", "node", "node-2"]);
  await expect.poll(isRouted, { timeout: 5000 }).toBe(false);
  const { metadata, status, ...rest } = JSON.parse(stdout) as {
    readonly metadata: { readonly name: string; readonly labels: object };
    readonly status: { readonly addresses: readonly object[] };
  };
  const { name, labels } = metadata;
  // As its kubelet registers it: without what agents have written.
  await lab.kubectl(["create", "-f", "-"], JSON.stringify({ ...rest, metadata: { name, labels } }));
  const addresses = JSON.stringify({ status: { addresses: status.addresses } });
  await lab.kubectl(["patch", "node", name, "--subresource=status", "--type=merge", "-p", addresses]);
  // By another tunnel address: the annotation with the old one has gone with the object. An agent that has just been without an
  // API server for long asks again within 30 s.
  await expect.poll(isRouted, { timeout: 45_000 }).toBe(true);
  expect(await ping(1)).toEqual(NODES.map(() => ({ sent: 100, lost: 0 })));
});

test("a pool that goes over to VXLAN while another node's agent is dead loses no packet to it, and goes over when it is back", async () => {
  const setMode = async (vxlanMode: string): Promise<void> => {
    const patch = JSON.stringify({ spec: { vxlanMode } });
    await lab.kubectl(["patch", "ippool", "default-ipv4-ippool", "--type=merge", "-p", patch]);
  };
  const routesOf = async (node: string): Promise<string> => (await lab.exec(node, ["ip", "route"])).stdout;
  const annotation = "jsonpath={.items[*].metadata.annotations.projectcalico\\.org/IPv4VXLANTunnelAddr}";
  await setMode("Never");
  await expect
    .poll(async () => (await lab.kubectl(["get", "nodes", "-o", annotation])).stdout, { timeout: 10_000 })
    .toBe("");
  for (const node of NODES) await expect.poll(() => routesOf(node), { timeout: 10_000 }).not.toContain("vxlan.calico");
  await lab.killAgent("node-2", "SIGKILL");
  const pinging = ping(2);
  await setMode("Always");
  await expect
    .poll(async () => (await lab.exec("node-1", ["ip", "link"])).stdout, { timeout: 10_000 })
    .toContain("vxlan.calico");
  expect(await pinging).toEqual(NODES.map(() => ({ sent: 200, lost: 0 })));
  await lab.startAgent("node-2");
  for (const node of NODES) await expect.poll(() => routesOf(node), { timeout: 10_000 }).toContain("dev vxlan.calico");
  expect(await ping(1)).toEqual(NODES.map(() => ({ sent: 100, lost: 0 })));
});
