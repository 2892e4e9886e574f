// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { affinityName } from "../../crds/names.ts";
import { type CIDR, parseCIDR } from "../../net/cidr.ts";
import { nodeOfAffinity } from "../affinity.ts";
import { isEmptyBlock } from "../block.ts";
import type { IPAMStore } from "../ports.ts";
import { releaseAffinity, removeBlock } from "../release-affinity.ts";
import { type ClaimTools, claimBlock } from "./claims.ts";

/** A block whose owner has just claimed it is about to be used. Source: calico-interop 2.4. */
export const MIN_CLAIM_AGE_MS = 60_000;

/** Whether a node that has nothing left may take the block from its owner: it is idle, and the claim is old enough. */
export function mayTakeOver(block: IPAMBlock, nowMs: number): boolean {
  const { affinityClaimTime: claimed } = block.spec;
  return isIdle(block) && (claimed === undefined || !(nowMs - Date.parse(claimed) < MIN_CLAIM_AGE_MS));
}

/**
 * Whether whoever asks for the address by name may take the block from its owner at once. One that has a single address
 * is as good as the address: it moves with the pod, also where strictAffinity forbids to borrow.
 */
export function mayMove(block: IPAMBlock): boolean {
  return block.spec.allocations.length === 1 && isIdle(block);
}

/** It is empty, and the owner is a node or nobody. Virtual owners, such as load balancers, keep theirs. */
function isIdle({ spec }: IPAMBlock): boolean {
  if (spec.deleted || !isEmptyBlock(spec)) return false;
  return spec.affinity === undefined || nodeOfAffinity(spec.affinity) !== undefined;
}

/**
 * Takes an empty block from its owner, as it was listed: if it was written since, the owner keeps it. Undefined when this
 * node did not get it.
 */
export async function takeOverBlock(tools: ClaimTools, listed: IPAMBlock): Promise<IPAMBlock | undefined> {
  const cidr = parseCIDR(listed.spec.cidr);
  return (await unclaim(tools.store, cidr, listed)) ? await claimBlock(tools, cidr) : undefined;
}

async function unclaim(store: IPAMStore, cidr: CIDR, { metadata, spec }: IPAMBlock): Promise<boolean> {
  const node = nodeOfAffinity(spec.affinity);
  const affinity = node === undefined ? undefined : await store.get("affinity", affinityName(node, cidr));
  if (affinity === undefined || node === undefined)
    return await removeBlock(store, { name: metadata.name, why: "unowned", sequenceNumber: spec.sequenceNumber });
  return await releaseEmpty(store, affinity, spec.sequenceNumber);
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
