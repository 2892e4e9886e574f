// SPDX-License-Identifier: Apache-2.0
import type { RemoteLab } from "../src/lab/remote.ts";
import { inTurn, type Path, withPodPaths } from "./pod-paths.ts";
import type { BenchResult } from "./report.ts";
import { median } from "./stats.ts";

const RUNS = 15;
const PINGS = 300;

/** The round trip from pod to pod: on one node, across nodes plain and in VXLAN, each beside the same by hand. */
export async function benchRoundTrip(root: string): Promise<BenchResult> {
  const parts: string[] = [];
  const figures: Record<string, unknown> = {};
  const us = (values: readonly number[]): string => `${(median(values) * 1000).toFixed(0)} µs`;
  await withPodPaths(root, async (lab, pairs) => {
    for (const pair of pairs) {
      const { ours, byHand } = await inTurn(RUNS, pair, (path) => roundTrip(lab, path));
      const ratio = median(ours.map((time, i) => time / (byHand[i] ?? Number.NaN)));
      parts.push(`${pair.name} ${us(ours)} (by hand ${us(byHand)}, ${ratio.toFixed(2)} ×)`);
      figures[pair.name] = { ours, byHand };
    }
  });
  return { name: "round trip", lines: [`Round trip of a ping, pod to pod: ${parts.join(", ")}`], budgets: [], figures };
}

/** The average of many pings. Units: milliseconds. */
async function roundTrip(lab: RemoteLab, { from, ip }: Path): Promise<number> {
  const argv = [...from.enter, "ping", "-c", String(PINGS), "-i", "0.002", "-q", ip];
  const { stdout } = await lab.exec(from.target, argv);
  const average = /= [\d.]+\/([\d.]+)\//.exec(stdout)?.[1];
  if (average === undefined || !stdout.includes(" 0% packet loss"))
    throw new Error(`ping ${ip} from ${from.target}: ${stdout}`);
  return Number(average);
}
