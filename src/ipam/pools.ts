// SPDX-License-Identifier: Apache-2.0
import type { AllowedUse, EffectiveIPPool } from "../crds/ip-pool.ts";
import { type CIDR, cidrContains, cidrCovers, cidrFamily, formatCIDR, parseCIDR } from "../net/cidr.ts";
import { type Family, familyOf, formatIP, type IP } from "../net/ip.ts";
import { SelectorError } from "../selector/errors.ts";
import { type Labels, matches, parseSelector } from "../selector/selector.ts";
import { IPAMError } from "./errors.ts";

/** What the choice of pools depends on. */
export interface PoolNeed {
  readonly family: Family;
  /** Names or CIDRs; absent or empty: every pool that suits. */
  readonly names?: readonly string[];
  readonly nodeName: string;
  /** Absent: the API server does not know the node, so no nodeSelector but all() can be answered. */
  readonly nodeLabels?: Labels;
  /** For messages. */
  readonly namespace?: string;
  /** Absent: no labels. */
  readonly namespaceLabels?: Labels;
  /** What the address is for; absent: Workload. */
  readonly use?: AllowedUse;
}

/** A pool that is not used because one of its selectors cannot be read. */
export interface PoolFinding {
  readonly pool: string;
  readonly field: SelectorField;
  readonly error: SelectorError;
}

export interface PoolChoice {
  readonly pools: readonly EffectiveIPPool[];
  /** Pools that might have been among them. */
  readonly findings: readonly PoolFinding[];
}

const SELECTOR_FIELDS = ["nodeSelector", "namespaceSelector"] as const;
type SelectorField = (typeof SELECTOR_FIELDS)[number];

/** Why a pool is not used: text for people, or that a selector cannot be read. */
type Unfit = string | PoolFinding;

/**
 * The pools out of which an address may come, in the order of their names, or as the caller names them.
 *
 * Pools that the caller names are taken as they are: selectors and assignment mode do not count, but they must be there,
 * enabled, and of the family. Without names, automatic pools count whose nodeSelector selects the node and whose
 * namespaceSelector selects the namespace. In both cases only pools that allow the use are left.
 *
 * @throws IPAMError `PoolNotFound`
 *
 * Source: calico-interop 2.2, step 2.
 */
export function selectPools(pools: readonly EffectiveIPPool[], need: PoolNeed): PoolChoice {
  const { names = [], use = "Workload" } = need;
  const byName = [...pools].sort((a, b) => (a.name < b.name ? -1 : 1));
  const isNamed = names.length > 0;
  const candidates = isNamed
    ? [...new Set(names.map((name) => namedPool(byName, name, need)))]
    : byName.filter((pool) => pool.family === need.family);
  const chosen: EffectiveIPPool[] = [];
  const unfit: [EffectiveIPPool, Unfit][] = [];
  for (const pool of candidates) {
    const reason = (isNamed ? undefined : unfitness(pool, need)) ?? useUnfitness(pool, use);
    if (reason === undefined) chosen.push(pool);
    else unfit.push([pool, reason]);
  }
  if (chosen.length === 0) throw noPool(unfit, need);
  return { pools: chosen, findings: unfit.flatMap(([, reason]) => (typeof reason === "string" ? [] : [reason])) };
}

/** Which labels the choice asks for, so that they are fetched only when they matter. */
export function selectorsInUse(pools: readonly EffectiveIPPool[]): { readonly [F in SelectorField]: boolean } {
  return {
    nodeSelector: pools.some((pool) => pool.enabled && !isAll(pool.nodeSelector)),
    namespaceSelector: pools.some((pool) => pool.enabled && !isAll(pool.namespaceSelector ?? "")),
  };
}

/**
 * Whether a pool's nodeSelector selects a node with these labels. Undefined when nobody can say: the node is not known,
 * or the selector cannot be read.
 */
export function selectsNode(pool: EffectiveIPPool, nodeLabels: Labels | undefined): boolean | undefined {
  if (isAll(pool.nodeSelector)) return true;
  const selected = nodeLabels && select(pool, "nodeSelector", nodeLabels);
  return typeof selected === "boolean" ? selected : undefined;
}

/** The selectors of a pool that cannot be read, whatever they would select. */
export function brokenSelectors(pool: EffectiveIPPool): readonly PoolFinding[] {
  const found = SELECTOR_FIELDS.map((field) => select(pool, field, {}));
  return found.filter((one): one is PoolFinding => typeof one !== "boolean");
}

/** Whether one of the pools has all of the addresses. */
export function isInPools(cidr: CIDR, pools: readonly EffectiveIPPool[]): boolean {
  return pools.some((pool) => cidrFamily(cidr) === pool.family && cidrCovers(pool.cidr, cidr));
}

/**
 * The enabled pool out of which an address may be assigned by name: the most specific one that holds it.
 *
 * @throws IPAMError `PoolNotFound`
 */
export function poolOfAddress(
  pools: readonly EffectiveIPPool[],
  ip: IP,
  use: AllowedUse = "Workload",
): EffectiveIPPool {
  const around = pools.filter((pool) => cidrContains(pool.cidr, ip));
  const [pool] = around.filter((p) => p.enabled).sort((a, b) => b.cidr.prefixLength - a.cidr.prefixLength);
  const unfit = pool === undefined ? "is not enabled" : useUnfitness(pool, use);
  if (pool !== undefined && unfit === undefined) return pool;
  const what = `Cannot assign ${formatIP(ip)}`;
  if (around.length > 0) {
    const why = around.map((p) => `${poolText(p)} ${unfit}`).join(", ");
    const step = "ask for an address of another pool, see gingham ipam show and kubectl describe ippool";
    throw new IPAMError("PoolNotFound", `${what}: ${why}; ${step} ${around.map(({ name }) => name).join(" ")}`);
  }
  const family = familyOf(ip);
  const there = pools.filter((p) => p.family === family).map(({ name, cidr }) => `${name} ${formatCIDR(cidr)}`);
  const [why, step] =
    there.length === 0
      ? [`there is no IPv${family} pool`, "make one, or ask for an address of the other family"]
      : [`no IPPool holds it (IPv${family} pools: ${there.join(", ")})`, "ask for an address of one of them"];
  throw new IPAMError("PoolNotFound", `${what}: ${why}; ${step}, see gingham ipam show`);
}

function poolText({ name, cidr }: EffectiveIPPool): string {
  return `IPPool ${name} (${formatCIDR(cidr)})`;
}

function namedPool(pools: readonly EffectiveIPPool[], name: string, need: PoolNeed): EffectiveIPPool {
  const cidr = canonicalCIDR(name);
  const pool = pools.find((p) => p.name === name) ?? pools.find((p) => formatCIDR(p.cidr) === cidr);
  if (pool === undefined) {
    const known = pools.map((p) => p.name).join(", ") || "none";
    const step = `correct the name in the annotation or CNI configuration, or see kubectl get ippool ${name}`;
    throw new IPAMError(
      "PoolNotFound",
      `IPPool ${name} does not exist, or is not valid (there are: ${known}); ${step}`,
    );
  }
  const what = poolText(pool);
  if (pool.family !== need.family) {
    const step = `name it among the IPv${pool.family} pools, or name another pool, see gingham ipam show`;
    throw new IPAMError("PoolNotFound", `${what} is not an IPv${need.family} pool; ${step}`);
  }
  if (!pool.enabled) {
    const step = `kubectl describe ippool ${pool.name} says why; enable it, or name another pool`;
    throw new IPAMError("PoolNotFound", `${what} is not enabled; ${step}`);
  }
  return pool;
}

function canonicalCIDR(text: string): string {
  try {
    return formatCIDR(parseCIDR(text.trim()));
  } catch {
    return text;
  }
}

function unfitness(pool: EffectiveIPPool, need: PoolNeed): Unfit | undefined {
  if (!pool.enabled) return "is not enabled";
  if (pool.assignmentMode !== "Automatic") return "is assigned by hand only";
  const { nodeName, nodeLabels, namespace, namespaceLabels = {} } = need;
  if (!isAll(pool.nodeSelector)) {
    if (nodeLabels === undefined) return `is for some nodes only, and the API server does not know node ${nodeName}`;
    const selected = select(pool, "nodeSelector", nodeLabels);
    if (typeof selected !== "boolean") return selected;
    if (!selected) return `is for nodes with ${pool.nodeSelector}, and ${nodeName} is none`;
  }
  if (isAll(pool.namespaceSelector ?? "")) return undefined;
  const selected = select(pool, "namespaceSelector", namespaceLabels);
  if (typeof selected !== "boolean") return selected;
  const who = namespace === undefined ? "there is no namespace" : `${namespace} is none`;
  return selected ? undefined : `is for namespaces with ${pool.namespaceSelector}, and ${who}`;
}

function useUnfitness(pool: EffectiveIPPool, use: AllowedUse): string | undefined {
  return pool.allowedUses.includes(use) ? undefined : `is for ${pool.allowedUses.join(" and ")} only`;
}

function select(pool: EffectiveIPPool, field: SelectorField, labels: Labels): boolean | PoolFinding {
  try {
    return matches(parseSelector(pool[field] ?? ""), labels);
  } catch (error) {
    if (error instanceof SelectorError) return { pool: pool.name, field, error };
    throw error;
  }
}

/** The two ways to say it, which nearly all pools use. */
function isAll(selector: string): boolean {
  return selector === "" || /^[ \t]*(?:all\([ \t]*\)[ \t]*)?$/.test(selector);
}

function noPool(unfit: readonly (readonly [EffectiveIPPool, Unfit])[], need: PoolNeed): IPAMError {
  const { family, nodeName, namespace, use = "Workload" } = need;
  const why = unfit.map(([{ name }, reason]) => {
    if (typeof reason === "string") return `${name} ${reason}`;
    return `${name} has a ${reason.field} that cannot be read (${reason.error.message})`;
  });
  const whose = `for ${use} addresses of node ${nodeName}${namespace === undefined ? "" : ` and namespace ${namespace}`}`;
  const there = why.length === 0 ? "there is none" : why.join(", ");
  const step = `create or enable an IPPool that allows ${use} and selects them, or correct the selectors, see gingham ipam show -o wide`;
  return new IPAMError("PoolNotFound", `No IPv${family} pool ${whose}: ${there}; ${step}`);
}
