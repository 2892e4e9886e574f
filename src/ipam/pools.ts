// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../crds/ip-pool.ts";
import { formatCIDR } from "../net/cidr.ts";
import type { Family } from "../net/ip.ts";
import { IPAMError } from "./errors.ts";

/** What the choice of pools depends on. */
export interface PoolNeed {
  readonly family: Family;
  /** Names or CIDRs; absent: every pool that suits. */
  readonly names?: readonly string[];
  /** For messages. */
  readonly nodeName: string;
}

/**
 * The pools out of which a pod of this node may get its address, in the order of their names.
 *
 * Pools that the caller names are taken as they are: enabled and for workloads, whatever their selectors and assignment
 * mode say. A list that names no pool of a family does not limit that family. Without names, only automatic pools count,
 * and one whose selector cannot be evaluated yet is refused: to skip it would quietly use another pool than was meant.
 *
 * @throws IPAMError `PoolNotFound`, `UnsupportedSelector`
 *
 * Source: calico-interop 2.2, step 2.
 */
export function selectPools(pools: readonly EffectiveIPPool[], need: PoolNeed): readonly EffectiveIPPool[] {
  const ofFamily = pools.filter((pool) => pool.family === need.family).sort((a, b) => (a.name < b.name ? -1 : 1));
  const named = (need.names ?? []).map((name) => namedPool(pools, name)).filter((pool) => pool.family === need.family);
  const chosen =
    named.length > 0 ? named : ofFamily.filter((pool) => pool.enabled && pool.assignmentMode === "Automatic");
  const usable = chosen.filter((pool) => pool.allowedUses.includes("Workload"));
  if (usable.length === 0) throw noPool(ofFamily, need);
  if (named.length === 0) for (const pool of usable) refuseSelectors(pool);
  return usable;
}

function namedPool(pools: readonly EffectiveIPPool[], name: string): EffectiveIPPool {
  const pool = pools.find((p) => p.name === name) ?? pools.find((p) => formatCIDR(p.cidr) === name);
  if (pool === undefined) {
    const known = pools.map((p) => p.name).join(", ") || "none";
    const step = "correct the name in the annotation or CNI configuration, or create the pool";
    throw new IPAMError("PoolNotFound", `IPPool ${name} does not exist (there are: ${known}); ${step}`);
  }
  if (!pool.enabled) {
    const step = "enable it, or name another pool";
    throw new IPAMError("PoolNotFound", `IPPool ${pool.name} (${formatCIDR(pool.cidr)}) is not enabled; ${step}`);
  }
  return pool;
}

/** Selectors come with the next stage; until then only those that select everything are understood. */
function refuseSelectors(pool: EffectiveIPPool): void {
  for (const [field, selector] of [
    ["nodeSelector", pool.nodeSelector],
    ["namespaceSelector", pool.namespaceSelector ?? "all()"],
  ] as const) {
    if (selector.replaceAll(/\s/g, "") === "all()") continue;
    const what = `IPPool ${pool.name} has ${field} ${JSON.stringify(selector)}, which this version cannot evaluate`;
    const step = "set it to all(), set assignmentMode to Manual, or name the pools to use in the CNI configuration";
    throw new IPAMError("UnsupportedSelector", `${what}; ${step}`);
  }
}

function noPool(ofFamily: readonly EffectiveIPPool[], need: PoolNeed): IPAMError {
  const why = ofFamily.map((p) => {
    if (!p.enabled) return `${p.name} is not enabled`;
    if (!p.allowedUses.includes("Workload")) return `${p.name} is for ${p.allowedUses.join(" and ")} only`;
    return `${p.name} is assigned by hand only`;
  });
  const there = why.length === 0 ? "there is none" : why.join(", ");
  const step = "create or enable an IPPool that allows Workload";
  return new IPAMError(
    "PoolNotFound",
    `No IPv${need.family} pool for pods of node ${need.nodeName}: ${there}; ${step}`,
  );
}
