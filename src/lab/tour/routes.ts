// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import { count, type Lab } from "../lab.ts";
import { listBlocks } from "./kubectl.ts";
import type { Probe } from "./probe.ts";

/** Agents hear of a new block by their watches; this is far more than that takes. */
const CONVERGENCE_MS = 5_000;

/** Each node's routing table: its pods, a blackhole for its own block, and one route for each block of another node. */
export const SHOW_ROUTES: Probe = {
  title: "the routes of each node: ip route",
  async run(lab) {
    const blocks = await listBlocks(lab);
    const deadline = performance.now() + CONVERGENCE_MS;
    let tables = await readTables(lab);
    while (findGaps(tables, blocks).length > 0 && performance.now() < deadline) {
      await sleep(50);
      tables = await readTables(lab);
    }
    return {
      lines: [...tables]
        .flatMap(([node, routes]) => [`${node}:`, ...routes.map((route) => `  ${route}`), ""])
        .slice(0, -1),
      problems: findGaps(tables, blocks),
      summary: `${count(blocks.length, "block")} routed on ${count(tables.size, "node")}`,
    };
  },
};

async function readTables(lab: Lab): Promise<ReadonlyMap<string, readonly string[]>> {
  const tables = lab.nodes.map(async ({ name }) => {
    const ofFamily = lab.families.map(async (family) => (await lab.exec(name, ["ip", `-${family}`, "route"])).stdout);
    const lines = (await Promise.all(ofFamily)).flatMap((stdout) => stdout.split("\n")).map((line) => line.trim());
    // Every link has one of these, and they say nothing.
    return [name, lines.filter((line) => line !== "" && !line.startsWith("fe80::/64 "))] as const;
  });
  return new Map(await Promise.all(tables));
}

/** Blocks that a node does not know. A block of one address has no blackhole: its pod's own route is the same. */
export function findGaps(tables: ReadonlyMap<string, readonly string[]>, blocks: readonly string[]): readonly string[] {
  const large = blocks.filter((block) => !/\/(?:32|128)$/.test(block));
  return [...tables].flatMap(([node, routes]) =>
    large
      .filter(
        (block) => !routes.some((route) => route.startsWith(`${block} `) || route.startsWith(`blackhole ${block} `)),
      )
      .map((block) => `${node} has no route for block ${block}`),
  );
}
