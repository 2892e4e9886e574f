// SPDX-License-Identifier: Apache-2.0
import { NODES } from "../../crds/core.ts";
import { InvalidObjectError } from "../../crds/errors.ts";
import { type EffectiveIPPool, effectiveIPPool, parseIPPool } from "../../crds/ip-pool.ts";
import { GROWTH_METHOD, type Growth } from "../../ipam/capacity/growth.ts";
import {
  type CapacityNode,
  type ClusterRoom,
  clusterRoom,
  type NodeRoom,
  type PoolRoom,
} from "../../ipam/capacity/room.ts";
import { planSize, type SizePlan } from "../../ipam/capacity/size.ts";
import type { KubeClient } from "../../kube/api.ts";
import { formatCIDR } from "../../net/cidr.ts";
import { type Command, type CommandContext, defineCommand, EXIT } from "../command.ts";
import { UsageError } from "../errors.ts";
import { renderFacts, renderTable } from "../output/table.ts";
import { readCluster } from "./read-cluster.ts";

/** Source: Kubernetes, KubeletConfiguration, maxPods. */
const KUBELET_MAX_PODS = "110";

export const command: Command = defineCommand({
  usage: `gingham ipam plan: how long the addresses last

  gingham ipam plan                      how many more pods fit on which nodes; days until pools are full
  gingham ipam plan --pool-size 10.0.0.0/16 [--block-size 26] [--nodes 200] [--pods-per-node 110]
                                         what a pool would give: needs no cluster

  --pool-size CIDR         a network, or just its length, such as /16 (up to /32 IPv4, beyond IPv6)
  --block-size LENGTH      of its blocks (default: 26 for IPv4, 122 for IPv6)
  --nodes N                nodes that shall use it
  --pods-per-node M        pods of each (default: ${KUBELET_MAX_PODS}, as kubelets allow)
  --max-blocks-per-host N  as IPAMConfig has it (default: 0, the built-in limit of 20)

Exit status 1 when a node has no address left, or what was asked for does not fit.
`,
  options: {
    "pool-size": { type: "string" },
    "block-size": { type: "string" },
    nodes: { type: "string" },
    "pods-per-node": { type: "string" },
    "max-blocks-per-host": { type: "string" },
  },
  run: async ({ values, positionals }, context) => {
    if (positionals.length > 0) throw new UsageError(`${JSON.stringify(positionals[0])} is not understood`);
    const { "pool-size": size, ...rest } = values;
    if (size !== undefined) return await showSize({ ...rest, size }, context);
    const stray = (["block-size", "nodes", "pods-per-node", "max-blocks-per-host"] as const).find((name) => rest[name]);
    if (stray !== undefined) throw new UsageError(`--${stray} goes with --pool-size`);
    return await showRoom(await context.connect(), context);
  },
});

interface SizeArgs {
  readonly size: string;
  readonly "block-size"?: string;
  readonly nodes?: string;
  readonly "pods-per-node"?: string;
  readonly "max-blocks-per-host"?: string;
}

async function showSize(args: SizeArgs, context: CommandContext): Promise<number> {
  const nodes = args.nodes === undefined ? undefined : wholeNumber("nodes", args.nodes, 1);
  const plan = planSize({
    pool: poolOf(args.size, args["block-size"]),
    ...(nodes !== undefined && { nodes }),
    podsPerNode: wholeNumber("pods-per-node", args["pods-per-node"] ?? KUBELET_MAX_PODS, 1),
    maxBlocksPerHost: wholeNumber("max-blocks-per-host", args["max-blocks-per-host"] ?? "0", 0),
  });
  await context.show(() => renderSize(plan), plan);
  return plan.fits ? EXIT.ok : EXIT.problem;
}

/** The rules for pools are those of the kind itself. */
function poolOf(size: string, blockSize: string | undefined): EffectiveIPPool {
  const length = /^\/(\d{1,3})$/.exec(size)?.[1];
  const cidr = length === undefined ? size : `${Number(length) > 32 ? "::" : "0.0.0.0"}${size}`;
  const spec = { cidr, ...(blockSize !== undefined && { blockSize: wholeNumber("block-size", blockSize, 1) }) };
  try {
    return effectiveIPPool(parseIPPool({ metadata: { name: "planned" }, spec }));
  } catch (error) {
    if (!(error instanceof InvalidObjectError)) throw error;
    throw new UsageError(error.message.replace(/^IPPool planned: spec\.|; correct or delete the object$/g, ""));
  }
}

async function showRoom(client: KubeClient, context: CommandContext): Promise<number> {
  const [snapshot, nodes] = await Promise.all([
    readCluster(client, context.clock, { handles: false, owners: false }),
    readNodes(client),
  ]);
  const room = clusterRoom(snapshot, nodes);
  await context.show(() => renderRoom(room, context.format === "wide"), dataOf(room));
  return room.warnings.length > 0 ? EXIT.problem : EXIT.ok;
}

async function readNodes(client: KubeClient): Promise<readonly CapacityNode[]> {
  const { items } = await client.list(NODES, { limit: 500 });
  return items.map(({ metadata, status }) => {
    // Source: core/v1 NodeStatus; quantities are texts.
    const { allocatable } = (status ?? {}) as { readonly allocatable?: Readonly<Record<string, string>> };
    const maxPods = Number(allocatable?.["pods"] ?? Number.NaN);
    return { name: metadata.name, labels: metadata.labels ?? {}, ...(Number.isInteger(maxPods) && { maxPods }) };
  });
}

function renderSize(plan: SizePlan): string {
  const most = plan.blockLimit * plan.addressesPerBlock;
  const facts = renderFacts([
    ["Pool", `${plan.pool}, blocks of /${plan.blockSize}`],
    ["Addresses", count(plan.addresses)],
    ["Blocks", `${count(plan.blocks)} of ${plan.addressesPerBlock} addresses`],
    ["Blocks a node", `${plan.blocksPerNode} for ${plan.podsPerNode} pods; a node takes at most ${plan.blockLimit}`],
    ["Nodes at most", `${count(plan.maxNodes)} with ${Math.min(plan.podsPerNode, most)} pods each`],
  ]);
  return facts + warningLines(plan.warnings);
}

function renderRoom({ pools, nodes, warnings }: ClusterRoom, isWide: boolean): string {
  const poolTable = renderTable<PoolRoom>(
    [
      { title: "POOL", text: ({ pool }) => pool.name },
      { title: "CIDR", text: ({ pool }) => formatCIDR(pool.cidr) },
      { title: "NODES", align: "right", text: (room) => String(room.nodes) },
      { title: "FREE IN BLOCKS", align: "right", text: ({ freeInBlocks }) => count(freeInBlocks) },
      { title: "BLOCKS LEFT", align: "right", text: ({ unclaimed }) => count(unclaimed.blocks) },
      { title: "ADDRESSES LEFT", align: "right", text: ({ unclaimed }) => count(unclaimed.addresses) },
      { title: "BLOCKS/DAY", align: "right", text: ({ growth }) => rateOf(growth) },
      { title: "FULL IN", text: ({ growth }) => fullIn(growth) },
      ...(isWide
        ? [{ title: "COUNTED", text: ({ notCounted }: PoolRoom) => (notCounted === undefined ? "yes" : notCounted) }]
        : []),
    ],
    pools,
  );
  const nodeTable = renderTable<NodeRoom>(
    [
      { title: "NODE", text: ({ node }) => node },
      { title: "FAMILY", text: ({ family }) => `IPv${family}` },
      { title: "BLOCKS", align: "right", text: ({ ownBlocks, blockLimit }) => `${ownBlocks}/${blockLimit}` },
      { title: "FREE", align: "right", text: ({ own }) => count(own) },
      { title: "CLAIMABLE", align: "right", text: ({ claimable }) => count(claimable) },
      { title: "BORROWABLE", align: "right", text: ({ borrowable }) => count(borrowable) },
      { title: "MORE PODS", align: "right", text: ({ total }) => count(total) },
      { title: "KUBELET'S MAX", align: "right", text: ({ maxPods }) => (maxPods === undefined ? "-" : count(maxPods)) },
    ],
    nodes,
  );
  const left = pools.flatMap(({ pool, notCounted }) =>
    notCounted === undefined ? [] : [`Not counted for nodes: ${pool.name}: ${notCounted}\n`],
  );
  const note = "A node's figures are for that node growing alone: nodes share what is claimable and borrowable.\n";
  return `${poolTable}\n${nodeTable}${warningLines(warnings)}\n${note}${left.join("")}${GROWTH_METHOD}\n`;
}

function dataOf({ pools, nodes, warnings }: ClusterRoom): object {
  return {
    pools: pools.map(({ pool, ...rest }) => ({
      pool: pool.name,
      cidr: formatCIDR(pool.cidr),
      blockSize: pool.blockSize,
      ...rest,
    })),
    nodes,
    warnings,
    growthMethod: GROWTH_METHOD,
  };
}

function warningLines(warnings: readonly string[]): string {
  return warnings.length === 0 ? "" : `\n${warnings.map((warning) => `Warning: ${warning}\n`).join("")}`;
}

function rateOf(growth: Growth): string {
  if (growth.kind === "unknown") return "?";
  return growth.kind === "still" ? "0" : growth.blocksPerDay.toFixed(1);
}

function fullIn(growth: Growth): string {
  switch (growth.kind) {
    case "unknown":
      return `unknown: ${growth.why}`;
    case "still":
      return `never: no block was claimed in ${growth.windowDays.toFixed(0)} days`;
    case "growing":
      return `${count(Math.floor(growth.daysToFull))} days`;
  }
}

/** IPv6 has numbers that nobody reads to the last digit. */
function count(n: number): string {
  return n < 1e15 ? String(n) : n.toExponential(2);
}

function wholeNumber(option: string, text: string, min: number): number {
  const value = Number(text);
  if (/^\d{1,9}$/.test(text) && value >= min) return value;
  throw new UsageError(`--${option} is ${JSON.stringify(text)}, want a whole number from ${min}`);
}
