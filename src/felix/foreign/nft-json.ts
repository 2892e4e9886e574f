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

export interface NftObject {
  readonly chain?: NftChain;
  readonly rule?: { readonly chain: string; readonly handle: number; readonly expr?: readonly unknown[] };
}

export type BaseChain = ChainName & { readonly policy: "accept" | "drop" };

/** Reads all chains, and those at the hooks where packets are filtered. What cannot be read is as if it were not there. */
export function parseChains(json: string): {
  readonly chains: readonly ChainName[];
  readonly forward: readonly BaseChain[];
  readonly input: readonly BaseChain[];
} {
  const found = objectsOf(json).flatMap(({ chain }) => (chain === undefined ? [] : [chain]));
  const nameOf = ({ family, table, name }: NftChain): ChainName => ({ family, table, chain: name });
  const at = (point: string): readonly BaseChain[] =>
    found
      .filter(({ hook }) => hook === point)
      .map((chain) => ({ ...nameOf(chain), policy: chain.policy === "drop" ? "drop" : "accept" }));
  return { chains: found.map(nameOf), forward: at("forward"), input: at("input") };
}

/** Handles of rules that jump to one of these chains. */
export function parseJumps(json: string, to: (chain: string) => boolean): readonly { chain: string; handle: number }[] {
  return objectsOf(json).flatMap(({ rule }) => {
    const targets = (rule?.expr ?? []).flatMap((part) => [targetOf(part, "jump"), targetOf(part, "goto")]);
    const isJump = targets.some((target) => target !== undefined && to(target));
    return rule !== undefined && isJump ? [{ chain: rule.chain, handle: rule.handle }] : [];
  });
}

/** Reads what `iptables-legacy -S` prints. */
export function parseLegacyForward(family: "ip" | "ip6", text: string): ForwardChain | undefined {
  // As iptables prints it, a comment stands before the target.
  const lines = text.split("\n").map((line) => line.replace(/ -m comment --comment (?:"[^"]*"|\S+)/, ""));
  if (!lines.some((line) => line.startsWith("-P FORWARD "))) return undefined;
  const way = legacyWay(lines, "FORWARD");
  const accepts = (...flags: readonly string[]): readonly string[] =>
    way.flatMap((line) => {
      const [, flag = "", value = ""] = /^-A \S+ (?:(-[iosd]) (\S+) )?-j ACCEPT$/.exec(line) ?? ["", "none"];
      if (flag === "") return ["*"];
      return flags.includes(flag) ? [value.replace(/\+$/, "*")] : [];
    });
  const last = lines.findLast((line) => line.startsWith("-A FORWARD ")) ?? "";
  const isDrop = lines.includes("-P FORWARD DROP") || /^-A FORWARD -j (?:DROP|REJECT)\b/.test(last);
  return {
    family,
    table: "filter",
    chain: "FORWARD",
    policy: isDrop ? "drop" : "accept",
    acceptsFrom: accepts("-i", "-s"),
    acceptsTo: accepts("-o", "-d"),
    isLegacy: true,
  };
}

/** Rules of the chain, and of those to which it leads whatever the packet. */
function legacyWay(lines: readonly string[], chain: string, seen: ReadonlySet<string> = new Set()): readonly string[] {
  if (seen.has(chain)) return [];
  const own = lines.filter((line) => line.startsWith(`-A ${chain} `));
  return own.flatMap((line) => {
    const to = /^-A \S+ -[jg] (\S+)$/.exec(line)?.[1];
    return [line, ...(to === undefined ? [] : legacyWay(lines, to, new Set([...seen, chain])))];
  });
}

export function objectsOf(json: string): readonly NftObject[] {
  try {
    const { nftables } = JSON.parse(json) as { readonly nftables?: readonly NftObject[] };
    return nftables ?? [];
  } catch {
    return [];
  }
}

export function targetOf(part: unknown, key: "jump" | "goto"): string | undefined {
  return (part as Readonly<Record<string, { readonly target?: string } | undefined>>)[key]?.target;
}
