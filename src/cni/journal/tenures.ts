// SPDX-License-Identifier: Apache-2.0
import type { AttachmentID, PodRef } from "../types.ts";
import type { AddressEvent, AssignedEvent, ReleasedEvent, ReleaseReason } from "./types.ts";

/** Somebody's time with an address. */
export interface Tenure {
  readonly node: string;
  readonly handleID: string;
  readonly attachment?: AttachmentID;
  readonly pod?: PodRef;
  /** Absent: before the journal begins. Units: Unix milliseconds. */
  readonly fromMs?: number;
  /** Absent: no release was seen. Units: Unix milliseconds. */
  readonly toMs?: number;
  readonly why?: ReleaseReason;
  readonly sequenceNumber?: bigint;
}

/**
 * Who had an address, from when to when, out of what all nodes noted of it; oldest first.
 *
 * Handle and sequence number tell one assignment from every other, so nodes' clocks may differ. A release by handle names
 * no address: it ends what its node had assigned under the handle before.
 */
export function tenuresOf(events: readonly AddressEvent[]): readonly Tenure[] {
  const tenures = new Map<string, Tenure>();
  for (const event of events) if (event.kind === "assigned") tenures.set(keyOf(event.handleID, event), begun(event));
  const released = events.filter((event) => event.kind === "released").toSorted((a, b) => a.atMs - b.atMs);
  for (const event of released) {
    for (const [key, tenure] of endedBy(event, tenures)) {
      // The first release counts: a DEL may be repeated.
      if (tenure.toMs === undefined) tenures.set(key, { ...tenure, toMs: event.atMs, why: event.why });
    }
  }
  return [...tenures.values()].sort((a, b) => orderOf(a) - orderOf(b));
}

function begun({ node, handleID, attachment, pod, atMs, place }: AssignedEvent): Tenure {
  return {
    node,
    handleID,
    ...(attachment && { attachment }),
    ...(pod && { pod }),
    fromMs: atMs,
    sequenceNumber: place.sequenceNumber,
  };
}

function endedBy(event: ReleasedEvent, tenures: ReadonlyMap<string, Tenure>): readonly (readonly [string, Tenure])[] {
  const { node, handleID, attachment, pod, place, atMs } = event;
  if (place === undefined) {
    return [...tenures].filter(([, t]) => t.node === node && t.handleID === handleID && (t.fromMs ?? 0) <= atMs);
  }
  const key = keyOf(handleID, { place });
  // Assigned before the journal begins.
  const unseen = { node, handleID, sequenceNumber: place.sequenceNumber };
  return [[key, tenures.get(key) ?? { ...unseen, ...(attachment && { attachment }), ...(pod && { pod }) }]];
}

function keyOf(handleID: string, { place }: Pick<AssignedEvent, "place">): string {
  return `${place.sequenceNumber} ${handleID}`;
}

/** What has no beginning ends before the others begin. */
function orderOf({ fromMs, toMs }: Tenure): number {
  return fromMs ?? toMs ?? 0;
}
