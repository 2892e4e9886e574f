// SPDX-License-Identifier: Apache-2.0
import type { HeldAddress } from "../../ipam/gc/types.ts";
import { formatIP } from "../../net/ip.ts";
import { isDead } from "../reconcile.ts";
import { keyOf } from "../records/attachment.ts";
import { giveBack, heldBy, isUnderWayElsewhere, releaseRecorded } from "../release.ts";
import type { AssignedRecord, AttachmentID, AttachmentRecord, WholeRecord } from "../types.ts";
import type { CNI } from "./cni.ts";

/**
 * Frees an address that an earlier sandbox of the same pod holds on this node, if that sandbox is dead or being released.
 * The runtime may ask for the new sandbox before the DEL of the old one is through, or without one after a crash.
 *
 * The holder was read before the records are, and every attachment writes its record before it takes an address: what is
 * in no record is nobody's of ours. A route would show that it is another plugin's.
 *
 * @returns why it is not freed, and what can be done; undefined when it is free
 * @throws WiringError, IPAMError
 */
export async function releaseEarlier(
  cni: CNI,
  self: AttachmentID,
  holder: HeldAddress,
  signal: AbortSignal,
): Promise<string | undefined> {
  const earlier = await findRecorded(cni, self, holder);
  if (earlier !== undefined) return await releaseIfDead(cni, earlier, holder, signal);
  const routes = await cni.holders?.routed();
  if (routes === undefined || routes.has(formatIP(holder.ip))) {
    return "this node has no record of that sandbox, which may be another plugin's; remove it there";
  }
  await giveBack(cni, { handleID: holder.handleID, allocations: [holder] }, { why: "leak" }, signal);
  return undefined;
}

async function releaseIfDead(
  cni: CNI,
  id: AttachmentID,
  holder: HeldAddress,
  signal: AbortSignal,
): Promise<string | undefined> {
  // A DEL of it that is under way is waited for.
  using _turn = await cni.locks.acquire(keyOf(id), { signal });
  const stored = await cni.records.read(id);
  if (stored.kind === "absent") return undefined;
  if (stored.kind === "broken") return `the record of its sandbox ${id.containerID} cannot be read; a DEL of it helps`;
  const { record } = stored;
  if (!holds(record, holder)) return undefined;
  const isLive = isUnderWayElsewhere(cni, record) || (isMade(record) && !(await isDead(cni, record)));
  if (isLive)
    return `its earlier sandbox ${id.containerID} is still there; it is free when the runtime has removed that`;
  await releaseRecorded(cni, id, record, signal);
  return undefined;
}

function isMade(record: AttachmentRecord): record is WholeRecord | AssignedRecord {
  return record.state === "whole" || record.state === "assigned";
}

async function findRecorded(cni: CNI, self: AttachmentID, holder: HeldAddress): Promise<AttachmentID | undefined> {
  for (const id of await cni.records.list()) {
    if (keyOf(id) === keyOf(self)) continue;
    const stored = await cni.records.read(id);
    if (stored.kind === "record" && holds(stored.record, holder)) return id;
    // What cannot be read may be it.
    if (stored.kind === "broken" && holder.handleID === `${id.network}.${id.containerID}`) return id;
  }
  return undefined;
}

/** Of an intent nobody knows the addresses. */
function holds(record: AttachmentRecord, { handleID, ip }: HeldAddress): boolean {
  const { allocations } = heldBy(record);
  return record.handleID === handleID && (allocations === undefined || allocations.some((own) => own.ip === ip));
}
