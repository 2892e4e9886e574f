// SPDX-License-Identifier: Apache-2.0
import type { IPAMHandle } from "../../crds/ipam-handle.ts";
import { blockNameOf, handleName } from "../../crds/names.ts";
import { WINDOWS_RESERVED_HANDLE } from "../block.ts";
import type { HandleBlocks } from "../handle.ts";
import { withoutTail } from "../handle-id.ts";
import { countsText, type Finding } from "./finding.ts";
import { recordedAddresses } from "./recorded.ts";
import { isDamaged, liveBlocks, restMs, type Snapshot, unreadableBlocks } from "./snapshot.ts";

/**
 * A handle is written before the block when an address is taken, so a handle that counts too much may be an ADD between
 * its two writes: it is mended only when nobody has written it for longer than any ADD takes. Units: milliseconds.
 */
export const HANDLE_REST_MS: number = 10 * 60_000;

/** Handles against the blocks, which are the truth. */
export function checkHandles(snapshot: Snapshot, watchedMs: number): readonly Finding[] {
  const truth = truthOf(snapshot);
  const damaged = liveBlocks(snapshot).filter(isDamaged);
  const doubtful = new Set([...unreadableBlocks(snapshot), ...damaged.map(({ metadata }) => metadata.name)]);
  const findings: Finding[] = [];
  const seen = new Set<string>();
  const byName = new Map(snapshot.handles.map((handle) => [handle.metadata.name, handle]));
  for (const handle of snapshot.handles) {
    const id = withoutTail(handle.spec.handleID);
    seen.add(id);
    // A block that is damaged or cannot be read may hold what the handle counts.
    const isInDoubt = Object.keys(handle.spec.block).some((cidr) => doubtful.has(blockNameOf(cidr)));
    if (handle.spec.deleted || truth.inDoubt.has(id) || isInDoubt) continue;
    findings.push(...judge(handle, truth.counts.get(id) ?? {}, restMs(handle.metadata, snapshot.takenMs, watchedMs)));
  }
  for (const [handleID, counts] of truth.counts) {
    if (!seen.has(handleID) && !truth.inDoubt.has(handleID)) findings.push(missing(handleID, counts, byName));
  }
  return findings;
}

/** Addresses of each handle by block, as the blocks say. */
function truthOf(snapshot: Snapshot): {
  readonly counts: ReadonlyMap<string, HandleBlocks>;
  readonly inDoubt: ReadonlySet<string>;
} {
  const counts = new Map<string, Record<string, number>>();
  const inDoubt = new Set<string>();
  for (const block of liveBlocks(snapshot)) {
    const damaged = isDamaged(block);
    if (damaged)
      for (const { handle_id: id } of block.spec.attributes) if (id !== undefined) inDoubt.add(withoutTail(id));
    for (const { attribute } of recordedAddresses(block)) {
      const { handle_id: handleID } = attribute;
      if (handleID === undefined || handleID === "" || handleID === WINDOWS_RESERVED_HANDLE) continue;
      const own = counts.get(withoutTail(handleID)) ?? {};
      own[block.spec.cidr] = (own[block.spec.cidr] ?? 0) + 1;
      counts.set(withoutTail(handleID), own);
    }
  }
  return { counts, inDoubt };
}

function judge(handle: IPAMHandle, actual: HandleBlocks, restedMs: number): readonly Finding[] {
  const { metadata, spec } = handle;
  const object = { kind: "IPAMHandle", name: metadata.name };
  const identity = metadata.resourceVersion ?? "";
  const findings: Finding[] = [];
  if (metadata.name !== handleName(spec.handleID)) {
    const reason = `the handle ${spec.handleID} must be named ${handleName(spec.handleID)}: under another name no client finds it`;
    const nextStep = `kubectl delete ipamhandle ${metadata.name}`;
    findings.push({ code: "wrongName", severity: "error", object, reason, nextStep, identity });
  }
  const isAtRest = restedMs >= HANDLE_REST_MS;
  const whenFixed = isAtRest
    ? "gingham ipam check --fix"
    : `an ADD may be at work; if it stays: gingham ipam check --fix --wait ${HANDLE_REST_MS / 60_000}m`;
  if (Object.keys(actual).length === 0) {
    const { name, resourceVersion = "" } = metadata;
    const orphan = { name, handleID: spec.handleID, resourceVersion };
    findings.push({
      code: "orphanHandle",
      severity: "warning",
      object,
      reason: `counts ${countsText(spec.block)}, and no block has an address of it`,
      nextStep: whenFixed,
      ...(isAtRest && { fix: { kind: "deleteHandle", orphan } as const }),
      identity,
    });
    return findings;
  }
  const cidrs = [...new Set([...Object.keys(spec.block), ...Object.keys(actual)])].sort();
  const tooFew = cidrs.filter((cidr) => (spec.block[cidr] ?? 0) < (actual[cidr] ?? 0));
  const tooMany = cidrs.filter((cidr) => (spec.block[cidr] ?? 0) > (actual[cidr] ?? 0));
  if (tooFew.length > 0) {
    // More is never wrong: raise what is too low, leave the rest.
    const counts = { ...spec.block, ...Object.fromEntries(tooFew.map((cidr) => [cidr, actual[cidr] ?? 0])) };
    findings.push({
      code: "handleCountsTooFew",
      severity: "error",
      object,
      reason: `counts ${countsText(spec.block)}, the blocks have ${countsText(actual)}: a release by handle would leave addresses behind`,
      nextStep: "gingham ipam check --fix raises the count",
      fix: { kind: "setHandleCounts", handle, counts },
      identity,
    });
  } else if (tooMany.length > 0) {
    findings.push({
      code: "handleCountsTooMany",
      severity: "warning",
      object,
      reason: `counts ${countsText(spec.block)}, the blocks have ${countsText(actual)}: harmless, but the handle outlives its addresses`,
      nextStep: whenFixed,
      ...(isAtRest && { fix: { kind: "setHandleCounts", handle, counts: actual } as const }),
      identity,
    });
  }
  return findings;
}

function missing(handleID: string, counts: HandleBlocks, byName: ReadonlyMap<string, IPAMHandle>): Finding {
  const other = byName.get(handleName(handleID));
  const name = handleName(handleID);
  const whose = name === handleID ? "it" : `handle ID ${handleID}`;
  const taken = other === undefined ? "" : ` (IPAMHandle ${other.metadata.name} is of ${other.spec.handleID})`;
  return {
    code: "missingHandle",
    severity: "error",
    object: { kind: "IPAMHandle", name },
    reason: `blocks have ${countsText(counts)} of ${whose}, and there is no such handle${taken}: a release by handle would free nothing`,
    nextStep: other === undefined ? "gingham ipam check --fix creates it" : "rename the network of one of the two",
    ...(other === undefined && { fix: { kind: "createHandle", handleID, counts } as const }),
    identity: countsText(counts),
  };
}
