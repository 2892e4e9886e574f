// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../../crds/ipam-block.ts";
import { affinityName, blockName } from "../../crds/names.ts";
import { type CIDR, formatCIDR } from "../../net/cidr.ts";
import { hostAffinity, isConfirmed, isHostAffinityOf, pendingAffinity, withState } from "../affinity.ts";
import { isEmptyBlock, newBlock, nextRevision } from "../block.ts";
import type { IPAMStore, UpdateOutcome } from "../ports.ts";
import { attempts, type LoopTools, refusedError, unreachable } from "./attempts.ts";

export interface ClaimTools extends LoopTools {
  readonly store: IPAMStore;
  readonly nodeName: string;
  /**
   * A block of another size that shares addresses, by its claim if it has one: of all claims that were written before this
   * one of ours. Errors: IPAMError `Datastore`.
   */
  readonly rivalOf: (cidr: CIDR, claim: BlockAffinity) => Promise<CIDR | undefined>;
}

/** A step that another writer got in the way of, or that may or may not have been taken: read everything again. */
const AGAIN = Symbol("again");

/**
 * Claims a block for this node: affinity `pending`, block with owner, affinity `confirmed`. Three writes and no read when
 * nobody else is there. Undefined when somebody else has it; then our affinity is gone again.
 *
 * Two nodes that reach for the same block are told apart by its creation. Those that reach for blocks of different size,
 * since one of them has not heard yet that the pool was made again with another `blockSize`, are told apart by their
 * claims: each writes its own, then looks at those that were written before, and steps back when one overlaps. Whichever
 * was written first, the other one sees it; if both see each other, both look for another place.
 *
 * Source: calico-interop 2.1 and 2.3.
 */
export async function claimBlock(tools: ClaimTools, cidr: CIDR): Promise<IPAMBlock | undefined> {
  return await own(tools, cidr, { mayClaim: true, isNew: true });
}

/**
 * Loads a block that an affinity of this node names, and puts right what a crash or another writer left half done.
 * Undefined when the block is not ours any more; then the affinity is gone, too.
 *
 * @param affinity as last read, to save reading it again.
 */
export async function loadAffineBlock(
  tools: ClaimTools,
  cidr: CIDR,
  affinity?: BlockAffinity,
): Promise<IPAMBlock | undefined> {
  return await own(tools, cidr, { mayClaim: false, isNew: false, ...(affinity && { affinity }) });
}

interface OwnOptions {
  /** Make an affinity where there is none. */
  readonly mayClaim: boolean;
  /** Expect nothing to be there, so write before reading. */
  readonly isNew: boolean;
  readonly affinity?: BlockAffinity;
}

async function own(tools: ClaimTools, cidr: CIDR, options: OwnOptions): Promise<IPAMBlock | undefined> {
  for await (const attempt of attempts(tools, `claim block ${formatCIDR(cidr)} for node ${tools.nodeName}`)) {
    const isFirst = attempt === 1;
    const known = isFirst ? options.affinity : undefined;
    const outcome = await ownOnce(tools, cidr, known, isFirst && options.isNew, options.mayClaim);
    if (outcome !== AGAIN) return outcome;
  }
  return unreachable();
}

async function ownOnce(
  tools: ClaimTools,
  cidr: CIDR,
  known: BlockAffinity | undefined,
  isNew: boolean,
  mayClaim: boolean,
): Promise<IPAMBlock | undefined | typeof AGAIN> {
  const { store, nodeName } = tools;
  let affinity = known ?? (isNew ? undefined : await store.get("affinity", affinityName(nodeName, cidr)));
  if (affinity !== undefined && !isHostAffinityOf(affinity, nodeName)) return undefined;
  let block = isNew ? undefined : await store.get("block", blockName(cidr));
  const isOurs = block?.spec.affinity === hostAffinity(nodeName);
  if (affinity === undefined) {
    // Somebody deleted the affinity of a block that is ours: without it no other node routes to the block.
    if (!mayClaim && !isOurs) return undefined;
    const created = await store.create("affinity", pendingAffinity(nodeName, cidr));
    if (created.kind === "refused") throw refusedError(`create the affinity of ${formatCIDR(cidr)}`, created);
    if (created.kind !== "ok") return AGAIN;
    affinity = created.object;
  }
  if (block !== undefined && !isOurs) {
    // Best effort: a stale affinity that stays is found stale again.
    await store.delete("affinity", affinity);
    return undefined;
  }
  if (block !== undefined && isConfirmed(affinity)) return block;
  // Another claim or unclaim of ours is under way or has died. Going through `pending` and writing the block is what
  // makes a concurrent unclaim lose its compare-and-swap.
  if (block !== undefined || affinity.spec.state !== "pending") {
    const pending = await setState(tools, affinity, "pending");
    if (pending === AGAIN) return AGAIN;
    affinity = pending;
  }
  const isUnused = block === undefined || isEmptyBlock(block.spec);
  if (isUnused && (await tools.rivalOf(cidr, affinity)) !== undefined) return await stepBack(tools, affinity, block);
  block = block === undefined ? await createBlock(tools, cidr) : await touchBlock(tools, block);
  if (block === undefined) return AGAIN;
  return (await setState(tools, affinity, "confirmed")) === AGAIN ? AGAIN : block;
}

/** An empty block may be there: what our own write has made, which landed after we had stepped back before. */
async function stepBack(
  { store }: ClaimTools,
  affinity: BlockAffinity,
  block: IPAMBlock | undefined,
): Promise<undefined | typeof AGAIN> {
  if (block !== undefined) {
    const deleted = await store.delete("block", block);
    if (deleted.kind === "refused") throw refusedError(`delete block ${block.spec.cidr}`, deleted);
    if (deleted.kind !== "ok") return AGAIN;
  }
  // Best effort, as above.
  await store.delete("affinity", affinity);
  return undefined;
}

async function createBlock(tools: ClaimTools, cidr: CIDR): Promise<IPAMBlock | undefined> {
  const now = { ms: tools.clock.nowMs(), ns: tools.clock.nowNs() };
  const created = await tools.store.create("block", {
    apiVersion: `${IPAM_BLOCKS.group}/${IPAM_BLOCKS.version}`,
    kind: IPAM_BLOCKS.kind,
    metadata: { name: blockName(cidr) },
    spec: newBlock(cidr, hostAffinity(tools.nodeName), now),
  });
  if (created.kind === "refused") throw refusedError(`create block ${formatCIDR(cidr)}`, created);
  return created.kind === "ok" ? created.object : undefined;
}

async function touchBlock(tools: ClaimTools, block: IPAMBlock): Promise<IPAMBlock | undefined> {
  const touched = await tools.store.update("block", { ...block, spec: nextRevision(block.spec) });
  return written(touched, `update block ${block.spec.cidr}`);
}

async function setState(
  tools: ClaimTools,
  affinity: BlockAffinity,
  state: "pending" | "confirmed",
): Promise<BlockAffinity | typeof AGAIN> {
  const updated = await tools.store.update("affinity", withState(affinity, state));
  return written(updated, `set affinity ${affinity.metadata.name} to ${state}`) ?? AGAIN;
}

/** Everything but a clear yes or a clear no is a reason to read again. */
function written<T>(outcome: UpdateOutcome<T>, what: string): T | undefined {
  if (outcome.kind === "refused") throw refusedError(what, outcome);
  return outcome.kind === "ok" ? outcome.object : undefined;
}
