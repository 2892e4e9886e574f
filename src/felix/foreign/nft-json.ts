// SPDX-License-Identifier: Apache-2.0
import type { ChainName, ForwardChain } from "./ports.ts";

/** A chain as `nft -j list chains` prints it. Source: libnftables-json(5). */
interface NftChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

interface NftObject {
  readonly chain?: NftChain;
  readonly rule?: { readonly chain: string; readonly handle: number; readonly expr?: readonly unknown[] };
}

export type ForwardHook = ChainName & { readonly policy: "accept" | "drop" };

/** Reads all chains, and those at the forward hook. What cannot be read is as if it were not there. */
export function parseChains(json: string): {
  readonly chains: readonly ChainName[];
  readonly forward: readonly ForwardHook[];
} {
  const found = objectsOf(json).flatMap(({ chain }) => (chain === undefined ? [] : [chain]));
  const nameOf = ({ family, table, name }: NftChain): ChainName => ({ family, table, chain: name });
  return {
    chains: found.map(nameOf),
    forward: found
      .filter(({ hook }) => hook === "forward")
      .map((chain) => ({ ...nameOf(chain), policy: chain.policy === "drop" ? "drop" : "accept" })),
  };
}

/**
 * From which interfaces and networks, and to which, rules of the table accept everything. A rule with any further condition
 * does not count; a comment is none.
 */
export function parseAcceptance(json: string): Pick<ForwardChain, "acceptsFrom" | "acceptsTo"> {
  const conditions = objectsOf(json).flatMap(({ rule }) => acceptCondition(rule?.expr ?? []) ?? []);
  const accepted = (direction: "from" | "to"): readonly string[] =>
    conditions.flatMap((condition) =>
      condition.direction === undefined || condition.direction === direction ? condition.values : [],
    );
  return { acceptsFrom: accepted("from"), acceptsTo: accepted("to") };
}

/** Handles of rules that jump to one of these chains. */
export function parseJumps(json: string, to: (chain: string) => boolean): readonly { chain: string; handle: number }[] {
  return objectsOf(json).flatMap(({ rule }) => {
    const targets = (rule?.expr ?? []).flatMap((part) => [targetOf(part, "jump"), targetOf(part, "goto")]);
    const isJump = targets.some((target) => target !== undefined && to(target));
    return rule !== undefined && isJump ? [{ chain: rule.chain, handle: rule.handle }] : [];
  });
}

/** Reads what `iptables-legacy -S FORWARD` prints. */
export function parseLegacyForward(family: "ip" | "ip6", text: string): ForwardChain | undefined {
  const lines = text.split("\n");
  if (!lines.some((line) => line.startsWith("-P FORWARD "))) return undefined;
  // As iptables prints it, a comment stands before the target.
  const plain = lines.map((line) => line.replace(/ -m comment --comment (?:"[^"]*"|\S+)/, ""));
  const accepts = (...flags: readonly string[]): readonly string[] =>
    plain.flatMap((line) => {
      const [, flag = "", value = ""] = /^-A FORWARD (?:(-[iosd]) (\S+) )?-j ACCEPT$/.exec(line) ?? ["", "none"];
      if (flag === "") return ["*"];
      return flags.includes(flag) ? [value.replace(/\+$/, "*")] : [];
    });
  return {
    family,
    table: "filter",
    chain: "FORWARD",
    policy: lines.includes("-P FORWARD DROP") ? "drop" : "accept",
    acceptsFrom: accepts("-i", "-s"),
    acceptsTo: accepts("-o", "-d"),
    isLegacy: true,
  };
}

function objectsOf(json: string): readonly NftObject[] {
  try {
    const { nftables } = JSON.parse(json) as { readonly nftables?: readonly NftObject[] };
    return nftables ?? [];
  } catch {
    return [];
  }
}

function has(part: unknown, key: string): boolean {
  return typeof part === "object" && part !== null && key in part;
}

function targetOf(part: unknown, key: "jump" | "goto"): string | undefined {
  return (part as Readonly<Record<string, { readonly target?: string } | undefined>>)[key]?.target;
}

interface AcceptCondition {
  /** Absent: whichever. */
  readonly direction?: "from" | "to";
  readonly values: readonly string[];
}

/** Undefined when the rule does not accept, or goes by more than one thing. */
function acceptCondition(expr: readonly unknown[]): AcceptCondition | undefined {
  const isOther = (part: unknown): boolean => has(part, "xt") && !isComment(part);
  if (!expr.some((part) => has(part, "accept")) || expr.some(isOther)) return undefined;
  const [match, ...more] = expr.filter((part) => has(part, "match"));
  if (match === undefined) return { values: ["*"] };
  return more.length === 0 ? conditionOf((match as { readonly match: NftMatch }).match) : undefined;
}

interface NftMatch {
  readonly op: string;
  readonly left: { readonly meta?: { readonly key: string }; readonly payload?: { readonly field?: string } };
  readonly right: unknown;
}

function conditionOf({ op, left, right }: NftMatch): AcceptCondition | undefined {
  const key = left.meta?.key ?? left.payload?.field ?? "";
  const direction = { iifname: "from", saddr: "from", oifname: "to", daddr: "to" }[key] as "from" | "to" | undefined;
  return op === "==" && direction !== undefined ? { direction, values: valuesOf(right) } : undefined;
}

/** `cali*`, `10.0.0.5`, a prefix, or an anonymous set of such. */
function valuesOf(right: unknown): readonly string[] {
  if (typeof right === "string") return [right];
  const { prefix, set } = right as {
    readonly prefix?: { readonly addr: string; readonly len: number };
    readonly set?: readonly unknown[];
  };
  if (prefix !== undefined) return [`${prefix.addr}/${prefix.len}`];
  return Array.isArray(set) ? set.flatMap(valuesOf) : [];
}

function isComment(part: unknown): boolean {
  return (part as { readonly xt?: { readonly name?: string } }).xt?.name === "comment";
}
