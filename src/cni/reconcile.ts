// SPDX-License-Identifier: Apache-2.0

import { bounded, type CNI } from "./commands/cni.ts";
import { workOffPending } from "./commands/pending.ts";
import { CancelledError, isNetnsGone, isTransient } from "./errors.ts";
import { canSee, isSameFile, keyOf } from "./records/attachment.ts";
import { isUnderWayElsewhere, releaseRecorded, removeRecord } from "./release.ts";
import type { AttachmentID, AttachmentRecord, WholeRecord } from "./types.ts";

/** What a sweep found and did. */
export interface SweepSummary {
  /** Attachments that are as their record says. */
  readonly live: number;
  /** Attachments that are released now. */
  readonly released: number;
  /** DELs that the launcher had written down. */
  readonly pending: number;
  /** To be released, but the kernel or the datastore did not let us; tried again by the next sweep. */
  readonly postponed: number;
  /** Records that cannot be read. */
  readonly broken: number;
}

type Finding = "live" | "released" | "postponed" | "broken" | "busy";

/** Sweeps side by side; group commit makes few block writes of the releases that wait together. */
const CONCURRENCY = 32;
/** Of releases that were left on a machine without an agent: at once, how old, and how long a caller waits for them. */
const MAX_LEFT_RELEASES = 16;
const LEFT_RELEASE_AGE_MS = 10_000;
const LEFT_RELEASES_WAIT_MS = 2000;

/**
 * Tells the listener of every endpoint that the records call live. Local and fast: no datastore is asked, so an agent
 * can do this before Felix compares the kernel with what it wants.
 */
export async function announce(cni: CNI): Promise<number> {
  const live: { readonly id: AttachmentID; readonly record: WholeRecord }[] = [];
  for (const id of await cni.records.list()) {
    try {
      const stored = await cni.records.read(id);
      if (stored.kind !== "record" || stored.record.state !== "whole") continue;
      if (!(await isDead(cni, stored.record))) live.push({ id, record: stored.record });
    } catch (error) {
      cni.log.error({ op: "announce", ...id, err: error }, "Attachment cannot be examined; the sweep tries it again");
    }
  }
  // Of two sandboxes of one pod, which share the name of the host's end, the younger has the link.
  live.sort((a, b) => a.record.atMs - b.record.atMs);
  for (const { id, record } of live) await bringUp(cni, id, record);
  return live.length;
}

/** What an agent does when it starts: announce, work off what the launcher wrote down, then sweep. */
export async function recover(cni: CNI): Promise<SweepSummary> {
  await announce(cni);
  return sweep(cni);
}

/**
 * Brings records and world together: intents that a crash left are undone, releases that waited are finished,
 * attachments whose namespace is dead are released. One bad record never stops the rest, and what a running command
 * holds the lock of is left alone.
 */
export async function sweep(cni: CNI): Promise<SweepSummary> {
  const pending = await workOffPending(cni).catch((error: unknown) => {
    cni.log.error({ op: "sweep", err: error }, "Pending releases cannot be read; they are tried again");
    return 0;
  });
  const counts = { live: 0, released: 0, postponed: 0, broken: 0, busy: 0 };
  const ids = [...(await cni.records.list())];
  // While the datastore is away, each release would wait for its whole time.
  const trouble = { datastoreAway: false };
  const worker = async () => {
    for (let id = ids.pop(); id !== undefined; id = ids.pop()) counts[await reconcile(cni, id, trouble)]++;
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, ids.length) }, worker));
  const { busy: _, ...rest } = counts;
  return { ...rest, pending };
}

/** Sweeps until the signal aborts, the given time after the end of the one before. Never rejects. */
export async function sweepPeriodically(cni: CNI, intervalMs: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await cni.clock.sleep(intervalMs, signal);
      const summary = await sweep(cni);
      if (summary.released + summary.pending > 0)
        cni.log.info({ op: "sweep", ...summary }, "Attachments were cleaned up");
      if (summary.postponed > 0) cni.log.warn({ op: "sweep", ...summary }, "Attachments wait for their release");
    } catch (error) {
      if (!signal.aborted) cni.log.error({ op: "sweep", err: error }, "Sweep of attachments failed; it is tried again");
    }
  }
}

/**
 * Looks for pending releases often, since an agent that was slow or hung for a moment finds some that nobody else is in a
 * hurry for. What fails is left to the sweeps. Never rejects.
 */
export async function workOffPeriodically(cni: CNI, intervalMs: number, signal: AbortSignal): Promise<void> {
  const failed = new Set<string>();
  while (!signal.aborted) {
    try {
      await cni.clock.sleep(intervalMs, signal);
      await workOffPending(cni, failed);
    } catch (error) {
      if (!signal.aborted)
        cni.log.debug({ op: "sweep", err: error }, "Pending releases cannot be read; the sweep tells");
    }
  }
}

/**
 * Finishes releases and undoes half-made attachments that earlier calls of a machine without an agent had to leave, for
 * nobody else does. A few at a time
 * and for a moment only, since a runtime waits. One that was left just now tells that the datastore is away: then none is
 * tried, and in time another process is done with it. Never rejects.
 */
export async function finishReleases(cni: CNI): Promise<void> {
  const trouble = { datastoreAway: false };
  const limits = { what: "Releases that were left", ms: LEFT_RELEASES_WAIT_MS };
  try {
    const left: AttachmentID[] = [];
    for (const id of await cni.records.list()) {
      const stored = await cni.records.read(id);
      if (stored.kind !== "record") continue;
      const { record } = stored;
      if (record.state === "releasing" && cni.clock.nowMs() - record.atMs < LEFT_RELEASE_AGE_MS) return;
      const isLeft = record.state === "releasing" || (record.state === "intent" && !isUnderWayElsewhere(cni, record));
      if (isLeft) left.push(id);
    }
    await bounded(cni.clock, limits, async (signal) => {
      for (const id of left.slice(0, MAX_LEFT_RELEASES)) if (!signal.aborted) await reconcile(cni, id, trouble);
    });
  } catch (err) {
    cni.log.warn({ op: "sweep", err }, "Releases that were left could not be finished; the next call tries it again");
  }
}

async function reconcile(cni: CNI, id: AttachmentID, trouble: { datastoreAway: boolean }): Promise<Finding> {
  const key = keyOf(id);
  if (cni.locks.isHeld(key)) return "busy";
  try {
    using turn = await cni.locks.acquire(key, { yields: true });
    const stored = await cni.records.read(id);
    if (stored.kind === "absent") {
      // Removed meanwhile, or could not be; or a torn first line, whose writer died before the first outside effect.
      return (await removeRecord(cni, id)) ? "busy" : "postponed";
    }
    if (stored.kind === "broken") {
      cni.log.error(
        { op: "sweep", ...id, reason: stored.reason },
        "Record is unreadable; a DEL releases it by its handle",
      );
      return "broken";
    }
    const { record } = stored;
    if (isUnderWayElsewhere(cni, record)) return "busy";
    let isReplaced = false;
    const isMade = record.state === "whole" || record.state === "assigned";
    if (isMade && !(await isDead(cni, record))) {
      const other = record.state === "whole" ? cni.endpoints.on(record.hostIface) : undefined;
      if (record.state === "whole" && other === undefined) await bringUp(cni, id, record);
      // Making a newer sandbox's link has deleted the one of this name, so this pod has none: its runtime forgot it.
      isReplaced = other !== undefined && other.key !== key && other.hostIfIndex !== 0;
      if (!isReplaced) return "live";
    }
    if (trouble.datastoreAway) return "postponed";
    await releaseRecorded(cni, id, record, turn.signal, isReplaced ? "replaced" : undefined);
    cni.log.info({ op: "sweep", ...id, state: record.state, ...record.pod }, "Attachment was released");
    return "released";
  } catch (error) {
    if (error instanceof CancelledError && cni.locks.isHeld(key)) return "busy";
    // Several are tried at once, and one of them says it for all.
    const isTold = trouble.datastoreAway && isTransient(error);
    trouble.datastoreAway ||= isTransient(error);
    const level = isTold ? "debug" : "warn";
    cni.log[level]({ op: "sweep", ...id, err: error }, "Attachment could not be released; it is tried again");
    return "postponed";
  }
}

/**
 * Whether the namespace of an attachment is gone for certain: another boot, or its path is missing or another file's
 * although it could be seen from here.
 */
export async function isDead(cni: CNI, record: Exclude<AttachmentRecord, { state: "releasing" }>): Promise<boolean> {
  const { bootID, netns } = record;
  if (bootID !== cni.host.bootID) return true;
  try {
    if (isSameFile(await cni.wiring.identifyNetns(netns.path), netns.identity)) return false;
  } catch (error) {
    if (!isNetnsGone(error)) throw error;
  }
  return canSee(netns, await cni.host.vantageOf(netns.path));
}

async function bringUp(cni: CNI, id: AttachmentID, record: WholeRecord): Promise<void> {
  const key = keyOf(id);
  const { hostIface, hostIfIndex, result, allowedSourcePrefixes } = record;
  const sources = allowedSourcePrefixes && { allowedSourcePrefixes };
  await cni.endpoints.up({ key, hostIface, hostIfIndex, ips: result.ips, ...sources });
}
