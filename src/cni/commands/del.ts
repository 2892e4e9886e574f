// SPDX-License-Identifier: Apache-2.0
import type { CIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";
import { givenBy, isRefusal } from "../delegation/delegate.ts";
import type { Delegation } from "../delegation/types.ts";
import { CancelledError, isNetnsGone } from "../errors.ts";
import { handleIDOf, hostIfaceOf } from "../iface-name.ts";
import type { ReleaseReason } from "../journal/types.ts";
import type { Turn } from "../locks.ts";
import type { StoredRecord } from "../ports.ts";
import { keyOf } from "../records/attachment.ts";
import {
  giveBack,
  type Held,
  heldBy,
  refuseForeign,
  removeFromKernel,
  removeRecord,
  unwireFromNetns,
} from "../release.ts";
import type { Envelope } from "../server/envelope.ts";
import type { AssignedRecord, AttachmentID, PodRef, WholeRecord } from "../types.ts";
import { bounded, type CNI } from "./cni.ts";
import { type Stopwatch, startStopwatch } from "./stopwatch.ts";

/** A checked DEL. */
export interface DelRequest {
  readonly id: AttachmentID;
  /** Empty when the runtime knows of no namespace any more. */
  readonly netns: string;
  readonly pod?: PodRef;
  /** The other IPAM plugin that the configuration names; it counts when no record tells who gave the addresses. */
  readonly delegation?: Delegation;
  /** For the journal; absent: DEL. */
  readonly why?: ReleaseReason;
  /** The call as it came, to be written down if it cannot be done now; absent: it waits. */
  readonly call?: Envelope;
  /** What the launcher writes down when it waits no longer for the answer. */
  readonly pendingName?: string;
}

/** How long a DEL waits for an ADD that undoes itself and for the datastore, both together. */
const PATIENCE_MS = 800;

/** What became of a DEL. Both are a success for the caller. */
export type DelOutcome = {
  readonly found: StoredRecord["kind"];
  /** Empty where no record tells which addresses the attachment had. */
  readonly ips: readonly IP[];
  /** Of the addresses that are out of our own blocks. */
  readonly blocks: readonly CIDR[];
  /** How long each step took. */
  readonly stepsMs: Readonly<Record<string, number>>;
} & (
  | { readonly kind: "released" }
  /** Datastore or ADD did not answer: a record says `releasing`, or a pending release is written, and the sweep goes on. */
  | { readonly kind: "deferred"; readonly error: unknown }
);

/**
 * Removes an attachment: kernel first, so that no address in use is given back, then the addresses, then the record.
 *
 * Idempotent: nothing to remove is a success. A running ADD of the attachment is cancelled, and its undo waited for; but
 * a DEL waits less than a second for the datastore: what that does not take by then, somebody else finishes later.
 *
 * @throws WiringError when the kernel refuses, CNIError TryAgainLater while another process adds this attachment
 */
export async function del(cni: CNI, request: DelRequest): Promise<DelOutcome> {
  const cancel = (): Error => new CancelledError(`ADD of ${keyOf(request.id)}`, "a DEL of the same attachment arrived");
  const watch = startStopwatch(cni.clock);
  const deadlineMs = cni.clock.nowMs() + PATIENCE_MS;
  const key = keyOf(request.id);
  // Before it would cancel the ADD that came after it.
  const settled = settledElsewhere(cni, request, watch);
  if (settled !== undefined) return settled;
  const call = cni.locks.isHeld(key) ? request.call : undefined;
  if (call === undefined) {
    using _turn = await cni.locks.acquire(key, { cancel });
    watch.lap("lock");
    return await delOnce(cni, request, { watch, deadlineMs });
  }
  let turn: Turn;
  try {
    turn = await bounded(cni.clock, { what: `DEL of ${key}`, ms: PATIENCE_MS }, (signal) =>
      cni.locks.acquire(key, { cancel, signal }),
    );
  } catch (error) {
    await cni.pending.add(call, cni.clock.nowNs());
    watch.lap("lock");
    return { kind: "deferred", found: "absent", ips: [], blocks: [], stepsMs: watch.stepsMs(), error };
  }
  using _turn = turn;
  watch.lap("lock");
  return await delOnce(cni, request, { watch, deadlineMs });
}

/**
 * The launcher of a DEL may have waited long enough, written the DEL down and answered its runtime. What it wrote is done
 * with this DEL.
 */
async function delOnce(cni: CNI, request: DelRequest, timing: Timing): Promise<DelOutcome> {
  const settled = settledElsewhere(cni, request, timing.watch);
  if (settled !== undefined) return settled;
  const outcome = await delLocked(cni, request, timing);
  const { pendingName } = request;
  if (pendingName !== undefined && (await cni.pending.has(pendingName))) {
    await cni.pending.remove(pendingName).catch((err: unknown) => {
      // Done once more by a sweep, or by the next ADD before it makes anything.
      cni.log.warn({ op: "DEL", ...request.id, file: pendingName, err }, "What was written down could not be removed");
    });
  }
  return outcome;
}

/** If what the launcher wrote has been worked off, maybe by a later ADD, this DEL would take away what that ADD made. */
function settledElsewhere(cni: CNI, { id, pendingName }: DelRequest, watch: Stopwatch): DelOutcome | undefined {
  if (pendingName === undefined || !cni.pending.wasRemoved(pendingName)) return undefined;
  cni.log.info({ op: "DEL", ...id, file: pendingName }, "Nothing to do: it was written down and worked off meanwhile");
  return { kind: "released", found: "absent", ips: [], blocks: [], stepsMs: watch.stepsMs() };
}

interface Timing {
  readonly watch: Stopwatch;
  /** Units: Unix milliseconds. */
  readonly deadlineMs: number;
}

/** The same for somebody who holds the attachment's lock. */
export async function delLocked(
  cni: CNI,
  request: DelRequest,
  { watch, deadlineMs }: Timing = {
    watch: startStopwatch(cni.clock),
    deadlineMs: cni.clock.nowMs() + PATIENCE_MS,
  },
): Promise<DelOutcome> {
  const { id, why = "DEL" } = request;
  const stored = await cni.records.read(id);
  // A kernel that is slow with many pods at once takes nothing of the datastore's time: else no release of theirs would come in time.
  const patienceMs = Math.max(1, deadlineMs - cni.clock.nowMs());
  const held = await remove(cni, request, stored);
  watch.lap("kernel");
  const blocks = held.allocations?.map(({ block }) => block) ?? [];
  const told = { found: stored.kind, ips: addressesOf(held), blocks };
  const pod = (stored.kind === "record" ? stored.record.pod : undefined) ?? request.pod;
  try {
    const note = { why, id, ...(pod && { pod }) };
    const limits = { what: `DEL of ${keyOf(id)}`, ms: patienceMs };
    await bounded(cni.clock, limits, (signal) => giveBack(cni, held, note, signal));
  } catch (error) {
    if (stored.kind !== "absent" || !isRefusal(error)) {
      // A readable record says already what is to be done; otherwise neither a crash nor a reboot may lose it.
      if (stored.kind !== "record") {
        const recorded = await cni.records.create(id, { state: "releasing", ...held, atMs: cni.clock.nowMs() });
        await recorded.durable;
      }
      watch.lap("release");
      return { kind: "deferred", ...told, stepsMs: watch.stepsMs(), error };
    }
    cni.log.warn({ op: "DEL", ...id, err: error }, "IPAM plugin refuses, and no record says that it gave anything");
  }
  await removeRecord(cni, id);
  watch.lap("release");
  return { kind: "released", ...told, stepsMs: watch.stepsMs() };
}

function addressesOf({ allocations = [], delegation }: Held): readonly IP[] {
  return delegation === undefined ? allocations.map(({ ip }) => ip) : givenBy(delegation);
}

async function remove(cni: CNI, request: DelRequest, stored: StoredRecord): Promise<Held> {
  if (stored.kind === "record") {
    refuseForeign(cni, request.id, stored.record);
    const { record } = stored;
    if (record.state === "whole" || record.state === "assigned") await markReleasing(cni, request.id, record);
    await removeFromKernel(cni, request.id, stored.record);
    return heldBy(stored.record);
  }
  if (stored.kind === "broken") {
    cni.log.error({ op: "DEL", ...request.id, reason: stored.reason }, "Record is unreadable: released by its handle");
  }
  const owner = { ...request.id, nodeName: cni.host.nodeName, ...(request.pod && { pod: request.pod }) };
  await removeUnrecorded(cni, request, hostIfaceOf(owner));
  return { handleID: handleIDOf(owner), ...(request.delegation && { delegation: request.delegation }) };
}

/** Without a record the namespace at hand tells which pair is meant: its end in there, with the host's end as named. */
async function removeUnrecorded(cni: CNI, { id, netns }: DelRequest, hostIface: string): Promise<void> {
  await cni.endpoints.down(keyOf(id));
  // The only pair of that name is then another attachment's: the container's in another network, or another container's.
  const isOthers = (cni.endpoints.on(hostIface)?.hostIfIndex ?? 0) !== 0;
  if (netns === "" || isOthers) return;
  try {
    const identity = await cni.wiring.identifyNetns(netns);
    await unwireFromNetns(cni, { netns, identity, contIface: id.ifName, hostIface });
  } catch (error) {
    if (!isNetnsGone(error)) throw error;
  }
}

async function markReleasing(cni: CNI, id: AttachmentID, record: WholeRecord | AssignedRecord): Promise<void> {
  const { handleID, pod, delegation, allocations, bootID } = record;
  const link = record.state === "whole" && { bootID, hostIface: record.hostIface, hostIfIndex: record.hostIfIndex };
  const shared = { handleID, ...(pod && { pod }), ...(delegation && { delegation }), atMs: cni.clock.nowMs() };
  try {
    await cni.records.append(id, { state: "releasing", ...shared, ...(link && { link }), allocations });
  } catch (error) {
    // A full disk must not keep a pod from going; only a crash within this DEL would make it matter.
    cni.log.warn({ op: "DEL", ...id, err: error }, "Record could not be marked; the DEL goes on");
  }
}
