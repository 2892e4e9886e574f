// SPDX-License-Identifier: Apache-2.0
import { createAllocator } from "../src/ipam/allocator/allocator.ts";
import { KubeStore } from "../src/ipam/kube-store.ts";
import { sourcesOf } from "../src/ipam/sources.ts";
import { ClusterCache } from "../src/kube/cluster-cache.ts";
import { systemClock } from "../src/lib/system-clock.ts";
import type { BenchResult } from "./report.ts";
import { inParallel, type Stack } from "./stack.ts";
import { median } from "./stats.ts";

const REQUESTERS = 64;
const ADDRESSES = 960;
const RUNS = 3;
/** What Calico's library does alone, before its compare-and-swaps fight; see platform-facts.md. */
const CALICO_PER_SECOND = 20;

/**
 * Addresses a second through the allocator and its group commit, with nothing else in the way but the API server. What it
 * reads comes from an agent's informers, as in src/main/agent.ts, so that what is measured is what an agent does.
 */
export async function benchAddresses(stack: Stack): Promise<BenchResult> {
  const rates: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    const nodeName = `requesters-${run}`;
    const onError = (error: unknown): void => void process.stderr.write(`bench: ${String(error)}\n`);
    const shared = { client: stack.client, clock: systemClock, random: Math.random, onError };
    const cache = new ClusterCache({ ...shared, nodeName });
    cache.start();
    await cache.allocationSynced;
    const allocator = createAllocator({
      store: new KubeStore(stack.client),
      sources: sourcesOf(cache.ipamObjects(), nodeName),
      clock: systemClock,
      random: Math.random,
      nodeName,
      isResident: true,
    });
    await allocator.warmUp([4]);
    const handle = (i: number): string => `bench.${nodeName}-${i}`;
    const start = performance.now();
    await inParallel(ADDRESSES, REQUESTERS, async (i) => {
      await allocator.assign({ handleID: handle(i), attributes: { node: nodeName }, families: [4] });
    });
    rates.push(ADDRESSES / ((performance.now() - start) / 1000));
    await inParallel(ADDRESSES, REQUESTERS, (i) => allocator.releaseByHandle(handle(i)));
    allocator.close();
    await cache.stop();
  }
  const rate = median(rates);
  return {
    name: "addresses",
    lines: [`${REQUESTERS} requesters on one node: ${rate.toFixed(0)} addresses a second`],
    budgets: [
      {
        what: `Addresses a second, ${REQUESTERS} requesters`,
        measured: `${rate.toFixed(0)} (${(rate / CALICO_PER_SECOND).toFixed(0)} × Calico's ${CALICO_PER_SECOND})`,
        budget: `at least ${10 * CALICO_PER_SECOND}`,
        holds: rate >= 10 * CALICO_PER_SECOND,
      },
    ],
    figures: { rates },
  };
}
