// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import type { IPAMHandle } from "../../crds/ipam-handle.ts";
import { blockNameOf } from "../../crds/names.ts";
import { hostAffinity } from "../../ipam/affinity.ts";
import { damageOf } from "../../ipam/check-block.ts";
import type { OrphanHandle } from "../../ipam/gc/types.ts";
import { withoutTail } from "../../ipam/handle-id.ts";
import type { CNI } from "../commands/cni.ts";
import type { NodeBlocks } from "./node-blocks.ts";
import { knownHandles } from "./own.ts";

export interface OrphanHandlesOptions {
  readonly cni: CNI;
  readonly blocks: NodeBlocks;
  /** Deletes it if it is the same still and no block has an address of it. @returns whether it is gone */
  readonly deleteHandle: (orphan: OrphanHandle) => Promise<boolean>;
  readonly isDryRun: boolean;
}

/** Longer than any ADD may take, which looks the same between its two writes: runtimes give up after 4 minutes. */
const GRACE_MS = 600_000;

/** What all blocks together say of handles. Small, however many they are: blocks come page by page. */
export class HandleCensus {
  readonly #nodeName: string;
  /** Handles that some block names. */
  readonly #named = new Set<string>();
  /** Networks of blocks that this node does not own, or that may have lost the names of their owners. */
  readonly #others = new Set<string>();

  constructor(nodeName: string) {
    this.#nodeName = nodeName;
  }

  addBlock({ spec }: IPAMBlock): void {
    for (const { handle_id: handleID } of spec.attributes)
      if (handleID !== undefined) this.#named.add(withoutTail(handleID));
    const isSound = damageOf(spec).length === 0;
    if (!isSound || spec.affinity !== hostAffinity(this.#nodeName)) this.#others.add(spec.cidr);
  }

  /**
   * Whether no block has an address of the handle, and this node is to judge that: each block that the handle counts is its
   * own, or gone. A handle names no node, but who counts addresses in a block is its owner, or a borrower who is about to.
   *
   * @param unreadable names of blocks that are there, and may name any handle
   */
  isOrphan({ spec }: IPAMHandle, unreadable: ReadonlySet<string>): boolean {
    if (spec.deleted || this.#named.has(withoutTail(spec.handleID))) return false;
    return !Object.keys(spec.block).some((cidr) => this.#others.has(cidr) || unreadable.has(blockNameOf(cidr)));
  }
}

/**
 * Deletes handles of this node that hold nothing: what is left when an ADD's first write lands after all is over, or a
 * release dies between its two. They cost nothing but a finding in `ipam check`, so all handles are read a few times a day
 * only; what is found must be the same ten minutes later.
 */
export class OrphanHandles {
  readonly #options: OrphanHandlesOptions;
  #suspects: readonly (OrphanHandle & { readonly sinceMs: number })[] = [];

  constructor(options: OrphanHandlesOptions) {
    this.#options = options;
  }

  /** Notes them. @param census of all blocks, read before */
  async look(census: HandleCensus, signal: AbortSignal): Promise<void> {
    const { cni, blocks } = this.#options;
    const sinceMs = cni.clock.nowMs();
    const suspects: (OrphanHandle & { readonly sinceMs: number })[] = [];
    for await (const handle of blocks.handles(signal)) {
      const { name, resourceVersion = "" } = handle.metadata;
      if (census.isOrphan(handle, blocks.unreadable()))
        suspects.push({ name, handleID: handle.spec.handleID, resourceVersion, sinceMs });
    }
    // A record is there before its handle is, and goes after it.
    const known = suspects.length === 0 ? new Set<string>() : await knownHandles(cni);
    this.#suspects = suspects.filter(({ handleID }) => !known.has(handleID));
  }

  /** Deletes those that were noted long enough ago. @returns how many are gone */
  async free(signal: AbortSignal): Promise<number> {
    const { cni, deleteHandle, isDryRun } = this.#options;
    const untilMs = cni.clock.nowMs() - GRACE_MS;
    const due = this.#suspects.filter(({ sinceMs }) => sinceMs <= untilMs);
    this.#suspects = this.#suspects.filter(({ sinceMs }) => sinceMs > untilMs);
    let count = 0;
    for (const orphan of due) {
      signal.throwIfAborted();
      const what = isDryRun ? "Handle without addresses would be deleted" : "Handle without addresses is deleted";
      try {
        if (!isDryRun && !(await deleteHandle(orphan))) continue;
        cni.log.info({ op: "collect", handleID: orphan.handleID }, what);
        if (!isDryRun) count++;
      } catch (err) {
        cni.log.warn({ op: "collect", handleID: orphan.handleID, err }, "Handle without addresses cannot be deleted");
      }
    }
    return count;
  }

  /** What was seen says nothing any more. */
  forget(): void {
    this.#suspects = [];
  }
}
