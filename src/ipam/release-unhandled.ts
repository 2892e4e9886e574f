// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../crds/ipam-block.ts";
import { attempts, refusedError, unreachable } from "./allocator/attempts.ts";
import { isEmptyBlock, nextRevision, release } from "./block.ts";
import type { ReleaseTools } from "./release.ts";

/** An address that somebody took without a handle, or whose owner record names nobody any more. */
export interface UnhandledAddress {
  /** Name of the block's object. */
  readonly block: string;
  readonly ordinal: number;
  readonly sequenceNumber: bigint;
}

/**
 * Frees an address that has no handle, if it is still this very assignment. Nobody but a person can know that it is not
 * in use.
 *
 * @returns whether it is free because of this call; after a write without an answer also when somebody else freed it.
 * Errors: IPAMError. Source: calico-interop 2.6
 */
export async function releaseUnhandled(tools: ReleaseTools, address: UnhandledAddress): Promise<boolean> {
  const { store } = tools;
  const what = `release ordinal ${address.ordinal} of block ${address.block}`;
  let isOpen = false;
  for await (const _ of attempts(tools, what)) {
    const block = await store.get("block", address.block);
    if (block === undefined || !isStill(block, address)) return isOpen;
    const spec = nextRevision(release(block.spec, [address.ordinal]));
    const outcome =
      spec.affinity === undefined && isEmptyBlock(spec)
        ? await store.delete("block", block)
        : await store.update("block", { ...block, spec });
    if (outcome.kind === "ok") return true;
    if (outcome.kind === "refused") throw refusedError(what, outcome);
    if (outcome.kind === "unknown") isOpen = true;
  }
  return unreachable();
}

function isStill({ spec }: IPAMBlock, { ordinal, sequenceNumber }: UnhandledAddress): boolean {
  const index = spec.allocations[ordinal];
  const attribute = index === null || index === undefined ? undefined : spec.attributes[index];
  if (attribute === undefined || attribute.handle_id !== undefined || attribute.releasedAt !== undefined) return false;
  return (spec.sequenceNumberForAllocation[String(ordinal)] ?? 0n) === sequenceNumber;
}
