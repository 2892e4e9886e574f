// SPDX-License-Identifier: Apache-2.0
import { type Affinity, type Block, isTombstone, type NaiveAPI, type NaiveObject } from "./naive-api.ts";
import {
  addressOf,
  affinityName,
  bare,
  blockCIDRs,
  blockOf,
  freed,
  isIn,
  labelsOf,
  nameOf,
  newBlock,
  ordinalOf,
  type Pool,
} from "./naive-block.ts";

/**
 * A second writer of the data model, as literal and naive as calico-interop 2.1 to 2.9 can be read: a handle, a block, one
 * IPv4 address at a time, everything read anew each time. It shares nothing with src/ipam, src/crds and src/kube, so that
 * what both misread alike is small.
 */

const ATTEMPTS = 100;
const BLOCK_LIMIT = 20;

/** Thrown when there is no address to be had: a full pool, a limit, an address that is taken. */
export class NoAddressError extends Error {}

export interface NaiveOptions {
  readonly api: NaiveAPI;
  readonly node: string;
  /** The one pool, IPv4. */
  readonly pool: Pool;
  /** From 0 (included) to 1. */
  readonly random: () => number;
  /** Age at which an empty block of another node may be taken. Calico waits a minute. Units: milliseconds. */
  readonly stealAgeMs: number;
}

/** What the naive writer did that is rare, so that a test can tell that it happened at all. */
export interface NaiveTally {
  conflicts: number;
  borrowed: number;
  stolen: number;
  claimed: number;
  unclaimed: number;
  reconfirmed: number;
}

export class NaiveWriter {
  readonly tally: NaiveTally = { conflicts: 0, borrowed: 0, stolen: 0, claimed: 0, unclaimed: 0, reconfirmed: 0 };
  readonly #options: NaiveOptions;

  constructor(options: NaiveOptions) {
    this.#options = options;
  }

  get node(): string {
    return this.#options.node;
  }

  /** AutoAssign of one address. Source: calico-interop 2.2. @throws NoAddressError */
  async autoAssign(handleID: string): Promise<string> {
    const affinities = await this.#ownAffinities();
    for (const affinity of affinities) {
      const ip = await this.#assignInOwn(affinity.spec.cidr, handleID);
      if (ip !== undefined) return ip;
    }
    let owned = affinities.length;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (owned >= BLOCK_LIMIT) throw new NoAddressError("block limit");
      const cidr = await this.#findUsableBlock();
      if (cidr === undefined) return await this.#borrow(handleID);
      const ip = await this.#assignInOwn(cidr, handleID);
      if (ip !== undefined) return ip;
      owned = (await this.#ownAffinities()).length;
    }
    throw new Error(`${this.#options.node} found no block in ${ATTEMPTS} attempts`);
  }

  /** AssignIP. Source: calico-interop 2.5. @throws NoAddressError when it is taken */
  async assignIP(ip: string, handleID: string): Promise<void> {
    const cidr = blockOf(ip, this.#options.pool.blockSize);
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const block = await this.#options.api.get("ipamblocks", nameOf(cidr));
      if (block === undefined) {
        await this.#loadFromAffinity(cidr);
        continue;
      }
      const ordinal = ordinalOf(cidr, ip);
      if (block.spec.allocations[ordinal] !== null) throw new NoAddressError(`${ip} is taken`);
      if (await this.#assignFrom(block, ordinal, handleID)) return;
    }
    throw new Error(`${ip} could not be assigned in ${ATTEMPTS} attempts`);
  }

  /** ReleaseByHandle: false when there is no such handle. Source: calico-interop 2.7. */
  async releaseByHandle(handleID: string): Promise<boolean> {
    const handle = await this.#options.api.get("ipamhandles", handleID.toLowerCase());
    if (handle === undefined) return false;
    for (const cidr of Object.keys(handle.spec.block)) {
      const ordinalsOf = ({ allocations, attributes }: Block): number[] =>
        [...allocations.keys()].filter((o) => attributes[allocations[o] ?? -1]?.handle_id === handleID);
      const count = await this.#releaseFrom(cidr, ordinalsOf);
      if (count > 0) await this.#decrement(handleID, cidr, count);
    }
    return true;
  }

  /** ReleaseIPs of one address, with its handle and sequence number. Source: calico-interop 2.6. */
  async releaseIP(ip: string, handleID: string): Promise<void> {
    const cidr = blockOf(ip, this.#options.pool.blockSize);
    const ordinal = ordinalOf(cidr, ip);
    const block = await this.#options.api.get("ipamblocks", nameOf(cidr));
    const sequence = block?.spec.sequenceNumberForAllocation[ordinal];
    const count = await this.#releaseFrom(cidr, ({ allocations, attributes, sequenceNumberForAllocation }) => {
      const isIt = BigInt(sequenceNumberForAllocation[ordinal] ?? 0) === BigInt(sequence ?? 0);
      if (!isIt) throw new Error(`${ip} has another sequence number now`);
      const index = allocations[ordinal];
      if (index === null || index === undefined) return [];
      if (attributes[index]?.handle_id !== handleID) throw new Error(`${ip} has another handle now`);
      return [ordinal];
    });
    if (count > 0) await this.#decrement(handleID, cidr, count);
  }

  /** ReleaseHostAffinities with mustBeEmpty: gives up every empty block of the node. Source: calico-interop 2.9. */
  async releaseAffinities(): Promise<void> {
    for (const { spec } of await this.#ownAffinities()) await this.#unclaim(this.#options.node, spec.cidr);
  }

  async #ownAffinities(): Promise<readonly NaiveObject<Affinity>[]> {
    const { api, node } = this.#options;
    const { items } = await api.list("blockaffinities", labelsOf(node));
    const own = items.filter(
      ({ spec }) => spec.node === node && !isTombstone(spec) && isIn(this.#options.pool.cidr, spec.cidr),
    );
    return own.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  /** Undefined when the block is not ours, or full. */
  async #assignInOwn(cidr: string, handleID: string): Promise<string | undefined> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const block = await this.#loadFromAffinity(cidr);
      const ordinal = block?.spec.unallocated[0];
      if (block === undefined || ordinal === undefined) return undefined;
      if (await this.#assignFrom(block, ordinal, handleID)) return addressOf(cidr, ordinal);
    }
    throw new Error(`Block ${cidr} could not be written in ${ATTEMPTS} attempts`);
  }

  /** Handle, then block; the handle again when the block was somebody else's. Source: calico-interop 2.1. */
  async #assignFrom({ metadata, spec }: NaiveObject<Block>, ordinal: number, handleID: string): Promise<boolean> {
    const { api, node } = this.#options;
    await this.#increment(handleID, spec.cidr);
    const secondary = { node, pod: handleID, namespace: "default", timestamp: "2026-08-22 10:00:00.123 +0000 UTC" };
    const record = JSON.stringify({ handle_id: handleID, secondary });
    const attributes = [...spec.attributes];
    let index = attributes.findIndex((attribute) => JSON.stringify(attribute) === record);
    if (index < 0) index = attributes.push({ handle_id: handleID, secondary }) - 1;
    const written = await api.put("ipamblocks", {
      metadata: bare({ metadata }),
      spec: {
        ...spec,
        attributes,
        allocations: spec.allocations.with(ordinal, index),
        unallocated: spec.unallocated.filter((free) => free !== ordinal),
        sequenceNumber: BigInt(spec.sequenceNumber) + 1n,
        sequenceNumberForAllocation: { ...spec.sequenceNumberForAllocation, [ordinal]: spec.sequenceNumber },
      },
    });
    if (written !== undefined) return true;
    this.tally.conflicts++;
    await this.#decrement(handleID, spec.cidr, 1);
    return false;
  }

  /** Frees ordinals in one write; no block and nothing to free are success, too. */
  async #releaseFrom(cidr: string, ordinalsOf: (block: Block) => readonly number[]): Promise<number> {
    const { api } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const block = await api.get("ipamblocks", nameOf(cidr));
      if (block === undefined) return 0;
      const ordinals = ordinalsOf(block.spec);
      if (ordinals.length === 0) return 0;
      const spec = freed(block.spec, ordinals);
      const isDone =
        spec.affinity === undefined && spec.allocations.every((index) => index === null)
          ? await api.delete("ipamblocks", block)
          : (await api.put("ipamblocks", { metadata: bare(block), spec })) !== undefined;
      if (isDone) return ordinals.length;
      this.tally.conflicts++;
    }
    throw new Error(`Nothing could be released from ${cidr} in ${ATTEMPTS} attempts`);
  }

  async #increment(handleID: string, cidr: string): Promise<void> {
    const { api } = this.#options;
    const name = handleID.toLowerCase();
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const handle = await api.get("ipamhandles", name);
      const block = handle?.spec.block ?? {};
      const spec = { handleID, block: { ...block, [cidr]: (block[cidr] ?? 0) + 1 }, deleted: false };
      const written =
        handle === undefined
          ? await api.create("ipamhandles", { name }, spec)
          : await api.put("ipamhandles", { metadata: bare(handle), spec });
      if (written !== undefined) return;
    }
    throw new Error(`Handle ${handleID} could not be written in ${ATTEMPTS} attempts`);
  }

  async #decrement(handleID: string, cidr: string, count: number): Promise<void> {
    const { api } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const handle = await api.get("ipamhandles", handleID.toLowerCase());
      const left = (handle?.spec.block[cidr] ?? 0) - count;
      if (handle === undefined || left < 0) throw new Error(`Handle ${handleID} counts too few in ${cidr}`);
      const { [cidr]: _, ...others } = handle.spec.block;
      const block = left === 0 ? others : { ...others, [cidr]: left };
      const spec = { ...handle.spec, block };
      const isDone =
        Object.keys(block).length === 0
          ? await api.delete("ipamhandles", { ...handle, spec })
          : (await api.put("ipamhandles", { metadata: bare(handle), spec })) !== undefined;
      if (isDone) return;
    }
    throw new Error(`Handle ${handleID} could not be written in ${ATTEMPTS} attempts`);
  }

  /** The block, claimed where nobody has it; undefined when it is not this node's. Source: calico-interop 2.3. */
  async #loadFromAffinity(cidr: string): Promise<NaiveObject<Block> | undefined> {
    const { api, node } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const affinity = await this.#pendingAffinity(cidr);
      if (affinity === undefined) continue;
      let block = await api.get("ipamblocks", nameOf(cidr));
      if (block === undefined) {
        if ((await this.#setState(affinity, "pending")) === undefined) continue;
        block = await api.create("ipamblocks", { name: nameOf(cidr) }, newBlock(cidr, node));
        // Somebody else's, or a tombstone: the next look tells.
        if (block === undefined) continue;
        this.tally.claimed++;
        await this.#confirm(cidr);
        return block;
      }
      if (block.spec.affinity !== `host:${node}`) {
        const current = await api.get("blockaffinities", affinityName(node, cidr));
        if (current !== undefined && !(await api.delete("blockaffinities", current))) continue;
        return undefined;
      }
      if (affinity.spec.state === "confirmed") return block;
      // The write of the block is what makes a concurrent unclaim fail.
      const spec = { ...block.spec, sequenceNumber: BigInt(block.spec.sequenceNumber) + 1n };
      const written = await api.put("ipamblocks", { metadata: bare(block), spec });
      if (written === undefined) continue;
      this.tally.reconfirmed++;
      await this.#confirm(cidr);
      return written;
    }
    throw new Error(`Block ${cidr} could not be claimed in ${ATTEMPTS} attempts`);
  }

  /** The node's affinity, confirmed or made pending; undefined when somebody was faster. */
  async #pendingAffinity(cidr: string): Promise<NaiveObject<Affinity> | undefined> {
    const { api, node } = this.#options;
    const name = affinityName(node, cidr);
    const found = await api.get("blockaffinities", name);
    if (found?.spec.state === "confirmed") return found;
    if (found !== undefined) return await this.#setState(found, "pending");
    const spec = { state: "pending", node, type: "host", cidr, deleted: "false" };
    return await api.create("blockaffinities", { name, labels: labelsOf(node) }, spec);
  }

  async #confirm(cidr: string): Promise<void> {
    const { api, node } = this.#options;
    const affinity = await api.get("blockaffinities", affinityName(node, cidr));
    if (affinity !== undefined && affinity.spec.state !== "confirmed") await this.#setState(affinity, "confirmed");
  }

  async #setState(affinity: NaiveObject<Affinity>, state: string): Promise<NaiveObject<Affinity> | undefined> {
    const metadata = { ...bare(affinity), labels: labelsOf(affinity.spec.node) };
    return await this.#options.api.put("blockaffinities", { metadata, spec: { ...affinity.spec, state } });
  }

  /** The CIDR of a block that this node can claim, emptied of its owner where need be. Source: calico-interop 2.4. */
  async #findUsableBlock(): Promise<string | undefined> {
    const { api, node, stealAgeMs } = this.#options;
    const blocks = new Map((await api.list("ipamblocks")).items.map((block) => [block.spec.cidr, block]));
    const empty: NaiveObject<Block>[] = [];
    for (const cidr of this.#candidates()) {
      const block = blocks.get(cidr);
      if (block === undefined) return cidr;
      if (isTombstone(block.spec)) continue;
      const { affinity, unallocated, allocations } = block.spec;
      if (affinity === `host:${node}` && unallocated.length > 0) return cidr;
      if (allocations.every((index) => index === null)) empty.push(block);
    }
    for (const { spec } of empty) {
      const ageMs = Date.now() - Date.parse(spec.affinityClaimTime ?? "1970-01-01T00:00:00Z");
      const owner = spec.affinity?.replace(/^host:/, "");
      if (ageMs < stealAgeMs || owner === undefined) continue;
      if (!(await this.#unclaim(owner, spec.cidr, BigInt(spec.sequenceNumber)))) continue;
      this.tally.stolen++;
      return spec.cidr;
    }
    return undefined;
  }

  /** Steps 2.2.6: from any block with room, whoever owns it. */
  async #borrow(handleID: string): Promise<string> {
    for (const cidr of this.#candidates()) {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const block = await this.#options.api.get("ipamblocks", nameOf(cidr));
        const ordinal = block?.spec.unallocated[0];
        if (block === undefined || ordinal === undefined) break;
        if (!(await this.#assignFrom(block, ordinal, handleID))) continue;
        if (block.spec.affinity !== `host:${this.#options.node}`) this.tally.borrowed++;
        return addressOf(cidr, ordinal);
      }
    }
    throw new NoAddressError("the pool is full");
  }

  /** Takes an empty block from its owner. False: it is not empty, not the owner's, or has changed. Source: 2.1, 2.9. */
  async #unclaim(owner: string, cidr: string, sequence?: bigint): Promise<boolean> {
    const { api } = this.#options;
    const affinity = await api.get("blockaffinities", affinityName(owner, cidr));
    const block = await api.get("ipamblocks", nameOf(cidr));
    if (affinity === undefined) return false;
    if (block !== undefined) {
      const { spec } = block;
      if (sequence !== undefined && BigInt(spec.sequenceNumber) !== sequence) return false;
      if (spec.affinity === `host:${owner}` && spec.allocations.some((index) => index !== null)) return false;
    }
    const marked = await this.#setState(affinity, "pendingDeletion");
    if (marked === undefined) return false;
    if (block?.spec.affinity === `host:${owner}` && !(await api.delete("ipamblocks", block))) return false;
    const isDone = await api.delete("blockaffinities", marked);
    if (isDone) this.tally.unclaimed++;
    return isDone;
  }

  /** All blocks of the pool, from one at random on. */
  #candidates(): readonly string[] {
    const all = blockCIDRs(this.#options.pool);
    const start = Math.floor(this.#options.random() * all.length);
    return [...all.slice(start), ...all.slice(0, start)];
  }
}
