// SPDX-License-Identifier: Apache-2.0
import { Collector } from "../src/controller/collector.ts";
import { KubeSource } from "../src/controller/kube-source.ts";
import type { CollectorSettings, Reporter } from "../src/controller/ports.ts";
import { NODES } from "../src/crds/core.ts";
import { IPAM_HANDLES } from "../src/crds/ipam-handle.ts";
import { KubeStore } from "../src/ipam/kube-store.ts";
import { connectKube } from "../src/lab/connect-kube.ts";
import type { Clock } from "../src/lib/clock.ts";
import { systemClock } from "../src/lib/system-clock.ts";
import type { BenchServer } from "./api-server.ts";
import { createPool, RequestTally } from "./ipam-nodes.ts";
import { createBlocks, nthBlock } from "./ipam-objects.ts";
import type { BenchResult } from "./report.ts";
import { inParallel } from "./stack.ts";
import { formatMs } from "./stats.ts";

const LEAKED = 10_000;
const USED = 50;
const BLOCKS = LEAKED / USED;
const NODE_COUNT = 50;
const GRACE_MS = 15 * 60_000;
/** Above what the API server does, so that its speed is measured and not the rate cap. */
const NO_CAP = 100_000;

/** The controller frees 10,000 addresses of pods that are gone, on nodes that are there: see `Collector` for why it takes three looks. */
export async function benchCollection(server: BenchServer): Promise<BenchResult> {
  await createPool(server.client, "collection", { cidr: "10.0.0.0/16" });
  const node = (i: number): string => `leaky-${i % NODE_COUNT}`;
  await inParallel(NODE_COUNT, 8, async (i) => {
    await server.client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: node(i) } });
  });
  const blocks = Array.from({ length: BLOCKS }, (_, i) => ({ cidr: nthBlock(i), node: node(i), used: USED }));
  await createBlocks(server.client, blocks, { hasHandles: true });

  const tally = new RequestTally();
  const client = tally.count(await connectKube(server.adminKubeconfig));
  let lateMs = 0;
  const clock: Clock = { ...systemClock, nowMs: () => Date.now() + lateMs };
  const failures: unknown[] = [];
  const fail = (what: unknown): void => void failures.push(what);
  const source = new KubeSource({ client, clock, random: Math.random, onError: fail });
  source.start();
  await source.synced;
  let freed = 0;
  const reporter: Reporter = {
    census: () => {},
    skipped: fail,
    failed: (what, error) => fail(`${what}: ${String(error)}`),
    freed: (things) => {
      freed += things.filter(({ kind }) => kind === "address").length;
      return Promise.resolve();
    },
  };
  const store = new KubeStore(client);
  const options = { source, store, reporter, clock, random: Math.random, isDryRun: false, requestsPerSecond: NO_CAP };
  const collector = new Collector(options);
  const signal = new AbortController().signal;
  const settings: CollectorSettings = { ...(await source.settings(signal)), leakGraceMs: GRACE_MS };
  const passes: { ms: number; freed: number; all: number; blockWrites: number; requests: object }[] = [];
  for (let look = 0; look < 3; look++) {
    tally.reset();
    const start = performance.now();
    await collector.pass(settings, signal);
    const { all, blockWrites } = tally;
    passes.push({ ms: performance.now() - start, freed, all, blockWrites, requests: tally.toJSON() });
    lateMs += GRACE_MS;
  }
  await source.stop();
  const left = (await server.client.list(IPAM_HANDLES)).items.length;
  if (failures.length > 0 || freed !== LEAKED || left !== 0)
    throw new Error(`Freed ${freed} of ${LEAKED} addresses, ${left} handles left: ${failures.slice(0, 3).join("; ")}`);
  const what = ["first look", "second look, which asks the API server about each", "third look, which frees them"];
  return {
    name: "collection",
    lines: [
      `${LEAKED} leaked addresses in ${BLOCKS} blocks of ${NODE_COUNT} nodes:`,
      ...passes.map(
        ({ ms, all, blockWrites, requests }, i) =>
          `  ${what[i]}: ${formatMs(ms)}, ${all} requests, ${blockWrites} block writes ${JSON.stringify(requests)}`,
      ),
    ],
    budgets: [],
    figures: { passes },
  };
}
