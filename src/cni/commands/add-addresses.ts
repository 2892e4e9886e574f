// SPDX-License-Identifier: Apache-2.0

import { assignOnSegment } from "../ipam-plugin/assign.ts";
import { type IPAMCaller, resultOf } from "../ipam-plugin/segment.ts";
import { isAssigned, keyOf } from "../records/attachment.ts";
import { releaseRecorded } from "../release.ts";
import type { AssignedRecord } from "../types.ts";
import { type AddRequest, type Attaching, lookAtNetns, planAttachment, planIntent, readEarlier } from "./add.ts";
import { lookUpOwner } from "./assign.ts";
import type { CNI } from "./cni.ts";
import { refuseOtherNode } from "./own-node.ts";
import { type Stopwatch, startStopwatch } from "./stopwatch.ts";
import { undoOf } from "./undo.ts";

/** Addresses that another plugin will give to a pod, and whether they were taken before. */
export interface AddressesOutcome {
  readonly record: AssignedRecord;
  readonly existed: boolean;
  readonly stepsMs: Readonly<Record<string, number>>;
}

/**
 * ADD for IPAM alone: intent on disk, addresses, their record on disk. The kernel is the calling plugin's; the namespace
 * still says whether the attachment lives, so that sweep, GC and collector treat it as any other.
 *
 * Atomic, like `add`.
 *
 * @throws CNIError, IPAMError
 */
export async function addAddresses(
  cni: CNI,
  request: AddRequest,
  caller: IPAMCaller,
  signal?: AbortSignal,
): Promise<AddressesOutcome> {
  const watch = startStopwatch(cni.clock);
  refuseOtherNode(cni, request.conf);
  const { id } = request;
  using turn = await cni.locks.acquire(keyOf(id), { yields: true, ...(signal && { signal }) });
  watch.lap("lock");
  const netns = await lookAtNetns(cni, request.netns);
  const earlier = await readEarlier(cni, id);
  if (earlier !== undefined && isAssigned(earlier, cni.host.bootID, netns.identity)) {
    return { record: earlier, existed: true, stepsMs: watch.stepsMs() };
  }
  if (earlier !== undefined) await releaseRecorded(cni, id, earlier, turn.signal);
  watch.lap("look");
  const attaching = { id, plan: planAttachment(cni, request), netns };
  const record = await take(cni, attaching, caller, watch, turn.signal);
  return { record, existed: false, stepsMs: watch.stepsMs() };
}

async function take(
  cni: CNI,
  attaching: Attaching,
  caller: IPAMCaller,
  watch: Stopwatch,
  signal: AbortSignal,
): Promise<AssignedRecord> {
  const { id, plan } = attaching;
  const owner = await lookUpOwner(cni, plan, signal);
  const intent = planIntent(cni, attaching);
  await using undo = undoOf(cni, id, intent);
  const recorded = await cni.records.create(id, intent);
  watch.lap("intent");
  signal.throwIfAborted();
  const { allocations, pod, given } = await assignOnSegment(cni, attaching, caller, { owner, undo, signal });
  await cni.conntrack.settled(allocations.map(({ ip }) => ip));
  watch.lap("assign");
  await recorded.durable;
  watch.lap("sync");
  signal.throwIfAborted();
  const { executor: _, hostIface: __, ...shared } = intent;
  const record: AssignedRecord = {
    ...shared,
    state: "assigned",
    ...(pod && { pod }),
    allocations,
    result: resultOf(caller, given),
    atMs: cni.clock.nowMs(),
  };
  undo.recordTried();
  await cni.records.append(id, record);
  watch.lap("record");
  undo.commit();
  return record;
}
