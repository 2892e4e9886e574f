// SPDX-License-Identifier: Apache-2.0
import { effectiveIPPool, type IPPool, type IPPoolSpec } from "../crds/ip-pool.ts";
import { OVERHEAD_BYTES } from "../felix/calc/mtu.ts";
import { type CIDR, cidrContains, cidrCovers, cidrFamily, cidrsOverlap, formatCIDR, parseCIDR } from "../net/cidr.ts";
import { type Family, parseIP } from "../net/ip.ts";
import { defaultPool, type PoolWish } from "./pool-wish.ts";
import type { ClusterFacts } from "./ports.ts";
import type { Permission, Problem, ProblemReason } from "./problem.ts";
import type { Wanted } from "./read-spec.ts";
import { MANAGED_BY_LABEL } from "./render/names.ts";

/** In the label `app.kubernetes.io/managed-by` of all that the operator made. */
export const MANAGER = "gingham-operator";

export function isOurs({ metadata }: { readonly metadata: IPPool["metadata"] }): boolean {
  return metadata.labels?.[MANAGED_BY_LABEL] === MANAGER;
}

/** What becomes of the pools. */
export interface PoolPlan {
  /** To be made, or to be as they say. */
  readonly wishes: readonly PoolWish[];
  /** Ours, no longer asked for, and no pod has an address of them. */
  readonly remove: readonly IPPool[];
  /** Ours, no longer asked for, but in use: they are disabled, and removed when the last pod is gone. */
  readonly drain: readonly { readonly pool: IPPool; readonly pods: number }[];
  /** Of the pools that pods get addresses from. */
  readonly families: readonly Family[];
  /** The most that a packet between pods gets before it, in whichever of the pools. Units: bytes. */
  readonly overheadBytes: number;
  readonly problems: readonly Problem[];
  readonly notes: readonly string[];
}

export const POOLS_FIELD = "spec.calicoNetwork.ipPools";

/** Compares the pools that are asked for with those that are there. */
export function planPools(wanted: Wanted, facts: ClusterFacts): PoolPlan {
  const problems: Problem[] = [];
  const notes: string[] = [];
  const ours = facts.pools.filter(isOurs);
  const theirs = facts.pools.filter((pool) => !isOurs(pool));
  // Where nothing is said, a cluster without pools gets one, and one with pools keeps to these as they are.
  const asked = wanted.pools ?? (facts.pools.length === 0 ? [defaultPool()] : []);
  const wishes: PoolWish[] = [];
  for (const wish of asked) {
    const same = theirs.find(({ metadata }) => metadata.name === wish.name);
    if (same === undefined) wishes.push(wish);
    else if (isSameNetwork(same, wish))
      notes.push(`IPPool ${wish.name} was not made by the operator: it is left as it is`);
    else
      problems.push({
        reason: "PoolConflict",
        field: `${wish.field}.name`,
        message: `IPPool ${wish.name} (${same.spec.cidr}) is there already, and the operator did not make it: take another name, or leave the entry out`,
      });
  }
  const names = new Set(wishes.map(({ name }) => name));
  const gone = wanted.pools === undefined ? [] : ours.filter(({ metadata }) => !names.has(metadata.name));
  const podsOf = (cidr: CIDR): number =>
    facts.blocks.reduce((sum, block) => sum + (cidrCovers(cidr, block.cidr) ? block.pods : 0), 0);
  const drain = gone.map((pool) => ({ pool, pods: podsOf(parseCIDR(pool.spec.cidr)) })).filter(({ pods }) => pods > 0);
  const remove = gone.filter((pool) => !drain.some((entry) => entry.pool === pool));

  const untouched = wanted.pools === undefined ? ours : [];
  const stays = [...theirs, ...untouched, ...drain.map(({ pool }) => pool)];
  problems.push(
    ...overlaps(wishes, stays),
    ...overlapsOfServices(wishes, wanted.serviceCIDRs),
    ...overlapsOfNodes(wishes, facts),
  );
  for (const wish of wishes) {
    const present = ours.find(({ metadata }) => metadata.name === wish.name);
    if (present !== undefined) problems.push(...changes(present, wish, podsOf(wish.cidr), wanted.permissions));
  }
  const enabledBefore = facts.pools.filter((pool) => effectiveIPPool(pool).enabled);
  const enabledAfter = [
    ...[...theirs, ...untouched].map(effectiveIPPool).filter(({ enabled }) => enabled),
    ...wishes.filter(({ spec }) => spec.disabled !== true).map(({ cidr }) => ({ family: cidrFamily(cidr) })),
  ];
  if (enabledAfter.length === 0 && enabledBefore.length > 0) {
    const before = enabledBefore.map(({ metadata }) => metadata.name).join(", ");
    problems.push(
      ...needs("DisableAllPools", POOLS_FIELD, `no pool would be left to give addresses (now ${before})`, wanted),
    );
  }
  if (enabledAfter.length === 0) notes.push("No IPPool is enabled: pods get no address until one is");
  const families = ([4, 6] as const).filter((family) => enabledAfter.some((pool) => pool.family === family));
  return {
    wishes,
    remove,
    drain,
    families: families.length === 0 ? [4] : families,
    overheadBytes: Math.max(0, ...[...stays.map(effectiveIPPool), ...wishes.map(effectiveWish)].map(overheadOf)),
    problems,
    notes,
  };
}

type Encapsulating = Pick<ReturnType<typeof effectiveIPPool>, "family" | "ipipMode" | "vxlanMode">;

function effectiveWish({ cidr, spec: { ipipMode = "Never", vxlanMode = "Never" } }: PoolWish): Encapsulating {
  return { family: cidrFamily(cidr), ipipMode, vxlanMode };
}

function overheadOf({ family, ipipMode, vxlanMode }: Encapsulating): number {
  const ipip = ipipMode === "Never" ? "none" : "ipip";
  return OVERHEAD_BYTES[vxlanMode === "Never" ? ipip : "vxlan"][family];
}

/** A problem, unless the Installation allows the harm by name. */
export function needs(
  permission: Permission,
  field: string,
  harm: string,
  { permissions }: Pick<Wanted, "permissions">,
): Problem[] {
  if (permissions.has(permission)) return [];
  const message = `${harm}; if this is meant, set the annotation gingham.dev/allow: ${permission} on the Installation, else take the change back`;
  return [{ reason: "NeedsPermission", field, message }];
}

function isSameNetwork(pool: IPPool, wish: PoolWish): boolean {
  const { cidr, blockSize } = effectiveIPPool(pool);
  return formatCIDR(cidr) === formatCIDR(wish.cidr) && blockSize === wish.spec.blockSize;
}

function changes(pool: IPPool, wish: PoolWish, pods: number, permissions: ReadonlySet<Permission>): Problem[] {
  const is = effectiveIPPool(pool);
  if (!isSameNetwork(pool, wish)) {
    const change = `IPPool ${wish.name} is ${formatCIDR(is.cidr)} with blocks of /${is.blockSize}, and a pool cannot change these`;
    const message = `${change}: give the new pool another name, then remove this one`;
    return [{ reason: "PoolConflict", field: wish.field, message }];
  }
  const [from, to] = [modesOf(is), modesOf(wish.spec)];
  if (pods === 0 || from === to) return [];
  const harm = `IPPool ${wish.name} is in use (pods: ${pods}), and ${from} would become ${to}: every node must reach the others by both while they change`;
  return needs("ChangeEncapsulation", `${wish.field}.encapsulation`, harm, { permissions });
}

/** How a pool encapsulates, for messages and to compare. */
export function modesOf({
  ipipMode = "Never",
  vxlanMode = "Never",
}: Pick<IPPoolSpec, "ipipMode" | "vxlanMode">): string {
  return `ipipMode ${ipipMode}, vxlanMode ${vxlanMode}`;
}

function overlaps(wishes: readonly PoolWish[], others: readonly IPPool[]): Problem[] {
  return wishes.flatMap((wish, i) => {
    const earlier = wishes.slice(0, i).find(({ cidr }) => cidrsOverlap(cidr, wish.cidr));
    if (earlier !== undefined)
      return [overlap(wish, `pool ${earlier.name} (${earlier.spec.cidr}) of this Installation`)];
    const other = others.find(({ spec }) => cidrsOverlap(parseCIDR(spec.cidr), wish.cidr));
    return other === undefined
      ? []
      : [overlap(wish, `IPPool ${other.metadata.name} (${other.spec.cidr}), which is there`)];
  });
}

function overlapsOfServices(wishes: readonly PoolWish[], services: readonly string[]): Problem[] {
  return services.flatMap((text, i) => {
    const field = `spec.serviceCIDRs[${i}]`;
    let service: CIDR;
    try {
      service = parseCIDR(text);
    } catch {
      return [
        {
          reason: "InvalidField",
          field,
          message: `${JSON.stringify(text)}, want a network such as 10.96.0.0/12`,
        } as const,
      ];
    }
    return wishes
      .filter(({ cidr }) => cidrsOverlap(cidr, service))
      .map((wish) => overlap(wish, `the cluster's services (${text}, ${field})`));
  });
}

/** A pool with a node's own address in it would take the way to that node. */
function overlapsOfNodes(wishes: readonly PoolWish[], { nodes }: ClusterFacts): Problem[] {
  return wishes.flatMap((wish) => {
    for (const { name, addresses } of nodes) {
      const address = addresses.find((text) => isIn(wish.cidr, text));
      if (address !== undefined) return [overlap(wish, `node ${name}, whose address is ${address}`)];
    }
    return [];
  });
}

function isIn(cidr: CIDR, text: string): boolean {
  try {
    return cidrContains(cidr, parseIP(text));
  } catch {
    return false; // A host name.
  }
}

function overlap({ field, spec }: PoolWish, what: string): Problem {
  const reason: ProblemReason = "OverlappingPools";
  return { reason, field: `${field}.cidr`, message: `${spec.cidr} overlaps with ${what}: take another network` };
}
