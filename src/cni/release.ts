// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../net/ip.ts";
import { bounded, type CNI } from "./commands/cni.ts";
import { givenBy, release } from "./delegation/delegate.ts";
import { CNIError, isNetnsGone } from "./errors.ts";
import type { ReleaseReason } from "./journal/types.ts";
import type { PodWiring, WiringQuery } from "./ports.ts";
import { keyOf } from "./records/attachment.ts";
import type { AttachmentID, AttachmentRecord, PodRef, ReleasingRecord } from "./types.ts";

/** What an attachment holds in the datastore. */
export type Held = Pick<ReleasingRecord, "handleID" | "allocations" | "delegation">;

/** Whose release it is and why, for the journal. */
export interface ReleaseNote {
  readonly why: ReleaseReason;
  readonly id?: AttachmentID;
  readonly pod?: PodRef;
}

/**
 * Takes a recorded attachment out of the kernel, and out of what Felix wants there first.
 *
 * Idempotent. A link is deleted only by what the record says of it, so never one of another boot or another sandbox.
 *
 * @throws WiringError; the record must then stay, since an address in use cannot be given back
 */
export async function removeFromKernel(cni: CNI, id: AttachmentID, record: AttachmentRecord): Promise<void> {
  await cni.endpoints.down(keyOf(id));
  if (record.state === "assigned") return;
  if (record.state !== "intent") {
    const link = record.state === "whole" ? record : record.link;
    if (link !== undefined && link.bootID === cni.host.bootID) {
      await cni.wiring.unwire({ hostIface: link.hostIface, hostIfIndex: link.hostIfIndex });
    }
    // A pod that another plugin wired was never annotated.
    if (link !== undefined) cni.podStatus?.detached(id, record.pod);
    return;
  }
  const { hostIface, netns } = record;
  if (hostIface === undefined || record.bootID !== cni.host.bootID) return;
  await unwireFromNetns(cni, { netns: netns.path, identity: netns.identity, contIface: id.ifName, hostIface });
}

/** Deletes a pair that no record tells more of. So its addresses, whose connections must be forgotten, are read in the pod. */
export async function unwireFromNetns(cni: CNI, pod: Parameters<PodWiring["unwireFromNetns"]>[0]): Promise<void> {
  const ips = await addressesIn(cni, pod);
  try {
    if (await cni.wiring.unwireFromNetns(pod)) cni.conntrack.released(ips);
  } catch (error) {
    // The kernel deletes a pair with the namespace of either end.
    if (!isNetnsGone(error)) throw error;
  }
}

async function addressesIn(
  cni: CNI,
  { netns, contIface, hostIface }: Omit<WiringQuery, "ips">,
): Promise<readonly IP[]> {
  try {
    const { contAddrs } = await cni.wiring.inspect({ netns, contIface, hostIface, ips: [] });
    return contAddrs.map(({ ip }) => ip);
  } catch (error) {
    // What cannot be read must not keep the pod from going.
    if (!isNetnsGone(error)) cni.log.warn({ netns, contIface, err: error }, "Addresses in the pod cannot be read");
    return [];
  }
}

/**
 * Gives addresses back, in bounded time. They are out of the kernel, and their tracked connections are forgotten soon
 * after, or by the next ADD that gets one.
 *
 * @throws IPAMError, CancelledError
 */
export async function giveBack(cni: CNI, held: Held, note: ReleaseNote, signal?: AbortSignal): Promise<void> {
  const { handleID, allocations, delegation } = held;
  if (delegation !== undefined) {
    cni.conntrack.released(givenBy(delegation));
    await release(cni, delegation, signal);
    return;
  }
  const what = `Release of handle ${handleID}`;
  // Before they are free, or an ADD that takes one at once would not know.
  if (allocations !== undefined) cni.conntrack.released(allocations.map(({ ip }) => ip));
  await bounded(cni.clock, { what, ms: cni.releaseWaitMs, ...(signal && { signal }) }, async (within) => {
    if (allocations === undefined) await cni.addresses.releaseByHandle(handleID, within);
    else if (allocations.length > 0) await cni.addresses.release(allocations, within);
  });
  noteReleased(cni, held, note);
}

function noteReleased(cni: CNI, { handleID, allocations }: Held, { why, id, pod }: ReleaseNote): void {
  const event = {
    kind: "released",
    atMs: cni.clock.nowMs(),
    node: cni.host.nodeName,
    handleID,
    ...(id && { attachment: id }),
    ...(pod && { pod }),
    why,
  } as const;
  if (allocations === undefined) cni.journal?.address(event);
  for (const place of allocations ?? []) cni.journal?.address({ ...event, place });
}

/** Why a record is undone that no DEL came for: who wrote it died, or waited for the datastore, or its pod has gone. */
const WHY_BY_STATE = { intent: "undo", releasing: "DEL", whole: "namespaceGone", assigned: "namespaceGone" } as const;

/**
 * Undoes a recorded attachment to the end, record included.
 *
 * @param why for the journal; absent: as the record's state tells
 * @throws WiringError, IPAMError, CNIError
 */
export async function releaseRecorded(
  cni: CNI,
  id: AttachmentID,
  record: AttachmentRecord,
  signal?: AbortSignal,
  why: ReleaseReason = WHY_BY_STATE[record.state],
): Promise<void> {
  refuseForeign(cni, id, record);
  await removeFromKernel(cni, id, record);
  const note = { why, id, ...(record.pod && { pod: record.pod }) };
  await giveBack(cni, heldBy(record), note, signal);
  await removeRecord(cni, id);
}

/**
 * Removes the record of an attachment that has nothing any more. A disk that refuses holds up nobody: this process takes the
 * record for removed, sweeps try it again, and whoever reads it after a restart releases what is free already, which the
 * interface's index and the handle's sequence number keep from being another pod's.
 *
 * @returns whether it is removed
 */
export async function removeRecord(cni: CNI, id: AttachmentID): Promise<boolean> {
  try {
    await cni.records.remove(id);
    return true;
  } catch (err) {
    cni.log.warn({ ...id, err }, "Attachment is released, but its record could not be removed; it is tried again");
    return false;
  }
}

/** An intent tells of no address yet, so only the handle finds what was taken. */
export function heldBy(record: AttachmentRecord): Held {
  const allocations = record.state === "intent" ? undefined : record.allocations;
  const { handleID, delegation } = record;
  return { handleID, ...(allocations !== undefined && { allocations }), ...(delegation && { delegation }) };
}

/** Whether an intent is another process's ADD that is still running. */
export function isUnderWayElsewhere(cni: CNI, record: AttachmentRecord): boolean {
  if (record.state !== "intent" || record.bootID !== cni.host.bootID) return false;
  const { executor } = record;
  const ours = executor.pid === cni.host.executor.pid && executor.startTicks === cni.host.executor.startTicks;
  return !ours && cni.host.isAlive(executor);
}

/** @throws CNIError TryAgainLater while another process adds this attachment */
export function refuseForeign(cni: CNI, id: AttachmentID, record: AttachmentRecord): void {
  if (record.state !== "intent" || !isUnderWayElsewhere(cni, record)) return;
  throw new CNIError(
    "TryAgainLater",
    `Attachment ${keyOf(id)} is being added by process ${record.executor.pid}; try again when it has ended`,
  );
}
