// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { IPAMBlock } from "../crds/ipam-block.ts";
import { blockName, handleName } from "../crds/names.ts";
import { hostAffinity, pendingAffinity, withState } from "../ipam/affinity.ts";
import {
  assign,
  isEmptyBlock,
  newBlock,
  nextRevision,
  ordinalsOfHandle,
  release,
  withoutAffinity,
} from "../ipam/block.ts";
import { podAttributes } from "../ipam/gc/fake-cluster.ts";
import { addToBlocks, newHandle, withBlocks } from "../ipam/handle.ts";
import type { IPAMStore } from "../ipam/ports.ts";
import { blockOf, type CIDR, formatCIDR, ipAt, parseCIDR } from "../net/cidr.ts";
import { formatIP } from "../net/ip.ts";

/** Decides who goes next, so that a seed is one interleaving of all requests. */
export class Scheduler {
  readonly random: () => number;
  readonly #ready: (() => void)[] = [];

  constructor(seed: number) {
    let state = seed >>> 0;
    // mulberry32
    this.random = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  pause(): Promise<void> {
    return new Promise((resolve) => this.#ready.push(resolve));
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items[Math.floor(this.random() * items.length)];
  }

  /** Runs until the work is done. Rejects when everybody waits for nobody. */
  async run(work: Promise<unknown>, afterEach: () => void): Promise<void> {
    let isDone = false;
    const finished = work.finally(() => {
      isDone = true;
    });
    finished.catch(() => {});
    for (let idle = 0; !isDone; ) {
      const [next] = this.#ready.splice(Math.floor(this.random() * this.#ready.length), 1);
      if (next === undefined && ++idle > 50) throw new Error("Everybody waits: a request hangs");
      if (next !== undefined) idle = 0;
      next?.();
      await turn();
      afterEach();
    }
    await finished;
  }
}

/** Thrown into a process that dies; whatever it was doing stays half done. */
export class Died extends Error {}

/**
 * A plugin that follows calico-interop 2 to the letter and to nothing else: one address at a time, handle, block, no
 * records, no undo. `store` throws `Died` when its process does.
 */
export class NaivePlugin {
  readonly #store: IPAMStore;
  readonly #node: string;
  readonly #pool: { readonly cidr: CIDR; readonly blockSize: number };
  readonly #nowNs: () => bigint;

  constructor(store: IPAMStore, node: string, pool: { cidr: CIDR; blockSize: number }, nowNs: () => bigint) {
    this.#store = store;
    this.#node = node;
    this.#pool = pool;
    this.#nowNs = nowNs;
  }

  /** @returns the address, or undefined when there is none or the datastore fails. */
  async add(handleID: string, pod: string): Promise<{ ip: string; block: string; sequenceNumber: bigint } | undefined> {
    for (let attempt = 0; attempt < 8; attempt++) {
      const block = await this.#findBlock();
      if (block === undefined) return undefined;
      const key = block.spec.cidr;
      if (!(await this.#count(handleID, key, 1))) return undefined;
      const assigned = assign(block.spec, { handleID, attributes: podAttributes(this.#node, pod), count: 1 });
      const outcome = await this.#store.update("block", { ...block, spec: nextRevision(assigned.block) });
      const [ordinal] = assigned.ordinals;
      if (outcome.kind === "ok" && ordinal !== undefined) {
        const ip = formatIP(ipAt(parseCIDR(key), ordinal));
        return { ip, block: key, sequenceNumber: assigned.sequenceNumber };
      }
      // Without an answer nobody knows; the handle must go on counting.
      if (outcome.kind === "unknown") return undefined;
      await this.#count(handleID, key, -1);
    }
    return undefined;
  }

  async del(handleID: string): Promise<void> {
    const handle = await this.#store.get("handle", handleName(handleID));
    for (const key of Object.keys(handle?.spec.block ?? {})) {
      for (let attempt = 0; attempt < 8; attempt++) {
        const block = await this.#store.get("block", blockName(parseCIDR(key)));
        const ordinals = block === undefined ? [] : ordinalsOfHandle(block.spec, handleID);
        if (block === undefined || ordinals.length === 0) break;
        const spec = nextRevision(release(block.spec, ordinals));
        const isDead = spec.affinity === undefined && isEmptyBlock(spec);
        const outcome = await (isDead
          ? this.#store.delete("block", block)
          : this.#store.update("block", { ...block, spec }));
        if (outcome.kind === "conflict" || outcome.kind === "notFound") continue;
        if (outcome.kind === "ok") await this.#count(handleID, key, -ordinals.length);
        break;
      }
    }
  }

  /** The unclaim of calico-interop 2.1, as when Calico steals or gives up a block. */
  async unclaim(cidr: string): Promise<void> {
    const affinity = await this.#store.get("affinity", pendingAffinity(this.#node, parseCIDR(cidr)).metadata.name);
    const block = await this.#store.get("block", blockName(parseCIDR(cidr)));
    if (affinity === undefined || block?.spec.affinity !== hostAffinity(this.#node) || !isEmptyBlock(block.spec))
      return;
    const marked = await this.#store.update("affinity", withState(affinity, "pendingDeletion"));
    if (marked.kind !== "ok") return;
    const outcome = await this.#store.delete("block", block);
    if (outcome.kind === "ok") await this.#store.delete("affinity", marked.object);
  }

  /** Leaves the block to its pods, without an owner. */
  async abandon(cidr: string): Promise<void> {
    const block = await this.#store.get("block", blockName(parseCIDR(cidr)));
    if (block === undefined) return;
    await this.#store.update("block", { ...block, spec: nextRevision(withoutAffinity(block.spec)) });
  }

  async #findBlock(): Promise<IPAMBlock | undefined> {
    const all = (await Array.fromAsync(this.#store.pages("block"))).flat();
    const own = all.filter(({ spec }) => spec.affinity === hostAffinity(this.#node) && !spec.deleted);
    const roomy = own.find(({ spec }) => spec.unallocated.length > 0);
    if (roomy !== undefined) return await this.#confirmed(roomy);
    const taken = new Set(all.map(({ spec }) => spec.cidr));
    const { cidr, blockSize } = this.#pool;
    for (let at = 0; at < 2 ** (blockSize - cidr.prefixLength); at++) {
      const candidate = blockOf(ipAt(cidr, at * 2 ** (32 - blockSize)), blockSize);
      if (!taken.has(formatCIDR(candidate))) return await this.#claim(candidate);
    }
    return undefined;
  }

  /** A claim that is not confirmed is made anew, which makes a concurrent unclaim lose. */
  async #confirmed(block: IPAMBlock): Promise<IPAMBlock | undefined> {
    const cidr = parseCIDR(block.spec.cidr);
    const affinity = await this.#pending(cidr);
    if (affinity === undefined || affinity.spec.state === "confirmed") return affinity && block;
    const touched = await this.#store.update("block", { ...block, spec: nextRevision(block.spec) });
    if (touched.kind !== "ok") return undefined;
    await this.#store.update("affinity", withState(affinity, "confirmed"));
    return touched.object;
  }

  async #claim(cidr: CIDR): Promise<IPAMBlock | undefined> {
    const affinity = await this.#pending(cidr);
    if (affinity === undefined) return undefined;
    const ns = this.#nowNs();
    const spec = newBlock(cidr, hostAffinity(this.#node), { ms: Number(ns / 1_000_000n), ns });
    const created = await this.#store.create("block", {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "IPAMBlock",
      metadata: { name: blockName(cidr) },
      spec,
    });
    if (created.kind === "exists") await this.#store.delete("affinity", affinity);
    if (created.kind !== "ok") return undefined;
    await this.#store.update("affinity", withState(affinity, "confirmed"));
    return created.object;
  }

  async #pending(cidr: CIDR): Promise<BlockAffinity | undefined> {
    const wanted = pendingAffinity(this.#node, cidr);
    const found = await this.#store.get("affinity", wanted.metadata.name);
    if (found?.spec.state === "confirmed") return found;
    const outcome = await (found === undefined
      ? this.#store.create("affinity", wanted)
      : this.#store.update("affinity", withState(found, "pending")));
    return outcome.kind === "ok" ? outcome.object : undefined;
  }

  async #count(handleID: string, key: string, by: number): Promise<boolean> {
    for (let attempt = 0; attempt < 8; attempt++) {
      const handle = await this.#store.get("handle", handleName(handleID));
      const next = addToBlocks(handle?.spec.block ?? {}, [key], by);
      if (handle === undefined && by < 0) return true;
      const outcome = await (handle === undefined
        ? this.#store.create("handle", newHandle(handleID, next))
        : Object.keys(next).length === 0
          ? this.#store.delete("handle", handle)
          : this.#store.update("handle", withBlocks(handle, next)));
      if (outcome.kind === "ok") return true;
      if (outcome.kind === "unknown" || outcome.kind === "refused") return false;
    }
    return false;
  }
}
