// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { IPAMHandle } from "../../crds/ipam-handle.ts";
import { formatIP } from "../../net/ip.ts";
import type {
  AffinityRelease,
  AffinityRepair,
  BlockRemoval,
  HeldAddress,
  LeakReason,
  LeftTombstone,
  OrphanHandle,
} from "../gc/types.ts";
import type { HandleBlocks } from "../handle.ts";

/** `error`: pods are, or will be, without their address. `warning`: addresses or objects are lost. `info`: good to know. */
export type Severity = "error" | "warning" | "info";

export const SEVERITIES: readonly Severity[] = ["error", "warning", "info"];

export type FindingCode =
  | "invalidObject"
  | "damagedBlock"
  | "unreferencedAttribute"
  | "releasedInFuture"
  | "namelessAddress"
  | "wrongName"
  | "overlappingBlocks"
  | "overlappingPools"
  | "unusableSelector"
  | "unreadableReservation"
  | "blockOutsidePools"
  | "blockWithoutAffinity"
  | "unownedBlock"
  | "affinityWithoutBlock"
  | "affinityOfForeignBlock"
  | "unfinishedClaim"
  | "unfinishedRelease"
  | "missingLabels"
  | "staleTombstone"
  | "unknownNode"
  | "orphanHandle"
  | "handleCountsTooMany"
  | "handleCountsTooFew"
  | "missingHandle"
  | "leakedAddress"
  | "leakInDoubt"
  | "noOwner"
  | "unknownOwner"
  | "duplicateAddress"
  | "addressOfAnother"
  | "podAddressNotAllocated"
  | "podAddressOutsidePools"
  | "datastoreLocked"
  | "noNodes";

/** What mends a finding. Each is a compare-and-swap against just what was seen. */
export type Fix =
  | { readonly kind: "finishTombstone"; readonly tombstone: LeftTombstone }
  | { readonly kind: "deleteHandle"; readonly orphan: OrphanHandle }
  | { readonly kind: "setHandleCounts"; readonly handle: IPAMHandle; readonly counts: HandleBlocks }
  | { readonly kind: "createHandle"; readonly handleID: string; readonly counts: HandleBlocks }
  | { readonly kind: "labelAffinity"; readonly affinity: BlockAffinity }
  | { readonly kind: "releaseAffinity"; readonly release: AffinityRelease }
  | { readonly kind: "confirmAffinity"; readonly repair: AffinityRepair }
  | { readonly kind: "restoreAffinity"; readonly node: string; readonly cidr: string }
  | { readonly kind: "removeBlock"; readonly removal: BlockRemoval }
  | { readonly kind: "freeLeak"; readonly address: HeldAddress };

/** One thing that is not as it should be. */
export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  readonly object: { readonly kind: string; readonly name: string };
  /** Canonical text, where it is about one address. */
  readonly address?: string;
  readonly reason: string;
  readonly nextStep: string;
  readonly fix?: Fix;
  /** For a leaked address: why it counts as leaked, and what a release must name. */
  readonly leak?: { readonly why: LeakReason; readonly address: HeldAddress };
  /**
   * The same in two looks only if nobody has touched the thing meanwhile. Writers change an object and its index one
   * after the other, so what a single look finds may be somebody's work in progress.
   */
  readonly identity: string;
}

/** Those of the second look that the first had, too. */
export function persistent(first: readonly Finding[], second: readonly Finding[]): readonly Finding[] {
  const before = new Set(first.map(keyOf));
  return second.filter((finding) => before.has(keyOf(finding)));
}

function keyOf({ code, object, address, identity }: Finding): string {
  return `${code} ${object.kind} ${object.name} ${address ?? ""} ${identity}`;
}

/** Worst first, then by code, object and address: the same cluster gives the same list. */
export function compareFindings(a: Finding, b: Finding): number {
  return (
    SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) ||
    compareText(a.code, b.code) ||
    compareText(a.object.kind, b.object.kind) ||
    compareText(a.object.name, b.object.name) ||
    compareText(a.address ?? "", b.address ?? "")
  );
}

function compareText(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

/** What a fix does, for the plan that a person approves. */
export function describeFix(fix: Fix): string {
  switch (fix.kind) {
    case "finishTombstone":
      return `finish the deletion of ${fix.tombstone.kind} ${fix.tombstone.name}`;
    case "deleteHandle":
      return `delete IPAMHandle ${fix.orphan.name}, which no address names`;
    case "setHandleCounts":
      return `set the counts of IPAMHandle ${fix.handle.metadata.name} to ${countsText(fix.counts)}`;
    case "createHandle":
      return `create IPAMHandle ${fix.handleID} with ${countsText(fix.counts)}`;
    case "labelAffinity":
      return `label BlockAffinity ${fix.affinity.metadata.name}`;
    case "releaseAffinity":
      return `give up BlockAffinity ${fix.release.name}${fix.release.sequenceNumber === undefined ? "" : ` and its empty block ${fix.release.cidr}`}`;
    case "confirmAffinity":
      return `confirm BlockAffinity ${fix.repair.name}`;
    case "restoreAffinity":
      return `create the BlockAffinity of ${fix.node} for its block ${fix.cidr}`;
    case "removeBlock":
      return `delete empty IPAMBlock ${fix.removal.name}`;
    case "freeLeak":
      return `free ${formatIP(fix.address.ip)} of handle ${fix.address.handleID} (sequence number ${fix.address.sequenceNumber})`;
  }
}

export function countsText(counts: HandleBlocks): string {
  const parts = Object.entries(counts).map(([cidr, count]) => `${count} in ${cidr}`);
  return parts.length === 0 ? "nothing" : parts.sort(compareText).join(", ");
}
