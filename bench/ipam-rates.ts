// SPDX-License-Identifier: Apache-2.0
import type { BenchServer } from "./api-server.ts";
import { createPool, SimulatedNodes } from "./ipam-nodes.ts";
import type { BenchResult } from "./report.ts";
import { inParallel } from "./stack.ts";
import { median } from "./stats.ts";

const RUNS = 3;
/** Requesters, and how many addresses they take in a run. */
const LOADS = [
  { requesters: 1, addresses: 150 },
  { requesters: 8, addresses: 480 },
  { requesters: 64, addresses: 960 },
] as const;

/** Addresses a second, and what each costs the API server, for more and more requesters on one node. */
export async function benchRequesters(server: BenchServer): Promise<BenchResult> {
  await createPool(server.client, "requesters", { cidr: "10.0.0.0/14" });
  const nodes = await SimulatedNodes.start(server);
  const { tally } = nodes;
  const figures: object[] = [];
  const lines: string[] = [];
  for (const { requesters, addresses } of LOADS) {
    const runs: { rate: number; each: number; blockWrites: number; reads: number; requests: object }[] = [];
    for (let run = 0; run < RUNS; run++) {
      const name = `requesters-${requesters}-${run}`;
      const allocator = await nodes.add(name);
      await allocator.warmUp([4]);
      tally.reset();
      const start = performance.now();
      await inParallel(addresses, requesters, async (i) => {
        await allocator.assign({ handleID: `bench.${name}-${i}`, attributes: { node: name }, families: [4] });
      });
      const rate = addresses / ((performance.now() - start) / 1000);
      const { all, reads, blockWrites } = tally;
      runs.push({ rate, each: all / addresses, blockWrites, reads, requests: tally.toJSON() });
      await inParallel(addresses, 64, (i) => allocator.releaseByHandle(`bench.${name}-${i}`));
    }
    const of = (key: "rate" | "each" | "blockWrites" | "reads"): number => median(runs.map((run) => run[key]));
    lines.push(
      `${requesters} at once on one node: ${of("rate").toFixed(0)} addresses a second, ${of("each").toFixed(2)} requests ` +
        `for each (of ${addresses}: ${of("blockWrites")} block writes, ${of("reads")} reads)`,
    );
    figures.push({ requesters, addresses, runs });
  }
  await nodes.close();
  return { name: "requesters", lines, budgets: [], figures };
}
