// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { runOk } from "../src/lab/run.ts";
import type { BenchServer } from "./api-server.ts";
import { createPool } from "./ipam-nodes.ts";
import { createBlocks, nthBlock } from "./ipam-objects.ts";
import type { BenchResult } from "./report.ts";

const BLOCKS = 5120;
/** Of 64 addresses of each block. */
const USED = 60;
const OTHER_NODES = 500;

/** What ipam-memory-child.ts prints. Units: megabytes (10^6) after a collection of garbage, resident ones as they are. */
export interface MemoryFigures {
  readonly before: { readonly heap: number; readonly rss: number };
  /** With the affinities of all blocks in the informers. */
  readonly watching: { readonly heap: number; readonly rss: number };
  /** After the pool had nothing to claim, all blocks were listed, and addresses were borrowed. */
  readonly borrowing: { readonly heap: number; readonly rss: number };
  /** The most that was resident at any time. */
  readonly peakRSS: number;
  readonly borrowMs: number;
}

/** The allocator in a process of its own, in a cluster with 5,120 blocks that others own and that are nearly full. */
export async function benchKnownBlocks(server: BenchServer, root: string): Promise<BenchResult> {
  // 4,096 and 1,024 blocks of /26, so that there is nothing to claim.
  await createPool(server.client, "known-a", { cidr: "10.0.0.0/14" });
  await createPool(server.client, "known-b", { cidr: "10.4.0.0/16" });
  const blocks = Array.from({ length: BLOCKS }, (_, i) => ({
    cidr: nthBlock(i),
    node: `owner-${i % OTHER_NODES}`,
    used: USED,
  }));
  await createBlocks(server.client, blocks, { hasHandles: false });
  const program = [process.execPath, "--expose-gc", "--disable-warning=ExperimentalWarning"];
  const printed = await runOk([...program, join(root, "bench/ipam-memory-child.ts"), server.adminKubeconfig]);
  // Written by ipam-memory-child.ts of the same run.
  const figures = JSON.parse(printed) as MemoryFigures;
  const { before, watching, borrowing, peakRSS, borrowMs } = figures;
  const show = ({ heap, rss }: MemoryFigures["before"]): string =>
    `heap +${(heap - before.heap).toFixed(1)} MB, resident +${(rss - before.rss).toFixed(0)} MB`;
  return {
    name: "known blocks",
    lines: [
      `${BLOCKS} blocks of others known by their claims: ${show(watching)} over ${before.rss.toFixed(0)} MB`,
      `After all of them were listed to borrow from: ${show(borrowing)}, at most ${peakRSS.toFixed(0)} MB resident; the ` +
        `first borrowed address took ${borrowMs.toFixed(0)} ms`,
    ],
    budgets: [],
    figures,
  };
}
