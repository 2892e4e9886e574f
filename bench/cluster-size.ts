// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { BLOCK_AFFINITIES, type BlockAffinity } from "../src/crds/block-affinity.ts";
import { NODES, PODS } from "../src/crds/core.ts";
import { affinityLabels } from "../src/crds/labels.ts";
import { affinityName } from "../src/crds/names.ts";
import { renderNode, renderPod } from "../src/lab/cluster-objects.ts";
import { runOk } from "../src/lab/run.ts";
import { formatCIDR, parseCIDR } from "../src/net/cidr.ts";
import { processCPU, processRSS } from "./cpu.ts";
import type { BenchResult } from "./report.ts";
import { inParallel, NODE_NAME, type Stack } from "./stack.ts";
import { formatMs, percentile } from "./stats.ts";

const PEERS = 999;
const PODS_IN_ALL = 10_000;
const REST_MS = 20_000;
const CHANGES = 200;
/** Of CHANGES that are measured, so many more come first. */
const WARM_UP = 20;

/** The n-th block of the pool 10.64.0.0/12. */
export function blockCIDR(n: number): string {
  return `10.${64 + (n >> 10)}.${(n >> 2) & 255}.${(n & 3) * 64}/26`;
}

export function affinityOf(node: string, n: number): BlockAffinity {
  const cidr = parseCIDR(blockCIDR(n));
  return {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "BlockAffinity",
    metadata: { name: affinityName(node, cidr), labels: affinityLabels(node, cidr) },
    spec: { cidr: formatCIDR(cidr), deleted: "false", node, state: "confirmed", type: "host" },
  };
}

/** The agent in a cluster of a thousand nodes: its size, its rest, its start, and its answer to a change. */
export async function benchClusterSize(stack: Stack): Promise<BenchResult> {
  const { client } = stack;
  const peer = (i: number): string => `peer-${i}`;
  await inParallel(PEERS, 32, async (i) => {
    const node = renderNode(peer(i), `172.30.${(i >> 8) + 1}.${i & 255}`);
    await client.create(NODES, node);
    await client.patch(NODES, peer(i), { type: "merge", body: { status: node.status } }, { subresource: "status" });
    await client.create(BLOCK_AFFINITIES, affinityOf(peer(i), i));
  });
  await inParallel(PODS_IN_ALL, 32, async (i) => {
    const node = i % (PEERS + 1) === 0 ? NODE_NAME : peer((i % (PEERS + 1)) - 1);
    await client.create(PODS, renderPod({ name: `known-${i}`, node }), { namespace: "default" });
  });

  const start = await measureStart(stack);
  await sleep(3_000);
  const before = processCPU(stack.agent.pid);
  await sleep(REST_MS);
  const cpuPercent = ((processCPU(stack.agent.pid) - before) / REST_MS) * 100;
  const rss = processRSS(stack.agent.pid);
  const latencies = await measureChanges(stack, PEERS + 1);
  const p99 = percentile(latencies, 99);
  return {
    name: "cluster size",
    lines: [
      `${PEERS + 1} nodes and ${PODS_IN_ALL} pods: agent from exec until ${PEERS} routes are in the kernel ${formatMs(start)}`,
      `One route after its BlockAffinity was sent to the API server: p50 ${formatMs(percentile(latencies, 50))}, p99 ${formatMs(p99)}`,
    ],
    budgets: [
      {
        what: "One route after its resource changed",
        measured: `p99 ${formatMs(p99)}`,
        budget: "p99 under 50 ms",
        holds: p99 < 50,
      },
      {
        what: `Agent at rest, ${PEERS + 1} nodes, ${PODS_IN_ALL} pods`,
        measured: `${rss.toFixed(0)} MB, ${cpuPercent.toFixed(2)} % of a core`,
        budget: "under 120 MB, under 1 %",
        holds: rss < 120 && cpuPercent < 1,
      },
    ],
    figures: { startMs: start, rssMB: rss, cpuPercent, latencies },
  };
}

/** From exec until every peer's route is there. Units: milliseconds. */
async function measureStart(stack: Stack): Promise<number> {
  await stack.agent.kill("SIGTERM");
  await runOk(["ip", "route", "flush", "proto", "80"]);
  const start = performance.now();
  const started = stack.restartAgent();
  while ((await countRoutes()) < PEERS) await sleep(5);
  const elapsed = performance.now() - start;
  await started;
  return elapsed;
}

async function countRoutes(): Promise<number> {
  const routes = await runOk(["ip", "route", "show", "proto", "80"]);
  return routes.split("\n").filter((line) => line.includes(" via ")).length;
}

/** From sending the resource until the kernel reports its route, one after the other. @param first number of the first new block */
export async function measureChanges(stack: Stack, first: number): Promise<readonly number[]> {
  const monitor = spawn("ip", ["-4", "monitor", "route"], { stdio: ["ignore", "pipe", "inherit"] });
  let onLine: (line: string) => void = () => {};
  createInterface({ input: monitor.stdout }).on("line", (line) => onLine(line));
  await sleep(200);
  const latencies: number[] = [];
  for (let i = 0; i < WARM_UP + CHANGES; i++) {
    const affinity = affinityOf(`peer-${i}`, first + i);
    const seen = new Promise<number>((resolve) => {
      onLine = (line) => {
        if (line.startsWith(affinity.spec.cidr)) resolve(performance.now());
      };
    });
    const start = performance.now();
    await stack.client.create(BLOCK_AFFINITIES, affinity);
    const elapsed = (await seen) - start;
    if (i >= WARM_UP) latencies.push(elapsed);
  }
  monitor.kill();
  return latencies;
}
