// SPDX-License-Identifier: Apache-2.0
import { ALLOCATABLE, type IPPool, type IPPoolCondition } from "../crds/ip-pool.ts";
import { cidrsOverlap, parseCIDR } from "../net/cidr.ts";

/** Whether addresses may be assigned from a pool, and if not, why, in Calico's words. */
export type Allocatability =
  | { readonly reason: "OK" | "PoolDisabled" | "Terminating" }
  | { readonly reason: "CIDROverlap"; readonly winner: IPPool };

/**
 * Decides for all pools, as Calico does: a pool that is disabled or being deleted stands in nobody's way; of pools that
 * overlap one stays, so that what has addresses keeps it: the one that is allocatable now, then the older, then the first
 * by name. The result is stable: a pool that lost has Allocatable False, and goes behind the winner from then on.
 *
 * Source: Calico, kube-controllers' IPPool controller (facts only).
 */
export function decideAllocatable(pools: readonly IPPool[]): ReadonlyMap<string, Allocatability> {
  const decided = new Map<string, Allocatability>();
  const winners: IPPool[] = [];
  for (const pool of pools.toSorted(compareRank)) {
    const { name, deletionTimestamp } = pool.metadata;
    if (pool.spec.disabled === true) decided.set(name, { reason: "PoolDisabled" });
    else if (deletionTimestamp !== undefined) decided.set(name, { reason: "Terminating" });
    else {
      const cidr = parseCIDR(pool.spec.cidr);
      const winner = winners.find(({ spec }) => cidrsOverlap(parseCIDR(spec.cidr), cidr));
      decided.set(name, winner === undefined ? { reason: "OK" } : { reason: "CIDROverlap", winner });
      if (winner === undefined) winners.push(pool);
    }
  }
  return decided;
}

const MESSAGES: Readonly<Record<Allocatability["reason"], string>> = {
  OK: "",
  PoolDisabled: "spec.disabled is true",
  Terminating: "The pool is being deleted",
  CIDROverlap: "Another pool has addresses of this one",
};

/** Calico's condition for it. Source: calico-interop 1.3. */
export function allocatableCondition({ reason }: Allocatability): IPPoolCondition {
  return { type: ALLOCATABLE, status: reason === "OK" ? "True" : "False", reason, message: MESSAGES[reason] };
}

function compareRank(a: IPPool, b: IPPool): number {
  const unfit = (pool: IPPool): number =>
    pool.status?.conditions?.some(({ type, status }) => type === ALLOCATABLE && status === "False") ? 1 : 0;
  const age = ({ metadata }: IPPool): number => Date.parse(metadata.creationTimestamp ?? "") || 0;
  const byName = a.metadata.name < b.metadata.name ? -1 : 1;
  return unfit(a) - unfit(b) || age(a) - age(b) || byName;
}
