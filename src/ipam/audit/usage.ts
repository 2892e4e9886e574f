// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinityState } from "../../crds/block-affinity.ts";
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { reservedCIDRs } from "../../crds/ip-reservation.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { type CIDR, cidrCovers, cidrFamily, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { bitsOf, formatIP } from "../../net/ip.ts";
import { nodeOfAffinity } from "../affinity.ts";
import { ReservationIndex } from "../reservations.ts";
import { overlapping } from "./check-pools.ts";
import { recordedAddresses, stateOf } from "./recorded.ts";
import { compareBlocks, compareCIDRs, isDamaged, liveBlocks, poolAround, type Snapshot } from "./snapshot.ts";

/** Addresses by what has become of them; `total` is the sum of the others. */
export interface Usage {
  readonly total: bigint;
  /** A handle, or somebody without one, has them; those kept for Windows as well. */
  readonly inUse: bigint;
  /** Given back, and not to be given again yet. */
  readonly cooling: bigint;
  /** Free, and left alone by automatic assignment. */
  readonly reserved: bigint;
  readonly free: bigint;
}

export interface BlockUsage extends Usage {
  readonly cidr: string;
  /** `host:NODE`, `virtual:NAME`; absent: nobody owns it. */
  readonly affinity?: string;
  /** State of the claim; absent: there is none. */
  readonly state?: BlockAffinityState;
  /** In use on other nodes than the owner. */
  readonly borrowed: number;
  /** The block contradicts itself: the counts are what its list of addresses says. */
  readonly isDamaged: boolean;
}

export interface PoolUsage extends Usage {
  readonly pool: string;
  readonly cidr: string;
  readonly blockSize: number;
  readonly isEnabled: boolean;
  readonly blocks: readonly BlockUsage[];
}

export interface ClusterUsage {
  readonly pools: readonly PoolUsage[];
  /** Blocks that no pool holds. */
  readonly outside: readonly BlockUsage[];
}

/** One address in use on another node than the one that owns its block. */
export interface BorrowedAddress {
  readonly address: string;
  readonly node: string;
  readonly block: string;
  /** As in the block; absent: nobody owns it. */
  readonly owner?: string;
  /** `pod`, or the record's `type`. */
  readonly type: string;
  readonly allocatedTo: string;
}

/** Pools in the order of their networks, blocks in theirs. */
export function usageOf(snapshot: Snapshot): ClusterUsage {
  const networks = snapshot.reservations.flatMap(reservedCIDRs);
  const index = new ReservationIndex(networks);
  const states = new Map(
    snapshot.affinities
      .filter(({ spec }) => spec.deleted !== "true")
      .map(({ spec }) => [`${spec.type || "host"}:${spec.node} ${spec.cidr}`, spec.state || ("confirmed" as const)]),
  );
  const byPool = Map.groupBy([...liveBlocks(snapshot)].sort(compareBlocks), ({ spec }) => {
    return poolAround(snapshot.pools, parseCIDR(spec.cidr))?.name ?? "";
  });
  const blocksOf = (pool: string): readonly BlockUsage[] =>
    (byPool.get(pool) ?? []).map((block) =>
      blockUsage(block, index, states.get(`${block.spec.affinity} ${block.spec.cidr}`)),
    );
  const pools = [...snapshot.pools].sort((a, b) => compareCIDRs(a.cidr, b.cidr) || (a.name < b.name ? -1 : 1));
  return {
    pools: pools.map((pool) => poolUsage(pool, blocksOf(pool.name), networks)),
    outside: blocksOf(""),
  };
}

function blockUsage(block: IPAMBlock, index: ReservationIndex, state: BlockAffinityState | undefined): BlockUsage {
  const { spec } = block;
  const cidr = parseCIDR(spec.cidr);
  const isReserved = index.of(cidr);
  let [inUse, cooling, reserved, borrowed] = [0, 0, 0, 0];
  const owner = nodeOfAffinity(spec.affinity);
  for (const [ordinal, place] of spec.allocations.entries()) {
    if (place === null) {
      if (isReserved?.(ordinal) === true) reserved++;
      continue;
    }
    const attribute = spec.attributes[place] ?? {};
    if (stateOf(attribute) === "cooling") cooling++;
    else inUse++;
    const node = attribute.secondary?.["node"];
    if (node !== undefined && node !== owner) borrowed++;
  }
  return {
    cidr: spec.cidr,
    ...(spec.affinity !== undefined && { affinity: spec.affinity }),
    ...(state !== undefined && { state }),
    ...sumUp(BigInt(spec.allocations.length), inUse, cooling, BigInt(reserved)),
    borrowed,
    isDamaged: isDamaged(block),
  };
}

function poolUsage(pool: EffectiveIPPool, blocks: readonly BlockUsage[], networks: readonly CIDR[]): PoolUsage {
  const sum = (field: "inUse" | "cooling" | "reserved"): bigint => blocks.reduce((n, block) => n + block[field], 0n);
  // A reserved address that a block does not have yet is free as well.
  const inBlocks = apart(blocks.map(({ cidr }) => parseCIDR(cidr)));
  const reserved =
    sizeOf(clipped(networks, pool.cidr)) - inBlocks.reduce((n, b) => n + sizeOf(clipped(networks, b)), 0n);
  return {
    pool: pool.name,
    cidr: formatCIDR(pool.cidr),
    blockSize: pool.blockSize,
    isEnabled: pool.enabled,
    ...sumUp(sizeOf([pool.cidr]), Number(sum("inUse")), Number(sum("cooling")), reserved + sum("reserved")),
    blocks,
  };
}

function sumUp(total: bigint, inUse: number, cooling: number, reserved: bigint): Usage {
  const [used, cool] = [BigInt(inUse), BigInt(cooling)];
  return { total, inUse: used, cooling: cool, reserved, free: total - used - cool - reserved };
}

/** The part of the networks that lies in one, without overlap. */
function clipped(networks: readonly CIDR[], frame: CIDR): readonly CIDR[] {
  return apart(
    networks.flatMap((network) => {
      if (cidrCovers(network, frame)) return [frame];
      return cidrCovers(frame, network) ? [network] : [];
    }),
  );
}

/** The networks without those that lie in another one of them. */
function apart(networks: readonly CIDR[]): readonly CIDR[] {
  const inner = new Set(overlapping(networks.map((cidr) => ({ cidr }))).map(([, { cidr }]) => cidr));
  return networks.filter((cidr) => !inner.has(cidr));
}

function sizeOf(networks: readonly CIDR[]): bigint {
  return networks.reduce((n, cidr) => n + (1n << BigInt(bitsOf(cidrFamily(cidr)) - cidr.prefixLength)), 0n);
}

/** Addresses in use on other nodes than their block's owner, in the order of the addresses. */
export function borrowedAddresses(snapshot: Snapshot): readonly BorrowedAddress[] {
  return [...liveBlocks(snapshot)].sort(compareBlocks).flatMap((block) =>
    recordedAddresses(block).flatMap(({ ip, attribute }): readonly BorrowedAddress[] => {
      const { node, namespace, pod, type } = attribute.secondary ?? {};
      const { affinity } = block.spec;
      if (node === undefined || node === nodeOfAffinity(affinity)) return [];
      const name = namespace !== undefined && pod !== undefined ? `${namespace}/${pod}` : undefined;
      return [
        {
          address: formatIP(ip),
          node,
          block: block.spec.cidr,
          ...(affinity !== undefined && { owner: affinity }),
          type: type ?? (name === undefined ? "other" : "pod"),
          allocatedTo: name ?? attribute.handle_id ?? "",
        },
      ];
    }),
  );
}
