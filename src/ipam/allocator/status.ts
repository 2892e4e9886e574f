// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock, IPAMBlockStatus } from "../../crds/ipam-block.ts";
import type { Clock } from "../../lib/clock.ts";
import { formatCIDR } from "../../net/cidr.ts";
import { nodeOfAffinity } from "../affinity.ts";
import { borrowedCount, freeCount } from "../block.ts";
import type { IPAMStore } from "../ports.ts";
import type { BlockCommitter } from "./group-commit.ts";

/** A block's status is written at most this often. Source: design decision 12. */
const INTERVAL_MS = 5_000;
/** And not right behind the block's write, when more writes are likely to come. */
const QUIET_MS = 500;

export interface StatusTools {
  readonly store: IPAMStore;
  readonly clock: Clock;
  readonly nodeName: string;
  readonly isEnabled: boolean;
  readonly onBackgroundError: (error: unknown) => void;
}

/** What an auditor's `kubectl get ipamblocks` counts. */
export function blockStatus(block: IPAMBlock, nodeName: string): IPAMBlockStatus {
  const { spec } = block;
  const free = freeCount(spec);
  const node = nodeOfAffinity(spec.affinity);
  const used = spec.allocations.length - free;
  return { ...(node !== undefined && { node }), used, free, borrowed: borrowedCount(spec, nodeName) };
}

/**
 * Fills the status of this node's blocks, lazily and never in anybody's way: the write takes the place of a block write
 * when none waits, since it moves the block's resourceVersion.
 */
export class BlockStatusWriter {
  readonly #tools: StatusTools;
  readonly #stop = new AbortController();
  readonly #due = new Set<BlockCommitter>();
  readonly #writtenAtMs = new Map<BlockCommitter, number>();
  #isSupported: boolean;

  constructor(tools: StatusTools) {
    this.#tools = tools;
    this.#isSupported = tools.isEnabled;
  }

  /** Says that a block has changed. */
  touch(committer: BlockCommitter): void {
    if (!this.#isSupported || this.#due.has(committer) || this.#stop.signal.aborted) return;
    this.#due.add(committer);
    const nextMs = (this.#writtenAtMs.get(committer) ?? 0) + INTERVAL_MS;
    const waitMs = Math.max(QUIET_MS, nextMs - this.#tools.clock.nowMs());
    this.#tools.clock.sleep(waitMs, this.#stop.signal).then(
      () => committer.whenIdle(() => this.#write(committer)),
      () => this.#due.delete(committer),
    );
  }

  current(committers: Iterable<BlockCommitter>): ReadonlyMap<string, IPAMBlockStatus> {
    const statuses = new Map<string, IPAMBlockStatus>();
    for (const { isOwn, block, cidr } of committers)
      if (isOwn && block) statuses.set(formatCIDR(cidr), blockStatus(block, this.#tools.nodeName));
    return statuses;
  }

  close(): void {
    this.#stop.abort();
  }

  /** Never rejects. Runs while no other write of the block does. */
  async #write(committer: BlockCommitter): Promise<void> {
    const { store, nodeName, clock } = this.#tools;
    this.#due.delete(committer);
    const { block, isOwn } = committer;
    if (!isOwn || block === undefined || !this.#isSupported) return;
    const status = blockStatus(block, nodeName);
    if (isSameStatus(block.status, status)) return;
    this.#writtenAtMs.set(committer, clock.nowMs());
    const outcome = await store.updateBlockStatus(block, status);
    if (outcome.kind === "ok") committer.adopt(outcome.object);
    else if (outcome.kind === "unsupported") this.#isSupported = false;
    else {
      // Whatever it was, the block is to be read again before it is written.
      committer.forget();
      if (outcome.kind === "conflict") await this.#readAgain(committer);
      else if (outcome.kind !== "notFound") this.#tools.onBackgroundError(outcome.error);
    }
  }

  /** A peer has written the block. Perhaps nobody here needs it for long, and its status would be old all the while. */
  async #readAgain(committer: BlockCommitter): Promise<void> {
    try {
      await committer.refresh();
      this.touch(committer);
    } catch (error) {
      this.#tools.onBackgroundError(error);
    }
  }
}

function isSameStatus(a: IPAMBlockStatus | undefined, b: IPAMBlockStatus): boolean {
  if (a === undefined) return false;
  return a.node === b.node && a.used === b.used && a.free === b.free && a.borrowed === b.borrowed;
}
