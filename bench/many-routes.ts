// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import { BLOCK_AFFINITIES } from "../src/crds/block-affinity.ts";
import { NODES } from "../src/crds/core.ts";
import { ADDRESS_ANNOTATIONS } from "../src/felix/calc/node-addresses.ts";
import { renderNode } from "../src/lab/cluster-objects.ts";
import { runOk } from "../src/lab/run.ts";
import { createDirectKernel } from "../src/netlink/kernel.ts";
import { affinityOf, measureChanges } from "./cluster-size.ts";
import { processCPU, processRSS } from "./cpu.ts";
import { createPeerPool, PEER_BLOCKS } from "./peers.ts";
import type { BenchResult } from "./report.ts";
import { inParallel, type Stack } from "./stack.ts";
import { formatMs, median, percentile } from "./stats.ts";

const NODES_IN_ALL = 1000;
const ROUTES = 10_000;
const RESYNCS = 10;
const PERIOD_MS = 10_000;
const CHANGES_PER_SECOND = 100;
/** Blocks of what comes and goes, beyond those that stay and those of single changes. */
const FIRST_CHURNED = PEER_BLOCKS + ROUTES + 500;
const METRICS = "http://127.0.0.1:9091/metrics";

/** The agent with ten thousand routes: one change, all of them read again, rest, and changes without an end. */
export async function benchManyRoutes(stack: Stack): Promise<BenchResult> {
  const { client } = stack;
  await createPeerPool(client, "Never");
  await inParallel(NODES_IN_ALL, 32, async (i) => {
    const address = `172.30.${(i >> 8) + 1}.${i & 255}`;
    const node = renderNode(peer(i), address);
    const annotations = { [ADDRESS_ANNOTATIONS[4]]: `${address}/16` };
    await client.create(NODES, { ...node, metadata: { ...node.metadata, annotations } });
  });
  await inParallel(
    ROUTES,
    32,
    async (i) => void (await client.create(BLOCK_AFFINITIES, affinityOf(peer(i), PEER_BLOCKS + i))),
  );
  await untilRoutes(ROUTES);

  const latencies = await measureChanges(stack, PEER_BLOCKS + ROUTES);
  const resyncs: number[] = [];
  for (let i = 0; i < RESYNCS; i++) resyncs.push(await measureResync());
  const rest = await cpuPercent(stack, () => sleep(PERIOD_MS));
  const restRSS = processRSS(stack.agent.pid);
  const churn = await cpuPercent(stack, () => changeThings(stack));
  const rss = processRSS(stack.agent.pid);
  const [p50, p99] = [percentile(latencies, 50), percentile(latencies, 99)];
  return {
    name: "many routes",
    lines: [
      `${ROUTES} routes: one more after its BlockAffinity was sent to the API server p50 ${formatMs(p50)}, p99 ${formatMs(p99)}; all read and compared again ${formatMs(median(resyncs))}`,
      `${ROUTES} routes: agent at rest ${rest.toFixed(2)} % of a core, ${restRSS.toFixed(0)} MB; at ${CHANGES_PER_SECOND} changes a second ${churn.toFixed(1)} %, ${rss.toFixed(0)} MB`,
    ],
    budgets: [],
    figures: { latencies, resyncs, restPercent: rest, churnPercent: churn, restRSSMB: restRSS, rssMB: rss },
  };
}

function peer(i: number): string {
  return `peer-${i % NODES_IN_ALL}`;
}

async function untilRoutes(count: number): Promise<void> {
  const kernel = createDirectKernel();
  const written = async (): Promise<number> =>
    (await kernel.routes.listRoutes(4)).filter(({ protocol }) => protocol === 80).length;
  while ((await written()) < count) await sleep(200);
  await kernel.close();
}

/** A route of somebody's makes the agent read all. Units: milliseconds, as it measures them itself. */
async function measureResync(): Promise<number> {
  const before = await readResyncs();
  await runOk(["ip", "route", "add", "198.51.100.0/24", "via", "172.30.0.2", "proto", "static"]);
  let after = await readResyncs();
  while (after.count === before.count) {
    await sleep(100);
    after = await readResyncs();
  }
  await runOk(["ip", "route", "del", "198.51.100.0/24"]);
  // The deletion is another reason, and listings keep their distance.
  await sleep(3000);
  return ((after.seconds - before.seconds) / (after.count - before.count)) * 1000;
}

async function readResyncs(): Promise<{ readonly seconds: number; readonly count: number }> {
  const text = await (await fetch(METRICS)).text();
  const value = (name: string): number => Number(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, "m").exec(text)?.[1]);
  const name = "felix_route_table_resync_seconds";
  return { seconds: value(`${name}_sum`), count: value(`${name}_count`) };
}

/** Of the agent, all threads. */
async function cpuPercent(stack: Stack, work: () => Promise<unknown>): Promise<number> {
  const [cpu, time] = [processCPU(stack.agent.pid), performance.now()];
  await work();
  return ((processCPU(stack.agent.pid) - cpu) / (performance.now() - time)) * 100;
}

/** Claims come and go, evenly. */
async function changeThings({ client }: Stack): Promise<void> {
  const start = performance.now();
  const open: Promise<unknown>[] = [];
  for (let i = 0; i < (CHANGES_PER_SECOND * PERIOD_MS) / 1000; i++) {
    await sleep(Math.max(0, start + (i * 1000) / CHANGES_PER_SECOND - performance.now()));
    if (i % 2 === 0) {
      const affinity = affinityOf(peer(i), FIRST_CHURNED + (i >> 1));
      open.push(client.create(BLOCK_AFFINITIES, affinity));
    } else {
      // On a busy machine what is created takes longer than the 10 ms until it is to go.
      const { name } = affinityOf(peer(i - 1), FIRST_CHURNED + (i >> 1)).metadata;
      const created = open.at(-1);
      open.push(Promise.resolve(created).then(() => client.delete(BLOCK_AFFINITIES, name)));
    }
  }
  await Promise.all(open);
}
