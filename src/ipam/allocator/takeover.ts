// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { affinityName, blockName } from "../../crds/names.ts";
import type { CIDR } from "../../net/cidr.ts";
import { nodeOfAffinity } from "../affinity.ts";
import { isEmptyBlock } from "../block.ts";
import type { IPAMStore } from "../ports.ts";
import { releaseAffinity, removeBlock } from "../release-affinity.ts";
import { type ClaimTools, claimBlock } from "./claims.ts";

/** A block whose owner has just claimed it is about to be used. Source: calico-interop 2.4. */
export const MIN_CLAIM_AGE_MS = 60_000;

/** A block as it was seen: what must not have changed for it to be taken. */
export interface SeenBlock {
  readonly cidr: CIDR;
  readonly affinity: string | undefined;
  readonly sequenceNumber: bigint;
}

/** Whether a node that has nothing left may take the block from its owner: it is idle, and the claim is old enough. */
export function mayTakeOver(
  block: { readonly isIdle: boolean; readonly claimedAt: string | undefined },
  nowMs: number,
): boolean {
  const { isIdle, claimedAt } = block;
  return isIdle && (claimedAt === undefined || !(nowMs - Date.parse(claimedAt) < MIN_CLAIM_AGE_MS));
}

/**
 * Whether whoever asks for the address by name may take the block from its owner at once. One that has a single address
 * is as good as the address: it moves with the pod, also where strictAffinity forbids to borrow.
 */
export function mayMove(block: IPAMBlock): boolean {
  return block.spec.allocations.length === 1 && isIdle(block);
}

/** It is empty, and the owner is a node or nobody. Virtual owners, such as load balancers, keep theirs. */
export function isIdle({ spec }: IPAMBlock): boolean {
  if (spec.deleted || !isEmptyBlock(spec)) return false;
  return spec.affinity === undefined || nodeOfAffinity(spec.affinity) !== undefined;
}

/**
 * Takes an empty block from its owner, as it was seen: if it was written since, the owner keeps it. Undefined when this
 * node did not get it.
 */
export async function takeOverBlock(tools: ClaimTools, seen: SeenBlock): Promise<IPAMBlock | undefined> {
  return (await unclaim(tools.store, seen)) ? await claimBlock(tools, seen.cidr) : undefined;
}

async function unclaim(store: IPAMStore, { cidr, affinity: owner, sequenceNumber }: SeenBlock): Promise<boolean> {
  const node = nodeOfAffinity(owner);
  const affinity = node === undefined ? undefined : await store.get("affinity", affinityName(node, cidr));
  if (affinity === undefined)
    return await removeBlock(store, { name: blockName(cidr), why: "unowned", sequenceNumber });
  return await releaseEmpty(store, affinity, sequenceNumber);
}

/** Gives up a claim whose block has this sequence number still, and is empty. */
export async function releaseEmpty(
  store: IPAMStore,
  { metadata, spec }: BlockAffinity,
  sequenceNumber: bigint,
): Promise<boolean> {
  const { name, resourceVersion = "" } = metadata;
  const { node, cidr } = spec;
  return await releaseAffinity(store, { name, node, cidr, why: "surplus", resourceVersion, sequenceNumber });
}
