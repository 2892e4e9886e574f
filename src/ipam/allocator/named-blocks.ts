// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { blockName } from "../../crds/names.ts";
import { blockOf, type CIDR, formatCIDR, hostCIDR } from "../../net/cidr.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import { hostAffinity } from "../affinity.ts";
import type { KnownBlocks } from "../candidates.ts";
import { IPAMError, seeAddress } from "../errors.ts";
import type { BlockTable } from "./block-table.ts";
import { claimBlock, loadAffineBlock } from "./claims.ts";
import type { BlockCommitter } from "./group-commit.ts";
import type { BlockSearch, SearchTools } from "./search.ts";
import { mayMove, takeOverBlock } from "./takeover.ts";

/** Finds the blocks of addresses that are asked for by name. */
export class NamedBlocks {
  readonly #tools: SearchTools;
  readonly #table: BlockTable;
  readonly #search: BlockSearch;
  /**
   * Looks that are under way. Requests for addresses of one block share one: were each to read and to claim by itself, they
   * could go on for ever in step, each finding another one busy.
   */
  readonly #looks = new Map<string, Promise<BlockCommitter | undefined>>();

  constructor(tools: SearchTools, table: BlockTable, search: BlockSearch) {
    this.#tools = tools;
    this.#table = table;
    this.#search = search;
  }

  /**
   * The block that holds an address, ours or not; claimed for this node when nobody has it. Undefined when it changed
   * hands meanwhile: try again. Errors: IPAMError `Overlap`, `BrokenObject`, `Datastore`.
   */
  async holderOf(ip: IP, pool: EffectiveIPPool): Promise<BlockCommitter | undefined> {
    const known = await this.#search.taken();
    // A block of another size than the pool's has the address as well as any.
    const cidr = known.overlap(hostCIDR(ip)) ?? blockOf(ip, pool.blockSize);
    const committer = this.#table.committer(cidr);
    if (committer.isOwn && committer.block !== undefined) return committer;
    const key = formatCIDR(cidr);
    const look =
      this.#looks.get(key) ??
      this.#table
        .alone(cidr, () => this.#hold(ip, cidr, pool, known))
        .finally(() => {
          this.#looks.delete(key);
        });
    this.#looks.set(key, look);
    return (await look) ? committer : undefined;
  }

  async #hold(ip: IP, cidr: CIDR, pool: EffectiveIPPool, known: KnownBlocks): Promise<BlockCommitter | undefined> {
    const { store, nodeName } = this.#tools;
    const committer = this.#table.committer(cidr);
    const owned = (isOwned: boolean): BlockCommitter | undefined => (isOwned ? committer : undefined);
    const block = await store.get("block", blockName(cidr));
    if (block?.spec.affinity === hostAffinity(nodeName))
      return owned(this.#table.adoptOwn(cidr, await loadAffineBlock(this.#tools, cidr)));
    if (block === undefined) {
      refuseOverlap(ip, cidr, pool, known.overlap(cidr));
      return owned(this.#table.adoptOwn(cidr, await claimBlock(this.#tools, cidr)));
    }
    const { affinity, sequenceNumber } = block.spec;
    const isMoved =
      mayMove(block) &&
      this.#table.adoptOwn(cidr, await takeOverBlock(this.#tools, { cidr, affinity, sequenceNumber }));
    if (!isMoved) committer.adopt(block);
    return committer;
  }
}

function refuseOverlap(ip: IP, cidr: CIDR, pool: EffectiveIPPool, other: CIDR | undefined): void {
  if (other === undefined || formatCIDR(other) === formatCIDR(cidr)) return;
  const what = `Cannot claim block ${formatCIDR(cidr)} of IPPool ${pool.name} for address ${formatIP(ip)}`;
  const step = `ask for another address, or remove the old block, ${seeAddress(other.network)}`;
  throw new IPAMError("Overlap", `${what}: it overlaps block ${formatCIDR(other)}; ${step}`);
}
