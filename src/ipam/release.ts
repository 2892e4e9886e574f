// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock, IPAMBlockSpec } from "../crds/ipam-block.ts";
import type { IPAMHandle } from "../crds/ipam-handle.ts";
import { blockName, blockNameOf, handleName } from "../crds/names.ts";
import { formatCIDR } from "../net/cidr.ts";
import { attempts, type LoopTools, refusedError, unreachable } from "./allocator/attempts.ts";
import { isEmptyBlock, isHeld, nextRevision, ordinalsOfHandle, release } from "./block.ts";
import { damageOf } from "./check-block.ts";
import { MAX_IP_COOLDOWN_MS, thaw } from "./cooldown.ts";
import { assignmentKey } from "./gc/addresses.ts";
import type { HeldAddress, OrphanHandle } from "./gc/types.ts";
import { addToBlocks, type HandleBlocks, isSameBlocks, withBlocks } from "./handle.ts";
import { createLimiter } from "./limiter.ts";
import type { DeleteOutcome, IPAMStore, UpdateOutcome } from "./ports.ts";

/**
 * Gives back what is not this process's own: a collector's counterpart to the allocator, which assumes that nobody else
 * counts its handles. Everything here is a compare-and-swap of what was just read, checked again in each round.
 *
 * Errors: IPAMError.
 */
export interface ReleaseTools extends LoopTools {
  readonly store: IPAMStore;
}

export interface Released {
  /** Free now because of this call. */
  readonly freed: readonly HeldAddress[];
  /** Why the others are not, where it is not that they were free or another's already. */
  readonly errors: readonly unknown[];
}

/** Blocks, and then handles, that are written side by side. */
const IN_FLIGHT = 16;

/**
 * Frees those of the addresses that are still the same assignment: address, handle and sequence number. Blocks first, one
 * write for all addresses of a block, then the handles, each of which counts down by just what was freed. One block that
 * fails does not stop the others. Never rejects.
 */
export async function releaseAddresses(tools: ReleaseTools, addresses: readonly HeldAddress[]): Promise<Released> {
  const limit = createLimiter(IN_FLIGHT);
  const errors: unknown[] = [];
  const all = async <T>(tasks: readonly (() => Promise<T>)[]): Promise<readonly T[]> => {
    const outcomes = await Promise.allSettled(tasks.map((task) => limit(task)));
    for (const outcome of outcomes) if (outcome.status === "rejected") errors.push(outcome.reason);
    return outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  };
  // Twice the same address would count its handle down twice.
  const distinct = new Map(addresses.map((address) => [assignmentKey(address), address]));
  const byBlock = Map.groupBy(distinct.values(), ({ block }) => formatCIDR(block));
  const results = await all([...byBlock.values()].map((own) => () => freeInBlock(tools, own)));
  // A count that is too high is harmless and found later; one that is too low would lose somebody's address.
  const counted = results.flatMap(({ freed, isCertain }) => (isCertain ? freed : []));
  const byHandle = Map.groupBy(counted, ({ handleID }) => handleID);
  await all(
    [...byHandle].map(
      ([handleID, own]) =>
        () =>
          countDown(tools, handleID, own),
    ),
  );
  return { freed: results.flatMap(({ freed }) => freed), errors };
}

async function freeInBlock(
  tools: ReleaseTools,
  addresses: readonly HeldAddress[],
): Promise<{ readonly freed: readonly HeldAddress[]; readonly isCertain: boolean }> {
  const [{ block } = unreachable()] = addresses;
  const what = `release addresses of block ${formatCIDR(block)}`;
  /** Addresses of writes that had no answer. */
  const open = new Set<HeldAddress>();
  for await (const _ of attempts(tools, what)) {
    const stored = await tools.store.get("block", blockName(block));
    const held = addresses.filter((a) => stored && isHeld(stored.spec, a.ordinal, a.handleID, a.sequenceNumber));
    if (stored === undefined || held.length === 0) return { freed: [...open], isCertain: open.size === 0 };
    const outcome = await writeFreed(tools, stored, held);
    if (outcome.kind === "ok") return { freed: [...new Set([...held, ...open])], isCertain: open.size === 0 };
    if (outcome.kind === "refused") throw refusedError(what, outcome);
    if (outcome.kind === "unknown") for (const address of held) open.add(address);
  }
  return unreachable();
}

/** What was held for nobody all the while has rested, so it is free at once, whatever cooldown is set. */
async function writeFreed(
  { store, clock }: ReleaseTools,
  stored: IPAMBlock,
  held: readonly HeldAddress[],
): Promise<UpdateOutcome<IPAMBlock> | DeleteOutcome> {
  const ordinals = held.map(({ ordinal }) => ordinal);
  const thawed = thaw(stored.spec, clock.nowMs(), MAX_IP_COOLDOWN_MS);
  return await writeBlock(store, stored, release(thawed, ordinals));
}

/** As the block's next version, or as its end when it is empty and without an owner. */
async function writeBlock(
  store: IPAMStore,
  stored: IPAMBlock,
  changed: IPAMBlockSpec,
): Promise<UpdateOutcome<IPAMBlock> | DeleteOutcome> {
  const spec = nextRevision(changed);
  if (spec.affinity === undefined && isEmptyBlock(spec)) return await store.delete("block", stored);
  return await store.update("block", { ...stored, spec });
}

/**
 * Frees what has cooled down, by any setting, in a block whose owner does not: it is gone, or there is none. Without that
 * the block would never be empty.
 *
 * @returns whether anything came free
 */
export async function thawBlock({ store, clock }: ReleaseTools, name: string): Promise<boolean> {
  const stored = await store.get("block", name);
  if (stored === undefined || damageOf(stored.spec).length > 0) return false;
  const thawed = thaw(stored.spec, clock.nowMs(), MAX_IP_COOLDOWN_MS);
  if (thawed === stored.spec) return false;
  const outcome = await writeBlock(store, stored, thawed);
  if (outcome.kind === "refused") throw refusedError(`free cooled down addresses of block ${name}`, outcome);
  return outcome.kind === "ok";
}

async function countDown(tools: ReleaseTools, handleID: string, freed: readonly HeldAddress[]): Promise<void> {
  const what = `count down handle ${handleID}`;
  /** Version of a write that had no answer. */
  let openVersion: string | undefined;
  for await (const _ of attempts(tools, what)) {
    const handle = await tools.store.get("handle", handleName(handleID));
    if (handle === undefined || handle.spec.handleID !== handleID) return;
    // The write was taken, or somebody else's was: to count down twice would be worse than not at all.
    if (openVersion !== undefined && handle.metadata.resourceVersion !== openVersion) return;
    let next = handle.spec.block;
    for (const { block } of freed) next = addToBlocks(next, [formatCIDR(block)], -1);
    if (isSameBlocks(next, handle.spec.block)) return;
    const outcome = await writeHandle(tools, handle, next);
    if (outcome.kind === "ok" || outcome.kind === "notFound") return;
    if (outcome.kind === "refused") throw refusedError(what, outcome);
    if (outcome.kind === "unknown") openVersion = handle.metadata.resourceVersion;
  }
}

async function writeHandle(
  { store }: ReleaseTools,
  handle: IPAMHandle,
  next: HandleBlocks,
): Promise<UpdateOutcome<IPAMHandle> | DeleteOutcome> {
  if (Object.keys(next).length === 0) return await store.delete("handle", handle);
  return await store.update("handle", withBlocks(handle, next));
}

/**
 * Deletes a handle that counts addresses which no block has.
 *
 * The handle must be the very version that was seen long ago, and its blocks are read again: an assignment that is on
 * its way has counted up before, which makes it another version.
 *
 * @returns whether it is gone
 */
export async function deleteOrphanHandle(tools: ReleaseTools, orphan: OrphanHandle): Promise<boolean> {
  const { store } = tools;
  const handle = await store.get("handle", orphan.name);
  if (handle === undefined) return true;
  if (handle.metadata.resourceVersion !== orphan.resourceVersion) return false;
  for (const key of Object.keys(handle.spec.block)) {
    const block = await store.get("block", blockNameOf(key));
    if (block === undefined) continue;
    // A damaged block may have lost the names of its owners, and then the handle is all that tells of one.
    if (damageOf(block.spec).length > 0 || ordinalsOfHandle(block.spec, handle.spec.handleID).length > 0) return false;
  }
  const outcome = await store.delete("handle", handle);
  if (outcome.kind === "refused") throw refusedError(`delete handle ${orphan.name}`, outcome);
  return outcome.kind === "ok";
}
