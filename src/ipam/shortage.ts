// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../crds/ip-pool.ts";
import { type CIDR, formatCIDR } from "../net/cidr.ts";
import { IPAMError } from "./errors.ts";

/** How many blocks a node may own when IPAMConfig names no limit, as in Calico. Source: calico-interop 2.2, step 4. */
export const DEFAULT_BLOCK_LIMIT = 20;

/** What became of the blocks that were looked at, when none could be claimed. */
export interface SearchTally {
  readonly taken: number;
  /** Neither free nor taken as a whole: a block of another size or another pool has some of their addresses. */
  readonly overlapped: number;
  /** One of those, and the block or the pool across it. */
  readonly overlap?: { readonly candidate: CIDR; readonly by: CIDR | EffectiveIPPool };
  /** Every address of them is in an IPReservation. Large reservations count once. */
  readonly reserved: number;
}

/** Why a node gets no other block. */
export type ShortageReason =
  | { readonly kind: "limit"; readonly owned: number; readonly limit: number; readonly maxBlocksPerHost: number }
  /** `autoAllocateBlocks` is false. */
  | { readonly kind: "forbidden" }
  | { readonly kind: "exhausted"; readonly tally: SearchTally; readonly strictAffinity: boolean };

export interface Shortage {
  readonly nodeName: string;
  readonly pools: readonly EffectiveIPPool[];
  /** Blocks of these pools that the node owns. */
  readonly owned: number;
  readonly reason: ShortageReason;
  /** Addresses of them that cool down in the block. */
  readonly cooling?: number;
  /** What other nodes' blocks in these pools have free; absent when it could not be read. */
  readonly elsewhere?: { readonly addresses: number; readonly blocks: number };
}

const COOLING = "were released and cool down (ipCooldownSeconds of IPAMConfig default)";

/**
 * Why there is no address, for somebody who has to do something about it: the pools, the node, what it owns, what is
 * free elsewhere, and which setting keeps the node from it.
 */
export function shortageError(shortage: Shortage): IPAMError {
  const { nodeName, pools, owned, reason } = shortage;
  const names = pools.map((pool) => `${pool.name} (${formatCIDR(pool.cidr)})`).join(", ");
  const cooling = (shortage.cooling ?? 0) > 0 ? `; ${shortage.cooling} of their addresses ${COOLING}` : "";
  const has = `No free address in ${names}: node ${nodeName} owns ${owned} of its blocks, all full${cooling}`;
  switch (reason.kind) {
    case "forbidden": {
      const why = "autoAllocateBlocks of IPAMConfig default is false, which forbids to claim more";
      const step = "set it to true, or claim a block for the node, see gingham ipam show --blocks";
      return new IPAMError("NoAddress", `${has}, and ${why}${elsewhere(shortage)}; ${step}`);
    }
    case "limit": {
      const { limit, maxBlocksPerHost } = reason;
      const source =
        maxBlocksPerHost > 0
          ? "maxBlocksPerHost of IPAMConfig default"
          : "the built-in limit while maxBlocksPerHost is 0";
      const why = `${reason.owned} of ${limit} blocks is its limit (${source}), at which a node does not borrow either`;
      const step = "raise maxBlocksPerHost of IPAMConfig default, see gingham ipam plan";
      return new IPAMError("BlockLimit", `${has}; ${why}${elsewhere(shortage)}; ${step}`);
    }
    case "exhausted":
      return exhaustedError(shortage, has, reason.tally, reason.strictAffinity);
  }
}

function exhaustedError(shortage: Shortage, has: string, tally: SearchTally, isStrict: boolean): IPAMError {
  const { taken, overlapped, overlap, reserved } = tally;
  const reservedToo = reserved === 0 ? "" : ` or reserved (${reserved})`;
  if (overlapped > 0) {
    const such = overlap === undefined ? "" : `, such as ${overlapText(overlap)}`;
    const what = `${has}, ${taken} blocks are taken${reservedToo} and ${overlapped} overlap blocks or pools of another size${such}`;
    return new IPAMError(
      "Overlap",
      `${what}; remove the IPPool or the old blocks that lie across these addresses (gingham ipam check names them)`,
    );
  }
  const lent = elsewhere(shortage);
  const forbids = isStrict && lent !== "" ? ", but strictAffinity of IPAMConfig default forbids to borrow them" : "";
  const step =
    forbids === ""
      ? "add an IPPool, or free addresses (gingham ipam show --blocks tells who has them)"
      : "add an IPPool, see gingham ipam show --blocks";
  return new IPAMError(
    "NoAddress",
    `${has}, and all ${taken} blocks are taken${reservedToo}${lent}${forbids}; ${step}`,
  );
}

function overlapText({ candidate, by }: Required<SearchTally>["overlap"]): string {
  const other = "name" in by ? `IPPool ${by.name} (${formatCIDR(by.cidr)})` : `block ${formatCIDR(by)}`;
  return `${formatCIDR(candidate)} with ${other}`;
}

function elsewhere({ elsewhere: free }: Shortage): string {
  if (free === undefined || free.addresses === 0) return "";
  return `; ${free.addresses} addresses are free in ${free.blocks} blocks of other nodes`;
}
