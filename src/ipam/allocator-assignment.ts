// SPDX-License-Identifier: Apache-2.0
import { cidrFamily, formatCIDR, ipAt, ordinalOf } from "../net/cidr.ts";
import type { Family } from "../net/ip.ts";
import { hostAffinity } from "./affinity.ts";
import { allOf } from "./allocator-attempts.ts";
import type { HandleWriter } from "./allocator-handles.ts";
import type { BlockSupply } from "./allocator-supply.ts";
import { IPAMError } from "./errors.ts";
import type { BlockCommitter } from "./group-commit.ts";
import { addToBlocks } from "./handle.ts";
import type { Allocation, AssignRequest } from "./types.ts";

const MAX_MOVES = 100;

/** One ADD: every family or none. Handle first, then the blocks; undone in the other order. */
export class Assignment {
  readonly #supply: BlockSupply;
  readonly #handles: HandleWriter;
  readonly #request: AssignRequest;
  readonly #nodeName: string;
  readonly #signal: AbortSignal | undefined;
  readonly #done = new Map<Family, Allocation>();
  /** Blocks in which the handle's count is one ahead because of us. */
  readonly #counted = new Set<string>();
  /** Blocks that may hold an address which we cannot name, or whose count nobody knows: the count must stay. */
  readonly #uncertain = new Set<string>();

  constructor(
    supply: BlockSupply,
    handles: HandleWriter,
    request: AssignRequest,
    nodeName: string,
    signal: AbortSignal | undefined,
  ) {
    this.#supply = supply;
    this.#handles = handles;
    this.#request = request;
    this.#nodeName = nodeName;
    this.#signal = signal;
  }

  async run(): Promise<readonly Allocation[]> {
    try {
      for (let move = 0; move < MAX_MOVES; move++) {
        const missing = this.#request.families.filter((family) => !this.#done.has(family));
        if (missing.length === 0) break;
        await this.#round(missing);
      }
      this.#signal?.throwIfAborted();
      return this.#request.families.map((family) => this.#done.get(family) ?? this.#gaveUp(family));
    } catch (error) {
      throw await this.#undo(error);
    }
  }

  async #round(missing: readonly Family[]): Promise<void> {
    const blocks = await this.#takeAll(missing);
    let unsubmitted = blocks;
    try {
      const keys = new Set(blocks.map((block) => formatCIDR(block.cidr)));
      await this.#count(keys);
      this.#signal?.throwIfAborted();
      unsubmitted = [];
      await allOf(blocks.map((block) => this.#assignFrom(block)));
    } finally {
      for (const block of unsubmitted) block.unreserve();
    }
  }

  async #takeAll(families: readonly Family[]): Promise<readonly BlockCommitter[]> {
    const { pools, namespace } = this.#request;
    const need = { ...(pools && { pools }), ...(namespace !== undefined && { namespace }) };
    const taken: BlockCommitter[] = [];
    try {
      await allOf(
        families.map(async (family) => {
          taken.push(await this.#supply.take({ ...need, family }, this.#signal));
        }),
      );
      return taken;
    } catch (error) {
      for (const block of taken) block.unreserve();
      throw error;
    }
  }

  /** Counts new blocks up and, in the same write, blocks down that turned out to be full or not ours. */
  async #count(keys: ReadonlySet<string>): Promise<void> {
    const held = new Set([...this.#done.values()].map(({ block }) => formatCIDR(block)));
    const left = [...this.#counted].filter((key) => !keys.has(key) && !held.has(key));
    const added = [...keys].filter((key) => !this.#counted.has(key));
    const isFirst = this.#counted.size === 0;
    const { handleID } = this.#request;
    try {
      await this.#handles.change(handleID, (blocks) => addToBlocks(addToBlocks(blocks, added, 1), left, -1), isFirst);
    } catch (error) {
      // Perhaps counted, perhaps not: a count that is too high is harmless, one that is too low loses an address.
      if (mayHold(error)) for (const key of [...added, ...left]) this.#uncertain.add(key);
      throw error;
    }
    for (const key of added) this.#counted.add(key);
    for (const key of left) this.#counted.delete(key);
  }

  async #assignFrom(committer: BlockCommitter): Promise<void> {
    const { handleID, attributes } = this.#request;
    const key = formatCIDR(committer.cidr);
    try {
      const affinity = hostAffinity(this.#nodeName);
      const result = await committer.submit({ kind: "assign", handleID, attributes, affinity }, this.#signal);
      // Full or not ours by now: the next round moves on to another block.
      if (result.kind !== "assigned") return;
      const { cidr } = committer;
      const ip = ipAt(cidr, result.ordinal);
      this.#done.set(cidrFamily(cidr), { ip, handleID, block: cidr, sequenceNumber: result.sequenceNumber });
    } catch (error) {
      if (mayHold(error)) this.#uncertain.add(key);
      throw error;
    }
  }

  /** Gives back what was taken. The error to report: the first one, or a stronger one when not all could be undone. */
  async #undo(error: unknown): Promise<unknown> {
    const { handleID } = this.#request;
    let isClean = this.#uncertain.size === 0;
    for (const { block, ip, sequenceNumber } of this.#done.values()) {
      const which = { ordinals: [{ ordinal: ordinalOf(block, ip), sequenceNumber }] };
      try {
        await this.#supply.committer(block).submit({ kind: "release", handleID, counted: 0, which });
      } catch {
        // The handle keeps its count for this block, so that a later release finds the address.
        this.#uncertain.add(formatCIDR(block));
        isClean = false;
      }
    }
    const keys = [...this.#counted].filter((key) => !this.#uncertain.has(key));
    try {
      if (keys.length > 0) await this.#handles.change(handleID, (blocks) => addToBlocks(blocks, keys, -1));
    } catch {
      isClean = false;
    }
    if (isClean || mayHold(error)) return error;
    const what = `Cannot undo the failed assignment for handle ${handleID}`;
    const step = "release the handle when the API server answers again";
    return new IPAMError("Datastore", `${what}; ${step}`, { cause: error, mayHoldAddresses: true });
  }

  #gaveUp(family: Family): never {
    const { handleID } = this.#request;
    const what = `Cannot assign an IPv${family} address for handle ${handleID}`;
    throw new IPAMError("Contention", `${what}: ${MAX_MOVES} blocks in turn were taken away; try again`);
  }
}

function mayHold(error: unknown): boolean {
  return error instanceof IPAMError && error.mayHoldAddresses;
}
