// SPDX-License-Identifier: Apache-2.0
import { type EffectiveIPPool, effectiveIPPool, HEALTHY, type IPPool, type IPPoolCondition } from "../crds/ip-pool.ts";
import type { IPAMConfigSpec } from "../crds/ipam-config.ts";
import { brokenSelectors } from "../ipam/pools.ts";
import { type CIDR, cidrContains } from "../net/cidr.ts";
import { formatIP, type IP } from "../net/ip.ts";
import { type Allocatability, allocatableCondition, decideAllocatable } from "./allocatable.ts";
import { addressesIn, blocksText, fitBlocks, type Misfits } from "./pool-blocks.ts";
import type { BlockUse, PoolFacts, PoolProblem, PoolReport, StoredPool } from "./ports.ts";
import { starvingPools } from "./starvation.ts";

/** What has been found out about one pool that can be read. */
interface Judged {
  readonly pool: EffectiveIPPool;
  readonly allocatability: Allocatability;
  readonly misfits: Misfits;
  readonly config: IPAMConfigSpec;
  readonly starving: readonly PoolProblem[];
  readonly facts: PoolFacts;
}

/**
 * What is to be said of each pool, and which blocks no pool has.
 *
 * @param formerCIDRs networks that pools of these names had before, as far as anybody remembers
 */
export function judgePools(
  facts: PoolFacts,
  blocks: readonly BlockUse[],
  formerCIDRs: ReadonlyMap<string, readonly CIDR[]>,
): PoolReport {
  const { pools, config, nodes } = facts;
  const readable = pools.flatMap(({ pool }) => pool ?? []);
  const decided = decideAllocatable(readable);
  const effective = new Map(readable.map((pool) => [pool.metadata.name, effectiveAs(pool, decided)]));
  const misfits = fitBlocks(blocks, [...effective.values(), ...unreadable(pools)], formerCIDRs);
  const starving = starvingPools(
    [...effective.values()].filter(({ enabled }) => enabled),
    nodes,
    config,
  );
  const verdicts = pools.map((stored) => {
    const { name, error } = stored;
    const [pool, allocatability] = [effective.get(name), decided.get(name)];
    if (pool === undefined || allocatability === undefined) {
      const message = `${error?.message ?? "It cannot be read"}; until then agents use it as they knew it before, or not at all`;
      const problems = [{ reason: "InvalidPool", message }];
      return { pool: stored, problems, conditions: [healthyCondition(problems)] };
    }
    const problems = problemsOf({ pool, allocatability, misfits, config, starving: starving.get(name) ?? [], facts });
    return { pool: stored, problems, conditions: [allocatableCondition(allocatability), healthyCondition(problems)] };
  });
  // A pool whose network nobody can read may be the one that has them.
  const orphans = pools.some(({ cidr }) => cidr === undefined) ? [] : misfits.orphans;
  const reserved = new Map([...effective].map(([name, { cidr }]) => [name, addressesIn(cidr, facts.reserved)]));
  return { verdicts, orphans, reserved };
}

/** As readers will take the pool once its condition is written. */
function effectiveAs(pool: IPPool, decided: ReadonlyMap<string, Allocatability>): EffectiveIPPool {
  return { ...effectiveIPPool(pool), enabled: decided.get(pool.metadata.name)?.reason === "OK" };
}

/** Blocks of these are nobody's orphans; which size they should have, nobody can say. */
function unreadable(pools: readonly StoredPool[]): readonly { name: string; cidr: CIDR; blockSize: number }[] {
  return pools.flatMap(({ name, cidr, error }) =>
    cidr === undefined || error === undefined ? [] : [{ name, cidr, blockSize: 0 }],
  );
}

function problemsOf(judged: Judged): readonly PoolProblem[] {
  const { pool, starving } = judged;
  const problems = [
    overlap(judged),
    deletion(judged),
    ...badSelectors(pool),
    mixedSizes(judged),
    outside(judged),
    nodesInside(judged),
    ...starving,
    pool.enabled ? badConfig(judged.config) : undefined,
  ];
  return problems.filter((problem) => problem !== undefined);
}

function overlap({ allocatability }: Judged): PoolProblem | undefined {
  if (allocatability.reason !== "CIDROverlap") return undefined;
  const { metadata, spec } = allocatability.winner;
  const what = `It has addresses of IPPool ${metadata.name} (${spec.cidr}), which stays in use`;
  const step = `delete this pool and make one of other addresses, or disable ${metadata.name} to use this one instead`;
  return { reason: "CIDROverlap", message: `${what}: no new address comes out of this pool; ${step}` };
}

function deletion({ pool, allocatability, misfits }: Judged): PoolProblem | undefined {
  const use = misfits.inUse.get(pool.name);
  if (allocatability.reason !== "Terminating" || use === undefined) return undefined;
  const what = `It is being deleted while ${use.addresses} of its addresses, in ${use.blocks} blocks, are in use`;
  const then = "their pods keep them, and once the pool is gone their traffic is neither encapsulated nor masqueraded";
  return { reason: "Terminating", message: `${what}: ${then}; restart these pods` };
}

function badSelectors(pool: EffectiveIPPool): readonly PoolProblem[] {
  return brokenSelectors(pool).map(({ field, error }) => {
    const then = "the pool is used only by pods that name it";
    const step = `correct it (kubectl edit ippool ${pool.name})`;
    return { reason: "InvalidSelector", message: `${field} cannot be read (${error.message}): ${then}; ${step}` };
  });
}

function mixedSizes({ pool, misfits }: Judged): PoolProblem | undefined {
  const blocks = misfits.otherSize.get(pool.name);
  if (blocks === undefined) return undefined;
  const sizes = [...new Set(blocks.map(({ cidr }) => `/${cidr.prefixLength}`))].toSorted().join(", ");
  const what = `Its blocks are of /${pool.blockSize}, but there are blocks of ${sizes}: ${blocksText(blocks)}`;
  const then =
    "no block is cut out of these until their pods are gone, and Calico's nodes might assign their addresses twice";
  return { reason: "MixedBlockSizes", message: `${what}; ${then}; set blockSize back, or restart these pods` };
}

function outside({ pool, misfits }: Judged): PoolProblem | undefined {
  const blocks = misfits.orphans
    .filter(({ formerPool }) => formerPool === pool.name)
    .flatMap((orphans) => orphans.blocks);
  if (blocks.length === 0) return undefined;
  const then = "their pods keep them, and their traffic is neither encapsulated nor masqueraded";
  const message = `Its network was another one, and blocks of it are now in no pool: ${blocksText(blocks)}: ${then}`;
  return { reason: "BlocksOutside", message: `${message}; set cidr back, or restart these pods` };
}

/** The pool that everybody's manual names may be the network at hand. */
function nodesInside({ pool, facts }: Judged): PoolProblem | undefined {
  if (!pool.enabled) return undefined;
  const isGivenAway = (ip: IP): boolean =>
    cidrContains(pool.cidr, ip) && !facts.reserved.some((network) => cidrContains(network, ip));
  const found = facts.nodes.flatMap(({ name, addresses }) =>
    addresses.filter(isGivenAway).map((ip) => `${name} ${formatIP(ip)}`),
  );
  if (found.length === 0) return undefined;
  const named = found.length > 3 ? `${found.slice(0, 3).join(", ")} and ${found.length - 3} more` : found.join(", ");
  const what = `It has addresses of nodes: ${named}`;
  const then = "a pod may be given one of these, and blocks of the nodes' network cut machines off";
  const step = "disable this pool and make one of other addresses, or reserve the nodes' network (IPReservation)";
  return { reason: "NodesInside", message: `${what}: ${then}; ${step}` };
}

/** What Calico's writers refuse. Source: calico-interop 1.3. */
function badConfig({ strictAffinity, autoAllocateBlocks, maxBlocksPerHost }: IPAMConfigSpec): PoolProblem | undefined {
  if (strictAffinity) return undefined;
  const of = "of IPAMConfig default";
  if (!autoAllocateBlocks) {
    const what = `strictAffinity and autoAllocateBlocks ${of} are both false`;
    const then = "a node whose blocks are full claims no other and borrows nothing";
    return { reason: "InvalidIPAMConfig", message: `${what}: ${then}; set one of them to true` };
  }
  if (maxBlocksPerHost === 0) return undefined;
  const what = `maxBlocksPerHost ${of} is ${maxBlocksPerHost} without strictAffinity`;
  const then = "a node at the limit borrows nothing all the same";
  return { reason: "InvalidIPAMConfig", message: `${what}: ${then}; set strictAffinity to true, or the limit to 0` };
}

function healthyCondition(problems: readonly PoolProblem[]): IPPoolCondition {
  const [first] = problems;
  if (first === undefined) return { type: HEALTHY, status: "True", reason: "OK", message: "" };
  const message = problems.map((problem) => problem.message).join(". ");
  return { type: HEALTHY, status: "False", reason: first.reason, message };
}
