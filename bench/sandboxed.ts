// SPDX-License-Identifier: Apache-2.0
// Process 1 of the bench's namespaces: everything that needs the node for itself. Arguments: a folder on a disk, names.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runScript } from "../src/lab/run.ts";
import { setUpSandbox } from "../src/lab/topology.ts";
import { benchAddresses } from "./addresses.ts";
import { type BenchServer, startServer } from "./api-server.ts";
import { benchClusterSize } from "./cluster-size.ts";
import { benchBurst, benchLone } from "./cni-bench.ts";
import { benchCollection } from "./ipam-collection.ts";
import { benchKnownBlocks } from "./ipam-memory.ts";
import { benchFill, benchNearlyFull } from "./ipam-pools.ts";
import { benchRequesters } from "./ipam-rates.ts";
import { benchManyRoutes } from "./many-routes.ts";
import type { BenchResult } from "./report.ts";
import { benchRequests } from "./requests.ts";
import { benchRoutes } from "./routes.ts";
import { type Stack, startStack } from "./stack.ts";
import { benchStandalone } from "./standalone.ts";
import { benchVXLAN } from "./vxlan.ts";

/** As many as the largest burst has pods. */
const NAMESPACES = 250;
const AT_ONCE = 100;
const PODS_A_ROUND = 40;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [dir = "", ...names] = process.argv.slice(2);

process.on("disconnect", () => process.exit(1));
process.on("SIGINT", () => {});

/** The state of every contender lies on the same disk. */
async function setUp(): Promise<readonly string[]> {
  await setUpSandbox();
  for (const name of ["cni", "gingham"]) mkdirSync(join(dir, name));
  const netns = Array.from({ length: NAMESPACES }, (_, i) => `bench-${i}`);
  await runScript(`
    mount --bind ${dir}/cni /var/lib/cni
    mount --bind ${dir}/gingham /var/lib/gingham
    ln -s /usr/lib/cni/* /opt/cni/bin/
    install -m 755 ${root}/dist/gingham /opt/cni/bin/gingham
    ln -s ${root}/dist/gingham-standalone /opt/cni/bin/
    echo 1 > /proc/sys/net/ipv4/ip_forward
    printf '${netns.map((name) => `netns add ${name}\\n`).join("")}' | ip -batch -`);
  return netns.map((name) => `/run/netns/${name}`);
}

async function bench(name: string, work: () => Promise<BenchResult>): Promise<void> {
  if (!names.includes(name)) return;
  process.stdout.write(`\n${name} …\n`);
  const result = await work();
  process.stdout.write(`${result.lines.join("\n")}\n`);
  results.push(result);
}

async function withStack(purpose: string, data: string, work: (stack: Stack) => Promise<void>): Promise<void> {
  const stack = await startStack({ root, dir: join(dir, purpose), data, poolCIDR: "10.64.0.0/12" });
  await work(stack);
  await stack.stop();
}

/** An API server that only this bench writes to, its data on the disk by default. */
async function benchAlone(
  name: string,
  work: (server: BenchServer) => Promise<BenchResult>,
  data: string = join(dir, `${name}.db`),
): Promise<void> {
  if (!names.includes(name)) return;
  const server = await startServer({ root, dir: join(dir, name), data });
  await bench(name, () => work(server));
  await server.stop();
}

const results: BenchResult[] = [];
try {
  const netns = await setUp();
  await bench("routes", () => benchRoutes(root, dir));
  if (["lone", "burst", "requests", "standalone", "addresses"].some((name) => names.includes(name))) {
    await withStack("synced", join(dir, "api.db"), async (stack) => {
      await bench("lone", () => benchLone(stack, netns.slice(0, 3), PODS_A_ROUND));
      await bench("burst", () => benchBurst(stack, netns, 3));
      await bench("requests", () => benchRequests(stack, netns.slice(0, AT_ONCE), dir));
      await bench("standalone", () => benchStandalone(stack, netns[0] ?? ""));
      await bench("addresses", () => benchAddresses(stack));
    });
  }
  if (names.includes("cluster-size")) {
    await withStack("large", ":memory:", (stack) => bench("cluster-size", () => benchClusterSize(stack)));
  }
  if (names.includes("many-routes")) {
    await withStack("many-routes", ":memory:", (stack) => bench("many-routes", () => benchManyRoutes(stack)));
  }
  if (names.includes("vxlan")) {
    await withStack("vxlan", ":memory:", (stack) => bench("vxlan", () => benchVXLAN(stack)));
  }
  await benchAlone("requesters", benchRequesters);
  await benchAlone("nearly-full", benchNearlyFull);
  await benchAlone("fill", benchFill, ":memory:");
  await benchAlone("known-blocks", (server) => benchKnownBlocks(server, root), ":memory:");
  await benchAlone("collection", benchCollection);
  writeFileSync(join(dir, "results.json"), JSON.stringify(results));
  process.exit(0);
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(1);
}
