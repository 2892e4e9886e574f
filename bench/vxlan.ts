// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import { BLOCK_AFFINITIES } from "../src/crds/block-affinity.ts";
import { NODES } from "../src/crds/core.ts";
import { IP_POOLS } from "../src/crds/ip-pool.ts";
import { ADDRESS_ANNOTATIONS } from "../src/felix/calc/node-addresses.ts";
import { TUNNEL_ADDRESS_ANNOTATIONS } from "../src/felix/calc/vtep.ts";
import { VXLAN_DEVICES } from "../src/felix/ownership.ts";
import { renderIPPool, renderNode } from "../src/lab/cluster-objects.ts";
import { runScript } from "../src/lab/run.ts";
import { createDirectKernel } from "../src/netlink/kernel.ts";
import { affinityOf, blockCIDR } from "./cluster-size.ts";
import { processCPU, processRSS } from "./cpu.ts";
import { createPeerPool, PEER_BLOCKS } from "./peers.ts";
import type { BenchResult } from "./report.ts";
import { inParallel, type Stack } from "./stack.ts";
import { formatMs, median } from "./stats.ts";

const PEERS = 1000;
const MORE_PEERS = 5000;
const RUNS = 5;
const MORE_RUNS = 3;
const BUDGET_MS = 1300;
/** Each look lists all entries, and must not cost the agent the processor. */
const LOOK_MS = 20;

/** From exec of the agent until the kernel has route, neighbour and forwarding entry of each of a thousand VXLAN peers. */
export async function benchVXLAN(stack: Stack): Promise<BenchResult> {
  const { client } = stack;
  const patch = { type: "merge", body: { spec: { vxlanMode: "Always" } } } as const;
  await client.patch(IP_POOLS, renderIPPool(26).metadata.name, patch);
  await createPeerPool(client, "Always");
  await createPeers(stack, 0, PEERS);
  // The first agent takes the tunnel address; what is measured is the start of one that has it.
  await untilComplete(PEERS);
  const starts = await measureStarts(stack, PEERS, RUNS);
  const rss = processRSS(stack.agent.pid);
  const start = median(starts.map(({ elapsedMs }) => elapsedMs));
  const cpu = median(starts.map(({ cpuMs }) => cpuMs));

  await createPeers(stack, PEERS, MORE_PEERS);
  await untilComplete(MORE_PEERS);
  const more = await measureStarts(stack, MORE_PEERS, MORE_RUNS);
  const moreStart = median(more.map(({ elapsedMs }) => elapsedMs));
  return {
    name: "vxlan",
    lines: [
      `${PEERS} VXLAN peers: agent from exec until route, neighbour and FDB entry of each are in the kernel ${formatMs(start)}, ${rss.toFixed(0)} MB (Calico's agent: 1.3 s, 104 MB); ${formatMs(cpu)} of processor time until it is ready`,
      `${MORE_PEERS} VXLAN peers: ${formatMs(moreStart)}, ${processRSS(stack.agent.pid).toFixed(0)} MB`,
    ],
    budgets: [
      {
        what: `Agent from exec until ${PEERS} VXLAN peers are in the kernel`,
        measured: formatMs(start),
        budget: `at most ${formatMs(BUDGET_MS)}`,
        holds: start <= BUDGET_MS,
      },
    ],
    figures: { starts, more, rssMB: rss },
  };
}

/** Nodes with their tunnel addresses and a block each, those from `first` on. */
async function createPeers({ client }: Stack, first: number, end: number): Promise<void> {
  await inParallel(end - first, 32, async (n) => {
    const i = first + n;
    const address = `172.30.${(i >> 8) + 1}.${i & 255}`;
    const node = renderNode(`peer-${i}`, address);
    // As agents write them.
    const annotations = {
      [ADDRESS_ANNOTATIONS[4]]: `${address}/16`,
      [TUNNEL_ADDRESS_ANNOTATIONS[4]]: blockCIDR(PEER_BLOCKS + i).replace("/26", ""),
    };
    await client.create(NODES, { ...node, metadata: { ...node.metadata, annotations } });
    await client.create(BLOCK_AFFINITIES, affinityOf(`peer-${i}`, PEER_BLOCKS + i));
  });
}

interface Start {
  readonly elapsedMs: number;
  /** Of the agent alone, until it is ready. */
  readonly cpuMs: number;
}

async function measureStarts(stack: Stack, peers: number, runs: number): Promise<readonly Start[]> {
  const starts: Start[] = [];
  for (let run = 0; run < runs; run++) {
    await stack.agent.kill("SIGTERM");
    await runScript("ip link delete vxlan.calico; ip route flush proto 80");
    const before = performance.now();
    const started = stack.restartAgent();
    await untilComplete(peers);
    const elapsedMs = performance.now() - before;
    await started;
    starts.push({ elapsedMs, cpuMs: processCPU(stack.agent.pid) });
  }
  return starts;
}

/** Reads the kernel in this process: programs that are started to look would take the time that is measured. */
async function untilComplete(peers: number): Promise<void> {
  const kernel = createDirectKernel();
  const isComplete = async (): Promise<boolean> => {
    const device = (await kernel.routes.listLinks()).find(({ name }) => name === VXLAN_DEVICES[4]);
    if (device === undefined) return false;
    const entries = await kernel.tunnels.listEntries(device.ifIndex);
    if (entries.length < 2 * peers) return false;
    const routes = await kernel.routes.listRoutes(4);
    return routes.filter(({ ifIndex, protocol }) => ifIndex === device.ifIndex && protocol === 80).length >= peers;
  };
  while (!(await isComplete())) await sleep(LOOK_MS);
  await kernel.close();
}
