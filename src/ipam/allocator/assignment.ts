// SPDX-License-Identifier: Apache-2.0
import { cidrFamily, formatCIDR, ipAt, ordinalOf } from "../../net/cidr.ts";
import { type Family, familyOf, formatIP } from "../../net/ip.ts";
import type { BlockOpResult } from "../batch.ts";
import { IPAMError, seeAddress } from "../errors.ts";
import { heldAddresses } from "../gc/addresses.ts";
import { addToBlocks, type HandleBlocks } from "../handle.ts";
import type { Allocation, AssignRequest } from "../types.ts";
import { allOf } from "./attempts.ts";
import type { BlockCommitter } from "./group-commit.ts";
import type { HandleWriter } from "./handles.ts";
import type { BlockSupply, Grant } from "./supply.ts";

const MAX_MOVES = 100;

/** One ADD: every family or none. Handle first, then the blocks; undone in the other order. */
export class Assignment {
  readonly #supply: BlockSupply;
  readonly #handles: HandleWriter;
  readonly #request: AssignRequest;
  readonly #signal: AbortSignal | undefined;
  readonly #done: Allocation[] = [];
  /** How many each block's count in the handle is ahead because of us. */
  readonly #counted = new Map<string, number>();
  /** Blocks that may hold an address which we cannot name, or whose count nobody knows: the count must stay. */
  readonly #uncertain = new Set<string>();
  /** Blocks that are read again because the address that was asked for seemed to be taken. */
  readonly #reread = new Set<BlockCommitter>();

  constructor(supply: BlockSupply, handles: HandleWriter, request: AssignRequest, signal: AbortSignal | undefined) {
    this.#supply = supply;
    this.#handles = handles;
    this.#request = request;
    this.#signal = signal;
  }

  async run(): Promise<readonly Allocation[]> {
    const { families } = this.#request;
    try {
      for (let move = 0; move < MAX_MOVES; move++) {
        const missing = families.filter((family) => this.#missing(family) > 0);
        if (missing.length === 0) break;
        await this.#round(missing);
      }
      this.#signal?.throwIfAborted();
      return families.flatMap((family) => (this.#missing(family) > 0 ? this.#gaveUp(family) : this.#doneOf(family)));
    } catch (error) {
      throw await this.#undo(error);
    }
  }

  #doneOf(family: Family): readonly Allocation[] {
    return this.#done.filter(({ block }) => cidrFamily(block) === family);
  }

  #missing(family: Family): number {
    const { count = 1, addresses = [] } = this.#request;
    const wanted = addresses.some((ip) => familyOf(ip) === family) ? 1 : count;
    return wanted - this.#doneOf(family).length;
  }

  async #round(missing: readonly Family[]): Promise<void> {
    const grants = await this.#takeAll(missing);
    let unsubmitted = grants;
    try {
      await this.#count(grants);
      this.#signal?.throwIfAborted();
      unsubmitted = [];
      await allOf(grants.map((grant) => this.#assignFrom(grant)));
    } finally {
      for (const { committer, count } of unsubmitted) committer.unreserve(count);
    }
  }

  async #takeAll(families: readonly Family[]): Promise<readonly Grant[]> {
    const taken: Grant[] = [];
    try {
      await allOf(
        families.map(async (family) => {
          taken.push(await this.#take(family));
        }),
      );
      return taken;
    } catch (error) {
      for (const { committer, count } of taken) committer.unreserve(count);
      throw error;
    }
  }

  async #take(family: Family): Promise<Grant> {
    const { pools, namespace, use, addresses = [] } = this.#request;
    const ip = addresses.find((address) => familyOf(address) === family);
    if (ip !== undefined) return await this.#supply.takeNamed(ip, use, this.#signal);
    const need = {
      family,
      ...(pools && { pools }),
      ...(namespace !== undefined && { namespace }),
      ...(use && { use }),
    };
    return await this.#supply.take(need, this.#missing(family), this.#signal);
  }

  /** Counts new blocks up and, in the same write, blocks down that had less than was hoped for. */
  async #count(grants: readonly Grant[]): Promise<void> {
    const wanted = new Map<string, number>();
    const add = (key: string, count: number): unknown => wanted.set(key, (wanted.get(key) ?? 0) + count);
    for (const { block } of this.#done) add(formatCIDR(block), 1);
    for (const { committer, count } of grants) add(formatCIDR(committer.cidr), count);
    const keys = [...new Set([...wanted.keys(), ...this.#counted.keys()])];
    const changes = keys.map((key) => [key, (wanted.get(key) ?? 0) - (this.#counted.get(key) ?? 0)] as const);
    const isFirst = this.#counted.size === 0;
    try {
      await this.#handles.change(this.#request.handleID, (blocks) => changed(blocks, changes), isFirst);
    } catch (error) {
      // Perhaps counted, perhaps not: a count that is too high is harmless, one that is too low loses an address.
      if (mayHold(error)) for (const [key, change] of changes) if (change !== 0) this.#uncertain.add(key);
      throw error;
    }
    for (const key of keys) this.#counted.set(key, wanted.get(key) ?? 0);
  }

  async #assignFrom(grant: Grant): Promise<void> {
    const { handleID, attributes } = this.#request;
    const { committer, count, affinity, ordinal, mayCool = false } = grant;
    const where = { ...(affinity !== undefined && { affinity }), ...(ordinal !== undefined && { ordinal }) };
    try {
      const op = { kind: "assign", handleID, attributes, count, mayCool, ...where } as const;
      const result = await committer.submit(op, this.#signal);
      if (result.kind === "taken") {
        // What is remembered of a block may be old: only one that was just read says who has an address.
        if (this.#reread.has(committer)) throw takenError(grant, result);
        this.#reread.add(committer);
        committer.forget();
        return;
      }
      // Full, not ours by now, or all that is left has just been released: the next round finds another place.
      if (result.kind !== "assigned") return;
      const { cidr: block } = committer;
      const { ordinals, sequenceNumber } = result;
      this.#done.push(...ordinals.map((o) => ({ ip: ipAt(block, o), handleID, block, sequenceNumber })));
    } catch (error) {
      if (mayHold(error)) this.#uncertain.add(formatCIDR(committer.cidr));
      throw error;
    }
  }

  /** Gives back what was taken. The error to report: the first one, or a stronger one when not all could be undone. */
  async #undo(error: unknown): Promise<unknown> {
    const { handleID } = this.#request;
    let isClean = this.#uncertain.size === 0;
    for (const { block, ip, sequenceNumber } of this.#done) {
      const which = { ordinals: [{ ordinal: ordinalOf(block, ip), sequenceNumber }] };
      try {
        await this.#supply.committer(block).submit({ kind: "release", handleID, counted: 0, which });
      } catch {
        // The handle keeps its count for this block, so that a later release finds the address.
        this.#uncertain.add(formatCIDR(block));
        isClean = false;
      }
    }
    const changes = [...this.#counted]
      .filter(([key]) => !this.#uncertain.has(key))
      .map(([key, n]) => [key, -n] as const);
    try {
      if (changes.length > 0) await this.#handles.change(handleID, (blocks) => changed(blocks, changes));
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

function changed(blocks: HandleBlocks, changes: readonly (readonly [string, number])[]): HandleBlocks {
  return changes.reduce((next, [key, change]) => (change === 0 ? next : addToBlocks(next, [key], change)), blocks);
}

function takenError(grant: Grant, { owner }: Extract<BlockOpResult, { kind: "taken" }>): IPAMError {
  const { cidr, block } = grant.committer;
  const { namespace, pod, node } = owner.secondary ?? {};
  const who = pod === undefined ? "" : `, pod ${namespace}/${pod}`;
  const where = node === undefined ? "" : ` on node ${node}`;
  const holder =
    owner.releasedAt !== undefined
      ? `was released at ${owner.releasedAt} and cools down (ipCooldownSeconds of IPAMConfig default)`
      : `is held by handle ${owner.handle_id ?? "(none)"}${who}${where}`;
  const ip = ipAt(cidr, grant.ordinal ?? 0);
  const what = `Address ${formatIP(ip)} of IPPool ${grant.pool}, in block ${formatCIDR(cidr)}, ${holder}`;
  const step = `ask for another one, or ${seeAddress(ip)}`;
  const held = block && heldAddresses(block.spec).find(({ ordinal }) => ordinal === grant.ordinal);
  return new IPAMError("AddressTaken", `${what}; ${step}`, { ...(held && { holder: held }) });
}

function mayHold(error: unknown): boolean {
  return error instanceof IPAMError && error.mayHoldAddresses;
}
