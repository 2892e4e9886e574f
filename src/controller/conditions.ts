// SPDX-License-Identifier: Apache-2.0
import { ALLOCATABLE, type IPPoolCondition } from "../crds/ip-pool.ts";

/**
 * The pool's conditions with the wanted ones set, or undefined when they say so already. Conditions of other types stay
 * as they are; the time of transition changes with the status alone. `nowMs` is Unix time in milliseconds; `same` says
 * which pairs need no write.
 *
 * Source: Kubernetes API conventions, typical status properties.
 */
export function mergeConditions<T extends IPPoolCondition>(
  existing: readonly T[],
  wanted: readonly T[],
  nowMs: number,
  same: (old: T, condition: T) => boolean = saysTheSame,
): readonly T[] | undefined {
  const now = new Date(nowMs).toISOString().replace(/\.\d+Z$/, "Z");
  const changed = wanted.filter((condition) => {
    const old = existing.find(({ type }) => type === condition.type);
    return old === undefined || !same(old, condition);
  });
  if (changed.length === 0) return undefined;
  const set = (condition: T): T => {
    const old = existing.find(({ type }) => type === condition.type);
    const since = old?.status === condition.status ? old.lastTransitionTime : undefined;
    return { ...condition, lastTransitionTime: since ?? now };
  };
  const replaced = existing.map((old) => {
    const condition = changed.find(({ type }) => type === old.type);
    return condition === undefined ? old : set(condition);
  });
  const added = changed.filter(({ type }) => !existing.some((old) => old.type === type));
  return [...replaced, ...added.map(set)];
}

function saysTheSame(old: IPPoolCondition, condition: IPPoolCondition): boolean {
  if (old.status !== condition.status) return false;
  // Releases of Calico keep this condition, too, each with its own words: two writers must not overwrite each other for ever.
  if (condition.type === ALLOCATABLE) return condition.status === "True" || old.reason === condition.reason;
  return old.reason === condition.reason && old.message === condition.message;
}
