// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import { effectiveIPPool, type IPPoolSpec, parseIPPool } from "../crds/ip-pool.ts";
import { handleName } from "../crds/names.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { parseCIDR } from "../net/cidr.ts";
import type { Family } from "../net/ip.ts";
import type { Labels } from "../selector/selector.ts";
import { isHostAffinityOf } from "./affinity.ts";
import { type Allocator, createAllocator } from "./allocator/allocator.ts";
import { ordinalsOfHandle } from "./block.ts";
import { checkBlock } from "./check-block.ts";
import { MemoryStore, type MemoryStoreOptions, type StoreRequest } from "./memory-store.ts";
import type { IPAMSettings, IPAMSources, IPAMStore } from "./ports.ts";
import { ReservationIndex } from "./reservations.ts";
import type { AssignRequest } from "./types.ts";

export const NODE = "node-a";

/** Retries come back after a few turns; what waits for half a second or more waits for `advance`. */
class QuickClock extends FakeClock {
  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms < 500) for (let waited = 0; waited < ms; waited += 5) await turn();
    else await super.sleep(ms, signal);
  }
}

export interface Setup {
  readonly pools?: readonly (Partial<IPPoolSpec> & { cidr: string })[];
  readonly settings?: Partial<IPAMSettings>;
  /** Networks of IPReservations. */
  readonly reserved?: readonly string[];
  readonly nodeLabels?: Labels;
  readonly namespaces?: Readonly<Record<string, Labels>>;
  readonly store?: MemoryStoreOptions;
  readonly isResident?: boolean;
  readonly cooldownMs?: number;
  readonly node?: string;
  readonly shared?: MemoryStore;
  readonly kube?: IPAMStore;
}

export function setUp(setup: Setup = {}): {
  store: MemoryStore;
  allocator: Allocator;
  clock: FakeClock;
  sources: IPAMSources;
  errors: unknown[];
} {
  const store = setup.shared ?? new MemoryStore(setup.store);
  const clock = new QuickClock();
  const node = setup.node ?? NODE;
  const errors: unknown[] = [];
  const pools = (setup.pools ?? [{ cidr: "10.0.0.0/16" }]).map((spec, i) => {
    const raw = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name: `pool-${i}` }, spec };
    return effectiveIPPool(parseIPPool(raw));
  });
  const settings = {
    datastoreReady: true,
    autoAllocateBlocks: true,
    strictAffinity: false,
    maxBlocksPerHost: 0,
    ipCooldownMs: 0,
    recordsReleases: false,
    ...setup.settings,
  };
  const reservations = new ReservationIndex((setup.reserved ?? []).map(parseCIDR));
  const sources: IPAMSources = {
    settings: () => settings,
    pools: () => pools,
    ownAffinities: () => store.all("affinity").filter((affinity) => isHostAffinityOf(affinity, node)),
    knownBlocks: () => {
      const live = store.all("affinity").filter(({ spec }) => spec.deleted !== "true");
      return live.map((affinity) => parseCIDR(affinity.spec.cidr));
    },
    knowsAllBlocks: false,
    reservations: () => reservations,
    nodeLabels: () => setup.nodeLabels ?? {},
    namespaceLabels: (namespace) => setup.namespaces?.[namespace],
  };
  const allocator = createAllocator({
    store: setup.kube ?? store,
    sources,
    clock,
    random: () => 0.5,
    nodeName: node,
    isResident: setup.isResident ?? false,
    ...(setup.cooldownMs !== undefined && { cooldownMs: setup.cooldownMs }),
    onBackgroundError: (error) => errors.push(error),
  });
  return { store, allocator, clock, sources, errors };
}

export function request(handleID: string, families: readonly Family[] = [4], node: string = NODE): AssignRequest {
  return { handleID, attributes: { node, pod: handleID, namespace: "default", timestamp: "t" }, families };
}

export function summary(requests: readonly StoreRequest[]): string[] {
  return requests.map((r) => `${r.verb} ${r.kind}`);
}

export function used(store: MemoryStore): number {
  return store.all("block").reduce((n, b) => n + b.spec.allocations.length - b.spec.unallocated.length, 0);
}

/**
 * Throws unless every block is sound and every address has a handle that counts it: true at every moment, whoever died
 * in the middle of what. Plain code, since the simulation calls it after each request.
 */
export function expectSound(store: MemoryStore): void {
  for (const { spec } of store.all("block")) {
    const findings = checkBlock(spec, Number.POSITIVE_INFINITY);
    if (findings.length > 0) throw new Error(`${spec.cidr}: ${JSON.stringify(findings)}`);
    for (const { handle_id: handleID = "" } of spec.attributes) {
      const counted = store.peek("handle", handleName(handleID))?.spec.block[spec.cidr] ?? 0;
      const actual = ordinalsOfHandle(spec, handleID).length;
      if (counted < actual) throw new Error(`${handleID} holds ${actual} in ${spec.cidr} and counts ${counted}`);
    }
  }
}
