// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinityState } from "../../crds/block-affinity.ts";
import { projectReservation } from "../../crds/ip-reservation.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { handleName } from "../../crds/names.ts";
import { cidrContains, formatCIDR, hostCIDR, ordinalOf, parseCIDR } from "../../net/cidr.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import { isConfirmed, nodeOfAffinity } from "../affinity.ts";
import { heldAddresses, INTERFACE_ATTRIBUTE, ownerOf } from "../gc/addresses.ts";
import type { Verdict } from "../gc/types.ts";
import { verdictOf } from "../gc/verdict.ts";
import { type RecordedAddress, type RecordState, recordedAddresses, stateOf } from "./recorded.ts";
import { isDamaged, liveBlocks, poolAround, type Snapshot, viewOfSnapshot } from "./snapshot.ts";

/** A block that the address is in. */
export interface BlockStory {
  readonly name: string;
  readonly cidr: string;
  readonly ordinal: number;
  readonly owner?: string;
  readonly claim?: BlockAffinityState;
  readonly isDamaged: boolean;
}

/** Everything that the cluster knows of one address. */
export interface AddressStory {
  readonly address: string;
  /** `noBlock`: nobody has claimed the block that it would be in. `broken`: its owner record is not there. */
  readonly state: RecordState | "free" | "noBlock" | "broken";
  readonly pool?: { readonly name: string; readonly cidr: string; readonly isEnabled: boolean };
  readonly block?: BlockStory;
  /** Larger blocks with the same address, which must not be: what they know of it. Absent when there is none. */
  readonly otherBlocks?: readonly (BlockStory & Pick<AddressStory, "state" | "handleID">)[];
  readonly handleID?: string;
  /** Whether the handle's object is there. */
  readonly hasHandle?: boolean;
  /** What a release must name, besides address and handle. */
  readonly sequenceNumber?: bigint;
  readonly attributes?: Readonly<Record<string, string>>;
  /** As the owner's agent wrote it. */
  readonly since?: string;
  /** Cooling since then. RFC 3339 */
  readonly releasedAt?: string;
  readonly node?: string;
  readonly nodeExists?: boolean;
  /** `namespace/name` of the owner's record. */
  readonly pod?: string;
  readonly podExists?: boolean;
  /** The pod's own status names the address. */
  readonly podReportsIt?: boolean;
  /** Live pods that report the address, whoever it was given to. */
  readonly reportedBy: readonly string[];
  /** In use on another node than the block's owner. */
  readonly isBorrowed: boolean;
  /** What a collector thinks of it. */
  readonly verdict?: Verdict;
  readonly reservations: readonly { readonly name: string; readonly for?: string }[];
  /** To which node the others send its packets, and by what. */
  readonly route: string;
}

export function storyOf(ip: IP, snapshot: Snapshot): AddressStory {
  const address = formatIP(ip);
  const pool = poolAround(snapshot.pools, hostCIDR(ip));
  const [block, ...others] = blocksAround(snapshot, ip);
  const reservations = snapshot.reservations.map(projectReservation).filter(({ networks }) => {
    return networks.some((network) => cidrContains(network, ip));
  });
  const record = block && recordIn(block, ip);
  return {
    address,
    state: stateIn(block, record, ip),
    ...(pool !== undefined && { pool: { name: pool.name, cidr: formatCIDR(pool.cidr), isEnabled: pool.enabled } }),
    ...(block !== undefined && { block: blockStory(block, ip, snapshot) }),
    ...(others.length > 0 && { otherBlocks: others.map((other) => otherStory(other, ip, snapshot)) }),
    ...(record !== undefined && recordStory(record, snapshot)),
    reportedBy: [...snapshot.pods]
      .filter(([, pod]) => !pod.hostNetwork && !pod.isFinished && pod.reported.includes(address))
      .map(([key]) => key)
      .sort(),
    isBorrowed: record !== undefined && isBorrowed(record),
    reservations: reservations.map(({ name, owner }) => ({
      name,
      ...(owner !== undefined && { for: `${owner.kind} ${owner.namespace}/${owner.name}` }),
    })),
    route: routeText(block, record, snapshot),
  };
}

/** The smallest block around an address: of two that overlap the smaller one is reported by `audit`. */
export function blockAround(snapshot: Pick<Snapshot, "blocks">, ip: IP): IPAMBlock | undefined {
  return blocksAround(snapshot, ip)[0];
}

/** The smallest one first. */
function blocksAround(snapshot: Pick<Snapshot, "blocks">, ip: IP): readonly IPAMBlock[] {
  return liveBlocks(snapshot)
    .filter(({ spec }) => cidrContains(parseCIDR(spec.cidr), ip))
    .sort((a, b) => parseCIDR(b.spec.cidr).prefixLength - parseCIDR(a.spec.cidr).prefixLength);
}

function recordIn(block: IPAMBlock, ip: IP): RecordedAddress | undefined {
  return recordedAddresses(block).find((recorded) => recorded.ip === ip);
}

function stateIn(block: IPAMBlock | undefined, record: RecordedAddress | undefined, ip: IP): AddressStory["state"] {
  if (record !== undefined) return stateOf(record.attribute);
  if (block === undefined) return "noBlock";
  return block.spec.allocations[ordinalOf(parseCIDR(block.spec.cidr), ip)] === null ? "free" : "broken";
}

function otherStory(block: IPAMBlock, ip: IP, snapshot: Snapshot): NonNullable<AddressStory["otherBlocks"]>[number] {
  const record = recordIn(block, ip);
  const handleID = record?.attribute.handle_id;
  return {
    ...blockStory(block, ip, snapshot),
    state: stateIn(block, record, ip),
    ...(handleID !== undefined && { handleID }),
  };
}

function blockStory(block: IPAMBlock, ip: IP, snapshot: Snapshot): BlockStory {
  const { metadata, spec } = block;
  const claim = claimOf(block, snapshot);
  return {
    name: metadata.name,
    cidr: spec.cidr,
    ordinal: ordinalOf(parseCIDR(spec.cidr), ip),
    ...(spec.affinity !== undefined && { owner: spec.affinity }),
    ...(claim !== undefined && { claim: claim.spec.state || "confirmed" }),
    isDamaged: isDamaged(block),
  };
}

function claimOf({ spec }: IPAMBlock, { affinities }: Snapshot): Snapshot["affinities"][number] | undefined {
  return affinities.find(({ spec: claim }) => {
    const owner = `${claim.type || "host"}:${claim.node}`;
    return claim.deleted !== "true" && claim.cidr === spec.cidr && owner === spec.affinity;
  });
}

function recordStory(record: RecordedAddress, snapshot: Snapshot): Partial<AddressStory> {
  const { attribute, sequenceNumber, block, ip } = record;
  const { handle_id: handleID, secondary: attributes = {}, releasedAt } = attribute;
  const { node, namespace, pod, timestamp } = attributes;
  const key = namespace !== undefined && pod !== undefined ? `${namespace}/${pod}` : undefined;
  const found = key === undefined ? undefined : snapshot.pods.get(key);
  const held = heldAddresses(block.spec).find((address) => address.ip === ip);
  return {
    ...(handleID !== undefined && { handleID, hasHandle: hasHandle(handleID, snapshot) }),
    sequenceNumber,
    attributes,
    ...(timestamp !== undefined && { since: timestamp }),
    ...(releasedAt !== undefined && { releasedAt }),
    ...(node !== undefined && { node, nodeExists: snapshot.nodes.has(node) }),
    ...(key !== undefined && {
      pod: key,
      podExists: found !== undefined,
      podReportsIt: found?.addresses.includes(formatIP(ip)) ?? false,
    }),
    ...(held !== undefined && { verdict: verdictOf(held, ownerOf(held), viewOfSnapshot(snapshot)) }),
  };
}

function hasHandle(handleID: string, { handles }: Snapshot): boolean {
  const name = handleName(handleID);
  return handles.some(({ metadata, spec }) => metadata.name === name && spec.handleID === handleID && !spec.deleted);
}

function isBorrowed({ attribute, block }: RecordedAddress): boolean {
  const node = attribute.secondary?.["node"];
  return node !== undefined && node !== nodeOfAffinity(block.spec.affinity);
}

/** Source: calico-interop 4.1, and felix/calc. */
function routeText(block: IPAMBlock | undefined, record: RecordedAddress | undefined, snapshot: Snapshot): string {
  const node = record && isBorrowed(record) ? record.attribute.secondary?.["node"] : undefined;
  if (node !== undefined) return `to ${node}, by a route of its own (borrowed)`;
  if (block === undefined) return "to nobody: it is in no block";
  const claim = claimOf(block, snapshot);
  const owner = nodeOfAffinity(block.spec.affinity);
  if (owner === undefined) {
    return block.spec.affinity === undefined ? "to nobody: nobody owns its block" : `by ${block.spec.affinity}`;
  }
  if (claim === undefined)
    return `to nobody for certain: ${owner} owns block ${block.spec.cidr} without a BlockAffinity`;
  if (!isConfirmed(claim)) return `to nobody: the claim of ${owner} is ${claim.spec.state}`;
  return `to ${owner}, by its block ${block.spec.cidr}`;
}

/** The interface of a pod that Kubernetes does not show; absent for the first one. */
export function interfaceOf({ attributes }: Pick<AddressStory, "attributes">): string | undefined {
  return attributes?.[INTERFACE_ATTRIBUTE];
}
