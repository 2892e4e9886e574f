// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import { type EffectiveIPPool, effectiveIPPool, type IPPool } from "../../crds/ip-pool.ts";
import { blockName } from "../../crds/names.ts";
import type { IPAMStore } from "../../ipam/ports.ts";
import type { UnhandledAddress } from "../../ipam/release-unhandled.ts";
import type { Allocation, AssignRequest } from "../../ipam/types.ts";
import type { Clock } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import { ApplyLoop } from "../apply-loop.ts";
import {
  annotatedAddress,
  blockAround,
  holdingOf,
  needsTunnel,
  planTunnelAddress,
  staticTunnelAddress,
  TUNNEL_KINDS,
  type TunnelClaim,
  type TunnelKind,
  type TunnelPlan,
  tunnelClaim,
  tunnelPools,
  withTunnelAddress,
} from "../calc/tunnel-address.ts";
import type { Logger, Source } from "../ports.ts";
import type { NodeWriter } from "./node-writer.ts";

/** What tunnel addresses ask of IPAM. */
export interface TunnelIPAM {
  assign(request: AssignRequest): Promise<readonly Allocation[]>;
  releaseByHandle(handleID: string): Promise<void>;
  /** Frees an address that nobody is named for. */
  releaseNameless(address: UnhandledAddress): Promise<unknown>;
  readonly store: Pick<IPAMStore, "get">;
}

export interface TunnelAddressesOptions {
  readonly nodeName: string;
  readonly sources: { readonly nodes: Source<Node>; readonly pools: Source<IPPool> };
  readonly ipam: TunnelIPAM;
  readonly node: NodeWriter;
  /** Whether pods have their addresses out of the node's podCIDR, so that IPAM is not asked. Absent: no. */
  readonly usesPodCIDRs?: () => boolean;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** Somebody may release what is ours. Units: milliseconds. */
const CHECK_EVERY_MS = 300_000;
/** How long an address outlives its pool. Units: milliseconds. */
const POOL_GRACE_MS = 10_000;
const WRITE_ATTEMPTS = 5;

/**
 * Keeps this node's tunnel addresses allocated, and says them in the annotations of its Node, by which all other nodes
 * know them.
 *
 * Invariants: one look at a time, when pools or the Node have changed and every five minutes; an address that was taken and
 * could not be written down is given back; the annotation is only ever changed from what the decision was made of.
 * A process that is killed between the two leaves an address under the handle, and the next look releases it.
 *
 * Source: calico-interop 4.5.
 */
export class TunnelAddresses {
  readonly #options: TunnelAddressesOptions;
  readonly #loop: ApplyLoop;
  readonly #stops: (() => void)[] = [];
  /** Kinds whose handle is known to hold nothing. */
  readonly #clear = new Set<TunnelKind>();
  /** Annotated addresses that some pool has or had, and since when none has. Units: Unix milliseconds. */
  readonly #inPool = new Map<TunnelKind, { readonly ip: IP; goneAtMs?: number }>();
  #node: Node | undefined;
  #isSynced = false;
  #lastError = "";

  constructor(options: TunnelAddressesOptions) {
    this.#options = options;
    this.#loop = new ApplyLoop({
      clock: options.clock,
      random: options.random,
      turn: async () => await this.#turn(),
      onError: (error, retryInMs) => this.#failed(error, retryInMs),
    });
  }

  start(): void {
    const { sources, nodeName } = this.#options;
    const setNode = (node: Node | undefined): void => {
      this.#node = node;
      this.#loop.wake();
    };
    this.#stops.push(
      sources.nodes.onChange((change) => {
        if (change.key === nodeName) setNode(change.new);
      }),
      sources.pools.onChange(() => this.#loop.wake()),
    );
    for (const node of sources.nodes.list()) if (node.metadata.name === nodeName) setNode(node);
    void Promise.all([sources.nodes.synced, sources.pools.synced]).then(() => {
      this.#isSynced = true;
      this.#loop.wake();
    });
    this.#loop.start();
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0)) stop();
    await this.#loop.stop();
  }

  async #turn(): Promise<number> {
    const errors: unknown[] = [];
    for (const kind of TUNNEL_KINDS) {
      const node = this.#node;
      if (!this.#isSynced || node === undefined) break;
      await this.#look(kind, node).catch((error: unknown) => errors.push(error));
    }
    if (errors.length > 0) throw errors[0];
    this.#lastError = "";
    const isWaiting = [...this.#inPool.values()].some(({ goneAtMs }) => goneAtMs !== undefined);
    return isWaiting ? POOL_GRACE_MS : CHECK_EVERY_MS;
  }

  /** What the cache says is only trusted to tell that nothing is to be done. */
  async #look(kind: TunnelKind, cached: Node): Promise<void> {
    const { nodeName, node: writer } = this.#options;
    const pools = this.#pools();
    const claim = tunnelClaim(nodeName, kind);
    const isUnused = (node: Node): boolean =>
      tunnelPools(pools, kind, node.metadata.labels).length === 0 && annotatedAddress(node, kind) === undefined;
    if (this.#clear.has(kind) && isUnused(cached)) return;
    if ((await this.#plan(kind, cached, pools, claim)).kind === "keep") return;
    const node = await writer.get();
    await this.#carryOut(kind, node, await this.#plan(kind, node, pools, claim), claim);
    if (isUnused(node)) this.#clear.add(kind);
    else this.#clear.delete(kind);
  }

  async #plan(
    kind: TunnelKind,
    node: Node,
    pools: readonly EffectiveIPPool[],
    claim: TunnelClaim,
  ): Promise<TunnelPlan> {
    const ip = annotatedAddress(node, kind);
    if (this.#options.usesPodCIDRs?.() === true) {
      const wanted = staticTunnelAddress(node, kind, pools);
      if (wanted === undefined) return { kind: "clear" };
      return wanted === ip ? { kind: "keep" } : { kind: "static", ip: wanted };
    }
    const block = ip === undefined ? undefined : blockAround(pools, ip);
    if (ip !== undefined && this.#isPoolReplaced(kind, ip, block !== undefined)) return { kind: "keep" };
    const wish = { eligible: tunnelPools(pools, kind, node.metadata.labels), isNeeded: needsTunnel(pools, kind) };
    if (ip === undefined || block === undefined || (wish.eligible.length === 0 && !wish.isNeeded))
      return planTunnelAddress(ip, { kind: "free" }, wish);
    const stored = await this.#options.ipam.store.get("block", blockName(block));
    return planTunnelAddress(ip, holdingOf(stored, ip, claim), wish);
  }

  /**
   * True for a while after the pool of an address is gone: whoever splits a pool deletes it before he makes the new ones.
   */
  #isPoolReplaced(kind: TunnelKind, ip: IP, isInPool: boolean): boolean {
    const nowMs = this.#options.clock.nowMs();
    if (isInPool) {
      this.#inPool.set(kind, { ip });
      return false;
    }
    const seen = this.#inPool.get(kind);
    if (seen?.ip !== ip) return false;
    seen.goneAtMs ??= nowMs;
    return nowMs < seen.goneAtMs + POOL_GRACE_MS;
  }

  async #carryOut(kind: TunnelKind, node: Node, plan: TunnelPlan, claim: TunnelClaim): Promise<void> {
    const { ipam, log } = this.#options;
    const annotated = annotatedAddress(node, kind);
    switch (plan.kind) {
      case "keep":
        return;
      case "fail":
        throw new Error(`${kind.name} tunnel address of node ${node.metadata.name}: ${plan.reason}`);
      case "clear":
        this.#inPool.delete(kind);
        if (annotated !== undefined) {
          await this.#write(kind, annotated, undefined);
          log.info({ address: formatIP(annotated) }, `${kind.name} tunnel address given back: no pool needs it`);
        }
        await ipam.releaseByHandle(claim.handleID);
        return;
      case "static":
        await this.#write(kind, annotated, plan.ip);
        await ipam.releaseByHandle(claim.handleID);
        log.info({ address: formatIP(plan.ip) }, `${kind.name} tunnel address is the first of this node's podCIDR`);
        return;
      case "adopt":
        await ipam.releaseNameless(plan.holding);
        await ipam.assign({ ...claim, families: [kind.family], addresses: [plan.ip], use: "Tunnel" });
        return;
      case "assign":
        await this.#assign(kind, annotated, claim, plan.pools);
        return;
      default:
        plan satisfies never;
    }
  }

  async #assign(
    kind: TunnelKind,
    annotated: IP | undefined,
    claim: TunnelClaim,
    names: readonly string[],
  ): Promise<void> {
    const { ipam, log } = this.#options;
    const { family, name } = kind;
    await ipam.releaseByHandle(claim.handleID);
    const [taken] = await ipam.assign({ ...claim, families: [family], pools: { [family]: names }, use: "Tunnel" });
    if (taken === undefined) throw new Error(`no ${name} tunnel address out of ${names.join(", ")}`);
    try {
      await this.#write(kind, annotated, taken.ip);
    } catch (error) {
      await ipam.releaseByHandle(claim.handleID).catch(() => {});
      throw error;
    }
    const was = annotated === undefined ? {} : { was: formatIP(annotated) };
    log.info({ address: formatIP(taken.ip), ...was }, `${name} tunnel address allocated`);
  }

  /** Kubelets write the same object, so a conflict is nothing unusual. */
  async #write(kind: TunnelKind, from: IP | undefined, to: IP | undefined): Promise<void> {
    const { node: writer, nodeName } = this.#options;
    for (let attempt = 1; ; attempt++) {
      let isOthers = false;
      try {
        await writer.edit((node) => {
          isOthers = annotatedAddress(node, kind) !== from;
          return isOthers ? undefined : withTunnelAddress(node, kind, to === undefined ? undefined : formatIP(to));
        });
      } catch (error) {
        if (attempt === WRITE_ATTEMPTS) throw error;
        continue;
      }
      if (!isOthers) return;
      throw new Error(`Node ${nodeName}: another program has changed its annotation ${kind.annotation}`);
    }
  }

  /** Malformed ones are told by the calculation. */
  #pools(): readonly EffectiveIPPool[] {
    return [...this.#options.sources.pools.list()].flatMap((pool) => {
      try {
        return [effectiveIPPool(pool)];
      } catch {
        return [];
      }
    });
  }

  #failed(error: unknown, retryInMs: number): void {
    const message = describeError(error);
    // Once for each reason, since it is retried until it is over.
    const level = message === this.#lastError ? "debug" : "warn";
    this.#lastError = message;
    this.#options.log[level]({ err: message, retryInMs: Math.round(retryInMs) }, "no tunnel address; will retry");
  }
}
