// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import { formatRate } from "../src/lab/rate.ts";
import type { RemoteLab } from "../src/lab/remote.ts";
import { inTurn, type Path, withPodPaths } from "./pod-paths.ts";
import type { BenchResult, BudgetLine } from "./report.ts";
import { median } from "./stats.ts";

/** Many short runs: the neighbours of a busy machine disturb some of them, and the median leaves those out. */
const RUNS = 25;
const BYTES = "600M";
const ATTEMPTS = 40;
const BUDGET = 0.98;

/** iperf3 from pod to pod, against the same veths, routes and tunnel made by hand. */
export async function benchThroughput(root: string): Promise<BenchResult> {
  const lines: string[] = [];
  const budgets: BudgetLine[] = [];
  const figures: Record<string, unknown> = {};
  await withPodPaths(root, async (lab, pairs) => {
    for (const pair of pairs) {
      const { ours, byHand } = await inTurn(RUNS, pair, (path) => measure(lab, path));
      const ratio = median(ours.map((rate, i) => rate / (byHand[i] ?? Number.NaN)));
      const [rate, handRate] = [formatRate(median(ours)), formatRate(median(byHand))];
      lines.push(`Pod to pod ${pair.name}: ${rate}, by hand ${handRate}, ${ratio.toFixed(2)} ×`);
      figures[pair.name] = { ours, byHand };
      if (pair.name === "across nodes")
        budgets.push({
          what: "Pod to pod across nodes",
          measured: `${ratio.toFixed(2)} × veths routed by hand`,
          budget: `at least ${BUDGET} ×`,
          holds: ratio >= BUDGET,
        });
    }
  });
  return { name: "throughput", lines, budgets, figures };
}

/** Units: bits a second, as received. */
async function measure(lab: RemoteLab, { from, to, ip }: Path): Promise<number> {
  const serving = lab.exec(to.target, [...to.enter, "timeout", "30", "iperf3", "-s", "-1"]);
  let said = "";
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { stdout } = await lab.exec(from.target, [...from.enter, "iperf3", "-c", ip, "-n", BYTES, "-J"]);
    const result = JSON.parse(stdout) as { error?: string; end?: { sum_received?: { bits_per_second?: number } } };
    const rate = result.end?.sum_received?.bits_per_second;
    if (rate !== undefined) {
      await serving;
      return rate;
    }
    // The server says nowhere that it listens, so the first attempt may come too early.
    said = result.error ?? stdout;
    await sleep(50);
  }
  throw new Error(`iperf3 to ${ip}: ${said}`);
}
