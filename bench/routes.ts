// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { runOk, runScript } from "../src/lab/run.ts";
import type { BenchResult } from "./report.ts";
import { formatMs, median } from "./stats.ts";

export const ROUTES = 10_000;
const RUNS = 5;

/** Network of the i-th route: a /26, as blocks are. */
export function routeDst(i: number): string {
  const address = (10 << 24) + i * 64;
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}/26`;
}

/** Our route dataplane against `ip -batch`, each into an empty table of a namespace of its own, taking turns. */
export async function benchRoutes(root: string, dir: string): Promise<BenchResult> {
  const batch = join(dir, "routes.batch");
  const lines = Array.from(
    { length: ROUTES },
    (_, i) => `route replace ${routeDst(i)} via 172.31.9.2 dev uplink proto 80\n`,
  );
  writeFileSync(batch, lines.join(""));
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    theirs.push(
      await inFreshNamespace("routes-ip", async (enter) => {
        const start = performance.now();
        await runOk([...enter, "ip", "-batch", batch]);
        return performance.now() - start;
      }),
    );
    ours.push(
      await inFreshNamespace("routes-us", async (enter) => {
        const program = [
          process.execPath,
          "--disable-warning=ExperimentalWarning",
          join(root, "bench/routes-child.ts"),
        ];
        return Number(await runOk([...enter, ...program]));
      }),
    );
  }
  const ratio = median(ours) / median(theirs);
  return {
    name: "routes",
    lines: [`${ROUTES} routes from nothing: ${formatMs(median(ours))}, ip -batch ${formatMs(median(theirs))}`],
    budgets: [
      {
        what: `${ROUTES} routes from nothing`,
        measured: `${ratio.toFixed(2)} × ip -batch`,
        budget: "at most 2 ×",
        holds: ratio <= 2,
      },
    ],
    figures: { ours, theirs },
  };
}

async function inFreshNamespace(name: string, work: (enter: readonly string[]) => Promise<number>): Promise<number> {
  await runScript(`
    ip netns add ${name}
    ip -n ${name} link add uplink type veth peer name peer
    ip -n ${name} addr add 172.31.9.1/24 dev uplink
    ip -n ${name} link set uplink up
    ip -n ${name} link set peer up`);
  try {
    const found = await work(["nsenter", `--net=/run/netns/${name}`, "--"]);
    const there = (await runOk(["ip", "-n", name, "route", "show", "proto", "80"])).trim().split("\n").length;
    if (there !== ROUTES) throw new Error(`${name} has ${there} routes instead of ${ROUTES}`);
    return found;
  } finally {
    await runOk(["ip", "netns", "del", name]);
  }
}
