// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity, BlockAffinityState } from "../crds/block-affinity.ts";
import type { IPAMBlock } from "../crds/ipam-block.ts";
import { blockName } from "../crds/names.ts";
import { parseCIDR } from "../net/cidr.ts";
import { hostAffinity, withState } from "./affinity.ts";
import { refusedError } from "./allocator/attempts.ts";
import { isEmptyBlock, nextRevision } from "./block.ts";
import type { AffinityRelease, AffinityRepair, BlockRemoval, LeftTombstone } from "./gc/types.ts";
import type { DeleteOutcome, IPAMStore, UpdateOutcome } from "./ports.ts";

/**
 * Gives up a claim whose block is empty, gone or another node's, in two phases: the claim says `pendingDeletion`, then
 * the block goes, then the claim. Both must still be what was seen when the release was planned; the block's owner may
 * assign from it at any moment, and then the compare-and-swap of its deletion fails and the claim is confirmed again.
 *
 * @returns whether the claim is gone. Errors: IPAMError. Source: calico-interop 2.1 (unclaim) and 2.9
 */
export async function releaseAffinity(store: IPAMStore, planned: AffinityRelease): Promise<boolean> {
  const affinity = await store.get("affinity", planned.name);
  if (affinity === undefined) return true;
  if (affinity.metadata.resourceVersion !== planned.resourceVersion) return false;
  const block = await store.get("block", blockName(parseCIDR(planned.cidr)));
  if (block === undefined || block.spec.affinity !== hostAffinity(planned.node)) {
    return isDone(await store.delete("affinity", affinity), `delete affinity ${planned.name}`);
  }
  if (block.spec.sequenceNumber !== planned.sequenceNumber || !isEmptyBlock(block.spec)) return false;
  const marked = await setState(store, affinity, "pendingDeletion");
  if (marked === undefined) return false;
  if (!isDone(await store.delete("block", block), `delete block ${block.spec.cidr}`)) {
    // Nobody routes to a claim that is not confirmed, and its owner may not look at it again.
    await confirm(store, marked, planned);
    return false;
  }
  return isDone(await store.delete("affinity", marked), `delete affinity ${planned.name}`);
}

/**
 * Confirms a claim whose release somebody began and never ended. The block is written in between, so that whoever began
 * it and still lives loses its compare-and-swap.
 *
 * @returns whether the claim is confirmed now
 */
export async function repairAffinity(store: IPAMStore, planned: AffinityRepair): Promise<boolean> {
  const affinity = await store.get("affinity", planned.name);
  if (affinity === undefined || affinity.metadata.resourceVersion !== planned.resourceVersion) return false;
  const pending = await setState(store, affinity, "pending");
  return pending !== undefined && (await confirm(store, pending, planned));
}

async function confirm(store: IPAMStore, affinity: BlockAffinity, { node, cidr }: AffinityRepair): Promise<boolean> {
  const block = await store.get("block", blockName(parseCIDR(cidr)));
  if (block === undefined || block.spec.affinity !== hostAffinity(node)) return false;
  if ((await touch(store, block)) === undefined) return false;
  return (await setState(store, affinity, "confirmed")) !== undefined;
}

/** Deletes a block that is empty and whose owner is gone. @returns whether it is gone */
export async function removeBlock(store: IPAMStore, planned: BlockRemoval): Promise<boolean> {
  const block = await store.get("block", planned.name);
  if (block === undefined) return true;
  if (block.spec.sequenceNumber !== planned.sequenceNumber || !isEmptyBlock(block.spec)) return false;
  return isDone(await store.delete("block", block), `delete block ${planned.name}`);
}

/** Finishes a deletion that somebody began. A read does that by itself. */
export async function finishTombstone(store: IPAMStore, { kind, name }: LeftTombstone): Promise<boolean> {
  return (await store.get(kind, name)) === undefined;
}

async function setState(
  store: IPAMStore,
  affinity: BlockAffinity,
  state: BlockAffinityState,
): Promise<BlockAffinity | undefined> {
  const outcome = await store.update("affinity", withState(affinity, state));
  return written(outcome, `set affinity ${affinity.metadata.name} to ${state}`);
}

async function touch(store: IPAMStore, block: IPAMBlock): Promise<IPAMBlock | undefined> {
  const outcome = await store.update("block", { ...block, spec: nextRevision(block.spec) });
  return written(outcome, `update block ${block.spec.cidr}`);
}

/** Conflicts and lost answers are for the next look at the cluster: it sees what has become of them. */
function written<T>(outcome: UpdateOutcome<T>, what: string): T | undefined {
  if (outcome.kind === "refused") throw refusedError(what, outcome);
  return outcome.kind === "ok" ? outcome.object : undefined;
}

function isDone(outcome: DeleteOutcome, what: string): boolean {
  if (outcome.kind === "refused") throw refusedError(what, outcome);
  return outcome.kind === "ok";
}
