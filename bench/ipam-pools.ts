// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import type { Allocator } from "../src/ipam/allocator/allocator.ts";
import { IPAMError } from "../src/ipam/errors.ts";
import type { BenchServer } from "./api-server.ts";
import { createPool, type RequestTally, SimulatedNodes } from "./ipam-nodes.ts";
import { createBlocks, type FilledBlock, nthBlock } from "./ipam-objects.ts";
import type { BenchResult } from "./report.ts";
import { inParallel } from "./stack.ts";
import { formatMs, percentile } from "./stats.ts";

const NODES = 50;
/** A /20: 64 blocks of 64 addresses. */
const BLOCKS = 64;
/** Blocks with something left, of the first nodes; all others are full. */
const WITH_ROOM = 10;
const ROOM = 40;
/** Addresses that each node wants at once; together 350 of the 400 that are left. */
const WANTED = 7;

const FILL_NODES = 200;
const FILL_ADDRESSES = 65_536;
/** Addresses of one request, so that a /16 takes 4,096 handles and not 65,536. */
const FILL_COUNT = 16;
const FILL_LIMIT_MS = 25_000;
const RETRY_MS = 100;

/** 50 nodes at once on one pool with 400 addresses left, in blocks of ten of them; then the same when it is full. */
export async function benchNearlyFull(server: BenchServer): Promise<BenchResult> {
  const pool = "nearly-full";
  await createPool(server.client, pool, { cidr: "10.0.0.0/20" });
  const node = (i: number): string => `full-${String(i).padStart(2, "0")}`;
  const filled: FilledBlock[] = Array.from({ length: BLOCKS }, (_, i) => ({
    cidr: nthBlock(i),
    node: node(i % NODES),
    used: i < WITH_ROOM ? 64 - ROOM : 64,
  }));
  await createBlocks(server.client, filled, { hasHandles: false });
  const nodes = await SimulatedNodes.start(server);
  const allocators: Allocator[] = [];
  for (let i = 0; i < NODES; i++) allocators.push(await nodes.add(node(i)));

  const round = async (name: string, each: number): Promise<Round> => {
    const latencies: number[] = [];
    let refused = 0;
    nodes.tally.reset();
    const start = performance.now();
    await inParallel(NODES * each, NODES * each, async (i) => {
      const handleID = `bench.${name}-${i}`;
      const began = performance.now();
      const request = { handleID, attributes: { node: node(i % NODES) }, families: [4] as const };
      await allocators[i % NODES]?.assign(request).catch(() => refused++);
      latencies.push(performance.now() - began);
    });
    return { requested: NODES * each, refused, ms: performance.now() - start, latencies, ...counts(nodes.tally) };
  };
  const taking = await round("taken", WANTED);
  const last = await round("last", 1);
  const full = await round("full", 1);
  const again = await round("again", 1);
  await nodes.close();
  return {
    name: "nearly full",
    lines: [
      `${NODES} nodes at once, ${taking.requested} addresses of ${WITH_ROOM * ROOM} left: ${describe(taking)}`,
      `The same nodes, one more each: ${describe(last)}`,
      `The same nodes, when the pool is full: ${describe(full)}`,
      `And once more: ${describe(again)}`,
    ],
    budgets: [],
    figures: { taking, last, full, again },
  };
}

interface Round {
  readonly requested: number;
  readonly refused: number;
  readonly ms: number;
  readonly latencies: readonly number[];
  readonly all: number;
  readonly requests: object;
}

function counts(tally: RequestTally): { readonly all: number; readonly requests: object } {
  return { all: tally.all, requests: tally.toJSON() };
}

function describe({ requested, refused, ms, latencies, all, requests }: Round): string {
  const p99 = formatMs(percentile(latencies, 99));
  const each = (all / requested).toFixed(1);
  return `${formatMs(ms)}, p99 ${p99}, ${refused} refused, ${each} requests for each (${JSON.stringify(requests)})`;
}

/**
 * A /16 from empty to its last address, in memory: 5,000 synced writes more would say nothing about allocation. After
 * FILL_LIMIT_MS no request begins any more, however far it has come.
 */
export async function benchFill(server: BenchServer): Promise<BenchResult> {
  await createPool(server.client, "fill", { cidr: "10.16.0.0/16" });
  const nodes = await SimulatedNodes.start(server);
  const allocators: Allocator[] = [];
  for (let i = 0; i < FILL_NODES; i++) allocators.push(await nodes.add(`fill-${i}`));
  nodes.tally.reset();
  const start = performance.now();
  const deadline = AbortSignal.timeout(FILL_LIMIT_MS);
  const errors = new Map<string, number>();
  const marks: string[] = [];
  let given = 0;
  const take = async (i: number): Promise<void> => {
    const nodeName = `fill-${i % FILL_NODES}`;
    const request = { handleID: `bench.fill-${i}`, attributes: { node: nodeName }, families: [4] as const };
    const got = await allocators[i % FILL_NODES]?.assign({ ...request, count: FILL_COUNT }, deadline);
    const before = Math.floor((given * 10) / FILL_ADDRESSES);
    given += got?.length ?? 0;
    const elapsed = `${((performance.now() - start) / 1000).toFixed(1)} s`;
    if (Math.floor((given * 10) / FILL_ADDRESSES) > before) marks.push(`${(before + 1) * 10} % ${elapsed}`);
  };
  // One request after the other on each node, and the failed ones again after a moment, as a kubelet does, only that it
  // waits for longer; the last ones borrow.
  await inParallel(FILL_ADDRESSES / FILL_COUNT, FILL_NODES, async (i) => {
    for (let isDone = false; !isDone && !deadline.aborted; ) {
      isDone = await take(i).then(
        () => true,
        (error: unknown) => {
          const code = error instanceof IPAMError ? error.code : String(error);
          if (!deadline.aborted) errors.set(code, (errors.get(code) ?? 0) + 1);
          return false;
        },
      );
      if (!isDone) await sleep(RETRY_MS);
    }
  });
  const ms = performance.now() - start;
  const { all, blockWrites, reads } = nodes.tally;
  const requests = nodes.tally.toJSON();
  await nodes.close();
  return {
    name: "fill",
    lines: [
      `A /16 and ${FILL_NODES} nodes, ${FILL_COUNT} addresses a request, in memory: ${given} of ${FILL_ADDRESSES} addresses ` +
        `in ${formatMs(ms)}, ${all} requests (${blockWrites} block writes, ${reads} reads)`,
      `  on the way: ${marks.join(", ")}; failed and tried again: ${JSON.stringify(Object.fromEntries(errors))}`,
      `  ${JSON.stringify(requests)}`,
    ],
    budgets: [],
    figures: { ms, given, all, blockWrites, reads, requests, marks, errors: Object.fromEntries(errors) },
  };
}
