// SPDX-License-Identifier: Apache-2.0
// One allocator with nothing beside it but its watches: prints what it weighs. Argument: a kubeconfig.
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { connectKube } from "../src/lab/connect-kube.ts";
import type { MemoryFigures } from "./ipam-memory.ts";
import { SimulatedNodes } from "./ipam-nodes.ts";

// As in src/main/agent.ts.
setFlagsFromString("--semi-space-growth-factor=1");

const BORROWED = 20;
const [, , adminKubeconfig = ""] = process.argv;
const { gc } = globalThis;
if (gc === undefined) throw new Error("Start this with node --expose-gc");

async function measure(): Promise<MemoryFigures["before"]> {
  // Finalizers and closed connections take a moment.
  await sleep(300);
  gc?.();
  const { heapUsed, rss } = process.memoryUsage();
  return { heap: heapUsed / 1e6, rss: rss / 1e6 };
}

const client = await connectKube(adminKubeconfig);
const before = await measure();
const nodes = await SimulatedNodes.start({ client, adminKubeconfig });
const allocator = await nodes.add("newcomer");
const watching = await measure();
const start = performance.now();
let borrowMs = 0;
for (let i = 0; i < BORROWED; i++) {
  await allocator.assign({ handleID: `bench.borrowed-${i}`, attributes: { node: "newcomer" }, families: [4] });
  if (i === 0) borrowMs = performance.now() - start;
}
const borrowing = await measure();
const figures: MemoryFigures = {
  before,
  watching,
  borrowing,
  peakRSS: process.resourceUsage().maxRSS / 1e3,
  borrowMs,
};
process.stdout.write(`${JSON.stringify(figures)}\n`);
process.exit(0);
