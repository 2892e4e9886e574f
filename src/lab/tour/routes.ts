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
  async run(lab, { blockSize }) {
    const blocks = await listBlocks(lab);
    const deadline = performance.now() + CONVERGENCE_MS;
    let tables = await readTables(lab);
    while (findGaps(tables, blocks, blockSize).length > 0 && performance.now() < deadline) {
      await sleep(50);
      tables = await readTables(lab);
    }
    return {
      lines: [...tables]
        .flatMap(([node, routes]) => [`${node}:`, ...routes.map((route) => `  ${route}`), ""])
        .slice(0, -1),
      problems: findGaps(tables, blocks, blockSize),
      summary: `${count(blocks.length, "block")} routed on ${count(tables.size, "node")}`,
    };
  },
};

async function readTables(lab: Lab): Promise<ReadonlyMap<string, readonly string[]>> {
  const tables = lab.nodes.map(async ({ name }) => {
    const { stdout } = await lab.exec(name, ["ip", "-4", "route"]);
    const routes = stdout.split("\n").map((line) => line.trim());
    return [name, routes.filter((line) => line !== "")] as const;
  });
  return new Map(await Promise.all(tables));
}

/** Blocks that a node does not know. A block of one address has no blackhole: its pod's own route is the same. */
export function findGaps(
  tables: ReadonlyMap<string, readonly string[]>,
  blocks: readonly string[],
  blockSize: number,
): readonly string[] {
  if (blockSize === 32) return [];
  return [...tables].flatMap(([node, routes]) =>
    blocks
      .filter(
        (block) => !routes.some((route) => route.startsWith(`${block} `) || route.startsWith(`blackhole ${block} `)),
      )
      .map((block) => `${node} has no route for block ${block}`),
  );
}
