// SPDX-License-Identifier: Apache-2.0
import { type NftObject, objectsOf, targetOf } from "./nft-json.ts";
import type { ForwardChain, PortRange } from "./ports.ts";

/**
 * What happens to packets on their way through a base chain and those to which it leads, out of `nft -j list table`.
 *
 * A chain of the same table that nothing leads to says nothing: ufw has one that accepts everything, for output alone.
 */

/** Whether its last rule drops or rejects whatever has come so far. */
export function dropsTheRest(json: string, chain: string): boolean {
  const last = rulesOf(json).get(chain)?.at(-1) ?? [];
  const isTarget = (part: unknown): boolean => has(part, "drop") || has(part, "reject") || isXt(part, "REJECT");
  return last.some(isTarget) && conditionsOf(last.filter((part) => !isTarget(part))).length === 0;
}

/**
 * From which interfaces and networks, and to which, everything is accepted. What goes by more than one condition does not
 * count; a comment is none.
 */
export function parseAcceptance(json: string, chain: string): Pick<ForwardChain, "acceptsFrom" | "acceptsTo"> {
  const found = waysToAccept(json, chain).flatMap((conditions) => soleCondition(conditions) ?? []);
  const accepted = (direction: "from" | "to"): readonly string[] =>
    found.flatMap((condition) =>
      condition.direction === undefined || condition.direction === direction ? condition.values : [],
    );
  return { acceptsFrom: accepted("from"), acceptsTo: accepted("to") };
}

const ALL_PORTS: PortRange = { min: 0, max: 65_535 };

/** UDP ports to which packets of another machine may be accepted: a condition that cannot be judged is taken for one that holds. */
export function acceptedUDP(json: string, chain: string): readonly PortRange[] {
  return waysToAccept(json, chain).flatMap((conditions) => {
    if (conditions.some(isNeverUDPOfOthers)) return [];
    const ports = conditions.flatMap((condition) => {
      const { key, right } = matchOf(condition);
      return key === "dport" ? [portsOf(right)] : [];
    });
    return ports[0] ?? [ALL_PORTS];
  });
}

type Part = unknown;
type Rules = ReadonlyMap<string, readonly (readonly Part[])[]>;

function rulesOf(json: string): Rules {
  const rules = objectsOf(json).flatMap(({ rule }: NftObject) => (rule === undefined ? [] : [rule]));
  return new Map(
    [...Map.groupBy(rules, ({ chain }) => chain)].map(([chain, own]) => [chain, own.map(({ expr = [] }) => expr)]),
  );
}

/** The conditions of each rule that accepts, with those of the jumps that lead there. */
function waysToAccept(json: string, base: string): readonly (readonly Part[])[] {
  const rules = rulesOf(json);
  const walk = (chain: string, above: readonly Part[], seen: ReadonlySet<string>): readonly (readonly Part[])[] => {
    if (seen.has(chain)) return [];
    return (rules.get(chain) ?? []).flatMap(withoutMap).flatMap((expr) => {
      const conditions = [...above, ...conditionsOf(expr)];
      if (expr.some((part) => has(part, "accept"))) return [conditions];
      const targets = expr.flatMap((part) => targetOf(part, "jump") ?? targetOf(part, "goto") ?? []);
      return targets.flatMap((target) => walk(target, conditions, new Set([...seen, chain])));
    });
  };
  return walk(base, [], new Set());
}

/** A rule with a verdict map is one for each of its elements. A map with a name may lead anywhere. */
function withoutMap(expr: readonly Part[]): readonly (readonly Part[])[] {
  const part = expr.find((some) => has(some, "vmap"));
  if (part === undefined) return [expr];
  const { vmap } = part as { readonly vmap: { readonly key: unknown; readonly data: unknown } };
  const others = expr.filter((some) => some !== part);
  const elements = (vmap.data as { readonly set?: readonly (readonly [unknown, Part])[] }).set;
  if (elements === undefined) return [[...others, part, { accept: null }]];
  return elements.map(([right, verdict]) => [...others, { match: { op: "==", left: vmap.key, right } }, verdict]);
}

const VERDICTS: readonly string[] = ["accept", "drop", "reject", "jump", "goto", "return", "continue"];
const SILENT: readonly string[] = [...VERDICTS, "counter", "log", "comment"];

function conditionsOf(expr: readonly Part[]): readonly Part[] {
  return expr.filter((part) => !SILENT.some((key) => has(part, key)) && !isXt(part, "comment") && !isXt(part, "LOG"));
}

interface Acceptance {
  /** Absent: whichever. */
  readonly direction?: "from" | "to";
  readonly values: readonly string[];
}

function soleCondition([condition, ...more]: readonly Part[]): Acceptance | undefined {
  if (condition === undefined) return { values: ["*"] };
  const { op, key, right } = matchOf(condition);
  const direction = { iifname: "from", saddr: "from", oifname: "to", daddr: "to" }[key] as "from" | "to" | undefined;
  if (more.length > 0 || op !== "==" || direction === undefined) return undefined;
  return { direction, values: valuesOf(right) };
}

/** What iptables' own matches say of it that nft cannot print: all but these may hold. */
const XT_NEVER: readonly string[] = [
  "conntrack",
  "state",
  "icmp",
  "icmp6",
  "tcp",
  "addrtype",
  "limit",
  "hashlimit",
  "recent",
];
/** Fields of headers that no UDP packet has, or that do not say where it goes. */
const OTHER_PROTOCOLS: readonly string[] = ["tcp", "icmp", "icmpv6", "sctp", "dccp", "esp", "ah"];

function isNeverUDPOfOthers(condition: Part): boolean {
  if (has(condition, "limit") || XT_NEVER.some((name) => isXt(condition, name))) return true;
  const { op, key, protocol, right } = matchOf(condition);
  if (key === "ct") return op === "!=" ? false : !textsOf(right).some((state) => ["new", "untracked"].includes(state));
  if (protocol !== undefined && OTHER_PROTOCOLS.includes(protocol)) return true;
  if (op !== "==") return false;
  if (key === "sport") return true;
  if (key === "l4proto" || key === "protocol") return !textsOf(right).some((text) => ["udp", "17"].includes(text));
  return key === "iifname" && right === "lo";
}

interface Match {
  readonly op: string;
  /** `iifname`, `saddr`, `dport`, `l4proto`, `ct` for anything of connection tracking. */
  readonly key: string;
  readonly protocol?: string | undefined;
  readonly right: unknown;
}

function matchOf(part: Part): Match {
  const { match } = part as {
    readonly match?: { readonly op: string; readonly left: unknown; readonly right: unknown };
  };
  const { meta, payload, ct } = (match?.left ?? {}) as Readonly<
    Record<
      "meta" | "payload" | "ct",
      { readonly key?: string; readonly field?: string; readonly protocol?: string } | undefined
    >
  >;
  // `ct state established` is printed with `in`, where more than one may be set.
  const op = match?.op === "in" ? "==" : (match?.op ?? "");
  const key = ct === undefined ? (meta?.key ?? payload?.field ?? "") : "ct";
  return { op, key, protocol: payload?.protocol, right: match?.right };
}

/** `cali*`, `10.0.0.5`, a prefix, or an anonymous set of such. */
function valuesOf(right: unknown): readonly string[] {
  if (typeof right === "string") return [right];
  const { prefix, set } = (right ?? {}) as {
    readonly prefix?: { readonly addr: string; readonly len: number };
    readonly set?: readonly unknown[];
  };
  if (prefix !== undefined) return [`${prefix.addr}/${prefix.len}`];
  return Array.isArray(set) ? set.flatMap(valuesOf) : [];
}

/** What a condition compares with, alone, in a list or in a set. */
function textsOf(right: unknown): readonly string[] {
  if (Array.isArray(right)) return right.flatMap(textsOf);
  const set = (right as { readonly set?: unknown } | null)?.set;
  return set === undefined ? [String(right)] : textsOf(set);
}

function portsOf(right: unknown): readonly PortRange[] {
  if (typeof right === "number") return [{ min: right, max: right }];
  const { range, set } = (right ?? {}) as {
    readonly range?: readonly [number, number];
    readonly set?: readonly unknown[];
  };
  if (range !== undefined) return [{ min: range[0], max: range[1] }];
  // A set with a name is not looked into.
  return Array.isArray(set) ? set.flatMap(portsOf) : [ALL_PORTS];
}

function has(part: Part, key: string): boolean {
  return typeof part === "object" && part !== null && key in part;
}

function isXt(part: Part, name: string): boolean {
  return (part as { readonly xt?: { readonly name?: string } } | null)?.xt?.name === name;
}
