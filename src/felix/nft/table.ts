// SPDX-License-Identifier: Apache-2.0

/** The packet filter as data: what `render.ts` writes as a script, and what `parse.ts` makes of the kernel's answer. */

/** One for both families. It is the agent's alone: whatever is in it that the agent does not want is removed. Never change it. */
export const TABLE_NAME = "gingham";

export type SetType = "ipv4_addr" | "ipv6_addr" | "ifname . ipv4_addr" | "ifname . ipv6_addr";

export interface Hook {
  readonly type: "filter" | "nat";
  readonly hook: "prerouting" | "input" | "output" | "postrouting";
  /** Source: linux/netfilter_ipv4.h, enum nf_ip_hook_priorities. */
  readonly priority: number;
}

export interface Rule {
  readonly text: string;
  /** For people: it stands beside the rule in `nft list table inet gingham`. */
  readonly why: string;
}

export interface Chain {
  readonly name: string;
  /** Absent: only other chains lead here. */
  readonly hook?: Hook;
  readonly rules: readonly Rule[];
}

/** Everything but the sets' elements. It changes with the agent's version and settings only. */
export interface Layout {
  readonly counters: readonly string[];
  readonly sets: Readonly<Record<string, SetType>>;
  readonly chains: readonly Chain[];
}

/**
 * Elements of each set, by the set's name, as `nft` takes them: canonical, so that equal elements are equal texts
 * (`10.0.0.0/16`, `10.0.0.1/32`, `"cali1" . fd00::/64`). No element covers another of its set: the kernel refuses that.
 */
export type Elements = ReadonlyMap<string, ReadonlySet<string>>;

/** The table as the kernel has it. */
export interface ActualTable {
  /** What there is by its place, in the terms of `outlineOf`. */
  readonly outline: ReadonlyMap<string, string>;
  readonly elements: Elements;
  /** Packets by counter. */
  readonly counters: ReadonlyMap<string, number>;
}
