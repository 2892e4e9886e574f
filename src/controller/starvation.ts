// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../crds/ip-pool.ts";
import type { IPAMConfigSpec } from "../crds/ipam-config.ts";
import { selectsNode } from "../ipam/pools.ts";
import { DEFAULT_BLOCK_LIMIT } from "../ipam/shortage.ts";
import { bitsOf, type Family } from "../net/ip.ts";
import type { NodeRoom, PoolProblem } from "./ports.ts";

/** Pools that a group of nodes takes its addresses from, and nothing else. */
interface Supply {
  readonly pools: readonly EffectiveIPPool[];
  readonly nodes: readonly NodeRoom[];
}

/**
 * Which pools leave nodes without addresses, because of the rules of IPAMConfig: too few blocks for the nodes that may
 * not borrow, and blocks so small that the limit on their number keeps a node from running the pods that it allows.
 *
 * Pools for some namespaces, and those that are assigned only by name, are left out: nobody can say how many nodes
 * their pods will run on.
 */
export function starvingPools(
  pools: readonly EffectiveIPPool[],
  nodes: readonly NodeRoom[],
  config: IPAMConfigSpec,
): ReadonlyMap<string, readonly PoolProblem[]> {
  const problems = new Map<string, PoolProblem[]>();
  for (const family of [4, 6] as const) {
    for (const supply of suppliesOf(pools, nodes, family)) {
      const found = [config.strictAffinity ? tooFewBlocks(supply) : undefined, blockLimit(supply, config)];
      for (const problem of found) {
        if (problem === undefined) continue;
        for (const { name } of supply.pools) problems.set(name, [...(problems.get(name) ?? []), problem]);
      }
    }
  }
  return new Map([...problems].map(([name, all]) => [name, firstOfEachReason(all)]));
}

/** For each choice of pools that some node has, the nodes that have no others than these. */
function suppliesOf(pools: readonly EffectiveIPPool[], nodes: readonly NodeRoom[], family: Family): readonly Supply[] {
  const general = pools.filter(
    (pool) =>
      pool.family === family &&
      pool.assignmentMode === "Automatic" &&
      pool.namespaceSelector === undefined &&
      pool.allowedUses.includes("Workload"),
  );
  const choices = nodes.map((node) => ({ node, pools: general.filter((pool) => selectsNode(pool, node.labels)) }));
  const distinct = Map.groupBy(choices, (choice) => choice.pools.map(({ name }) => name).join(" "));
  return [...distinct.values()].flatMap(([first]) => {
    if (first === undefined || first.pools.length === 0) return [];
    const own = new Set(first.pools);
    const served = choices.filter((choice) => choice.pools.length > 0 && choice.pools.every((pool) => own.has(pool)));
    return [{ pools: first.pools, nodes: served.map(({ node }) => node) }];
  });
}

function tooFewBlocks({ pools, nodes }: Supply): PoolProblem | undefined {
  const blocks = pools.reduce((sum, { blockSize, cidr }) => sum + 2 ** (blockSize - cidr.prefixLength), 0);
  if (blocks >= nodes.length) return undefined;
  const have = pools.length === 1 ? "This pool has" : `Pools ${pools.map(({ name }) => name).join(", ")} together have`;
  const what = `${have} ${blocks} ${blocks === 1 ? "block" : "blocks"}, and ${nodes.length} nodes have no other pool`;
  const then = `${nodes.length - blocks} of them get no address, since strictAffinity of IPAMConfig default forbids to borrow`;
  return { reason: "TooFewBlocks", message: `${what}: ${then}; add an IPPool, or set strictAffinity to false` };
}

function blockLimit({ pools, nodes }: Supply, { maxBlocksPerHost }: IPAMConfigSpec): PoolProblem | undefined {
  const limit = maxBlocksPerHost || DEFAULT_BLOCK_LIMIT;
  // At best: all blocks of the pool with the largest ones.
  const room = limit * Math.max(...pools.map(({ blockSize, family }) => 2 ** (bitsOf(family) - blockSize)));
  const short = nodes.filter(({ maxPods = 0 }) => maxPods > room);
  const [first] = short.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  if (first === undefined) return undefined;
  const source =
    maxBlocksPerHost > 0 ? "maxBlocksPerHost of IPAMConfig default" : "built in while maxBlocksPerHost is 0";
  const most = `A node owns at most ${limit} ${limit === 1 ? "block" : "blocks"} (${source}), which is ${room} addresses`;
  const who = short.length === 1 ? `node ${first.name} allows` : `${short.length} nodes, such as ${first.name}, allow`;
  const then = `${who} ${first.maxPods} pods: those beyond get no address, and at its limit a node does not borrow`;
  const step = "raise maxBlocksPerHost (it needs strictAffinity), or use a pool of larger blocks";
  return { reason: "BlockLimit", message: `${most}, but ${then}; ${step}` };
}

/** A pool may be in several supplies; the first that is short stands for all. */
function firstOfEachReason(problems: readonly PoolProblem[]): readonly PoolProblem[] {
  return [...Map.groupBy(problems, ({ reason }) => reason).values()].flatMap(([first]) => first ?? []);
}
