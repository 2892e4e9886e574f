// SPDX-License-Identifier: Apache-2.0
import { fnv1 } from "../../ipam/candidates.ts";
import { ownerOf } from "../../ipam/gc/addresses.ts";
import { sightingKey } from "../../ipam/gc/census.ts";
import { SightingLog } from "../../ipam/gc/sightings.ts";
import type { HeldAddress, OrphanHandle, Owner, Sightings } from "../../ipam/gc/types.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import type { CNI } from "../commands/cni.ts";
import type { PodRef } from "../types.ts";
import { HandleCensus, OrphanHandles } from "./handles.ts";
import type { NodeBlocks } from "./node-blocks.ts";
import { knownHandles, ownAddresses } from "./own.ts";

export interface NodeCollectorOptions {
  readonly cni: CNI;
  readonly blocks: NodeBlocks;
  /** Texts of addresses to which the kernel has a route over one of the node's links: somebody's, whoever's. */
  readonly routed: () => Promise<ReadonlySet<string>>;
  /** Say what would be freed, and free nothing. */
  readonly isDryRun: boolean;
  /** Deletes a handle if it is the same still and no block has an address of it. @returns whether it is gone */
  readonly deleteHandle: (orphan: OrphanHandle) => Promise<boolean>;
  readonly onFreed?: (addresses: number) => void;
  readonly onHandlesDeleted?: (handles: number) => void;
}

/** What is read: this node's blocks, those of the cluster, or these and all handles. */
type Look = "own" | "all" | "handles";

/** Between the two looks that must agree. */
const GRACE_MS = 25_000;
const TICK_MS = 30_000;
/** The first look, so that a node that has just come up has freed what it lost after two, within 60 s. */
const FIRST_MS = 15_000;
/** A look at the blocks each 5 minutes; at all of the cluster's, and its handles, within an hour and then each 6 hours. */
const LOOK_TICKS = 10;
const LOOK_AT_ALL_TICKS = 720;
const FIRST_LOOK_AT_ALL_TICKS = 120;
/** Handles in one request to the allocator. */
const BATCH = 64;

/**
 * Frees the addresses that this node holds for nobody: no attachment record, no running command, no pod, no route. It
 * alone sees the sandboxes, so it also tells the collector of the cluster which addresses are in use although the API
 * server does not know a pod for them.
 *
 * The proof is in the order: an ADD writes its record before it takes an address. So an address that is in a block which
 * was read before the records, and in no record, is nobody's. All else here guards against what others allocate on this
 * node: Calico's plugin writes no records, but its pods are known to the API server and have routes.
 */
export class NodeCollector {
  readonly #options: NodeCollectorOptions;
  #sightings: Sightings = new Map();
  #published: string | undefined;
  readonly #orphans: OrphanHandles;

  constructor(options: NodeCollectorOptions) {
    this.#options = options;
    this.#orphans = new OrphanHandles(options);
  }

  /** Looks and speaks until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { cni } = this.#options;
    // Spread, or nodes that were started together would read everything together for ever.
    const handlesTick = 2 + (fnv1(cni.host.nodeName) % (FIRST_LOOK_AT_ALL_TICKS - 2));
    await cni.clock.sleep(FIRST_MS, signal).catch(() => {});
    for (let tick = 0; !signal.aborted; tick++) {
      await this.#guarded(signal, () => this.speak(signal));
      const since = (tick % LOOK_AT_ALL_TICKS) - handlesTick;
      // Of all blocks always two in a row, which must agree on what this node has borrowed.
      const which = since === 0 ? "handles" : tick < 2 || since === 1 ? "all" : "own";
      if (which !== "own" || tick % LOOK_TICKS === 0) await this.#guarded(signal, () => this.look(which, signal));
      await cni.clock.sleep(TICK_MS, signal).catch(() => {});
    }
  }

  /** One look. @returns how many addresses were freed. Errors: of the API, IPAMError */
  async look(which: Look, signal: AbortSignal): Promise<number> {
    const { blocks, cni, routed, onHandlesDeleted } = this.#options;
    if (!(await blocks.isReady())) {
      this.#sightings = new Map();
      this.#orphans.forget();
      return 0;
    }
    const held: HeldAddress[] = [];
    const census = which === "handles" ? new HandleCensus(cni.host.nodeName) : undefined;
    for await (const block of blocks.read(which === "own" ? "own" : "all", signal)) {
      held.push(...ownAddresses(cni, block));
      census?.addBlock(block);
    }
    if (census !== undefined) await this.#orphans.look(census, signal);
    const deleted = await this.#orphans.free(signal);
    if (deleted > 0) onHandlesDeleted?.(deleted);
    // After the blocks, see above.
    const known = await knownHandles(cni);
    const suspects = held.filter(({ handleID }) => !known.has(handleID));
    const routes = suspects.length === 0 ? new Set<string>() : await routed();
    const log = new SightingLog(this.#sightings, cni.clock.nowMs());
    const leaks: HeldAddress[] = [];
    for (const addresses of Map.groupBy(suspects, ({ handleID }) => handleID).values()) {
      if (addresses.some(({ ip }) => routes.has(formatIP(ip))) || (await this.#hasPod(addresses, signal))) continue;
      const isOld = addresses.map((address) => log.isOld(sightingKey(address), GRACE_MS));
      if (isOld.every(Boolean)) leaks.push(...addresses);
    }
    this.#sightings = log.sightings;
    return await this.#free(leaks, signal);
  }

  /** Publishes what is in use here and unknown to the API server, when it has changed. */
  async speak(signal: AbortSignal): Promise<void> {
    const { cni, blocks } = this.#options;
    const inUse: IP[] = [];
    const pods = new Map<string, number>();
    const live = await liveOfPods(cni);
    for (const { pod } of live) pods.set(podKey(pod), (pods.get(podKey(pod)) ?? 0) + 1);
    for (const { pod, ips } of live) {
      // Of two sandboxes of one pod, the API server knows the addresses of one at most.
      const isDoubtful = (pods.get(podKey(pod)) ?? 0) > 1 || (await cni.pods?.get(pod, signal)) === undefined;
      if (isDoubtful) inUse.push(...ips);
    }
    const text = inUse.map(formatIP).sort().join();
    if (text === this.#published) return;
    await blocks.publishInUse(inUse, signal);
    this.#published = text;
  }

  async #hasPod(addresses: readonly HeldAddress[], signal: AbortSignal): Promise<boolean> {
    for (const address of addresses) {
      const owner = ownerOf(address);
      if (owner.kind !== "pod") continue;
      // Nobody watches pods here: then they must be taken for alive.
      if (this.#options.cni.pods === undefined) return true;
      if ((await this.#options.cni.pods.get(podOf(owner), signal)) !== undefined) return true;
    }
    return false;
  }

  async #free(leaks: readonly HeldAddress[], signal: AbortSignal): Promise<number> {
    const { cni, isDryRun, onFreed } = this.#options;
    for (const { ip, handleID, attributes } of leaks) {
      const what = isDryRun ? "Leaked address would be freed" : "Leaked address is freed";
      cni.log.info({ op: "collect", ip: formatIP(ip), handleID, ...attributes }, what);
    }
    if (isDryRun) return 0;
    for (let at = 0; at < leaks.length; at += BATCH) {
      signal.throwIfAborted();
      const freed = leaks.slice(at, at + BATCH);
      cni.conntrack.released(freed.map(({ ip }) => ip));
      await cni.addresses.release(freed, signal);
      for (const leak of freed) noteLeak(cni, leak);
    }
    if (leaks.length > 0) onFreed?.(leaks.length);
    return leaks.length;
  }

  async #guarded(signal: AbortSignal, task: () => Promise<unknown>): Promise<void> {
    try {
      await task();
    } catch (error) {
      if (signal.aborted) return;
      this.#options.cni.log.warn({ op: "collect", err: error }, "Collection failed; it is tried again");
    }
  }
}

function noteLeak(cni: CNI, { ip, block, handleID, sequenceNumber, attributes }: HeldAddress): void {
  const { namespace, pod: name } = attributes;
  cni.journal?.address({
    kind: "released",
    atMs: cni.clock.nowMs(),
    node: cni.host.nodeName,
    handleID,
    ...(namespace && name && { pod: { namespace, name } }),
    place: { ip, block, sequenceNumber },
    why: "leak",
  });
}

async function liveOfPods(cni: CNI): Promise<readonly { readonly pod: PodRef; readonly ips: readonly IP[] }[]> {
  const live: { readonly pod: PodRef; readonly ips: readonly IP[] }[] = [];
  for (const id of await cni.records.list()) {
    // Other interfaces are not taken for the pod's own, see `planAssign`.
    if (id.ifName !== "eth0") continue;
    const stored = await cni.records.read(id);
    if (stored.kind !== "record") continue;
    const { record } = stored;
    // Of ours alone: what another IPAM plugin gave is in no block.
    if ((record.state === "whole" || record.state === "assigned") && record.pod !== undefined)
      live.push({ pod: record.pod, ips: record.allocations.map(({ ip }) => ip) });
  }
  return live;
}

function podOf(owner: Owner & { readonly kind: "pod" }): PodRef {
  return { namespace: owner.namespace, name: owner.pod };
}

function podKey({ namespace, name }: PodRef): string {
  return `${namespace}/${name}`;
}
