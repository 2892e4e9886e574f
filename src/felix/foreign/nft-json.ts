// SPDX-License-Identifier: Apache-2.0
import { WORKLOAD_IFACE_PREFIX } from "../ownership.ts";
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
 * Whether some rule of the table accepts all that comes from pods' interfaces, and some rule all that goes to them. A rule
 * with any further condition does not count.
 */
export function parseAcceptance(json: string): Pick<ForwardChain, "acceptsFromPods" | "acceptsToPods"> {
  const rules = objectsOf(json).flatMap(({ rule }) => (rule?.expr === undefined ? [] : [rule.expr]));
  const accepts = (key: "iifname" | "oifname"): boolean =>
    rules.some((expr) => {
      const isAccept = expr.some((part) => has(part, "accept"));
      const matches = expr.filter((part) => has(part, "match"));
      return isAccept && matches.every((part) => isPodMatch(part, key)) && !expr.some((part) => has(part, "xt"));
    });
  return { acceptsFromPods: accepts("iifname"), acceptsToPods: accepts("oifname") };
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
  const accepts = (flag: "-i" | "-o"): boolean => lines.includes(`-A FORWARD ${flag} cali+ -j ACCEPT`);
  return {
    family,
    table: "filter",
    chain: "FORWARD",
    policy: lines.includes("-P FORWARD DROP") ? "drop" : "accept",
    acceptsFromPods: accepts("-i"),
    acceptsToPods: accepts("-o"),
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

function isPodMatch(part: unknown, key: string): boolean {
  const { match } = part as {
    readonly match: {
      readonly op: string;
      readonly left: { readonly meta?: { readonly key: string } };
      readonly right: unknown;
    };
  };
  const isPattern = match.right === `${WORKLOAD_IFACE_PREFIX}*`;
  return match.op === "==" && match.left.meta?.key === key && isPattern;
}
