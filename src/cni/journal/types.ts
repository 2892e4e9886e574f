// SPDX-License-Identifier: Apache-2.0
import type { CIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";
import type { AttachmentID, PodRef } from "../types.ts";

/**
 * Why an address was given back: a DEL, now or after waiting; a DEL that the launcher had written down; GC; the undo of
 * an ADD that failed or died; the sweep, as the namespace was gone; the collector, as nobody had it; a fixed address that
 * went from another node to the next life of its pod.
 */
export type ReleaseReason = "DEL" | "pendingDEL" | "GC" | "undo" | "namespaceGone" | "replaced" | "leak" | "takeover";

interface AddressEventBase {
  /** Unix time. Units: milliseconds. */
  readonly atMs: number;
  readonly node: string;
  readonly handleID: string;
  /** Absent where only the block's owner record was known. */
  readonly attachment?: AttachmentID;
  readonly pod?: PodRef;
}

/** An address in its block, with the number that tells this assignment from every other. */
export interface AddressPlace {
  readonly ip: IP;
  readonly block: CIDR;
  readonly sequenceNumber: bigint;
}

export interface AssignedEvent extends AddressEventBase {
  readonly kind: "assigned";
  readonly place: AddressPlace;
}

export interface ReleasedEvent extends AddressEventBase {
  readonly kind: "released";
  /** Absent: whatever the node held under the handle. */
  readonly place?: AddressPlace;
  readonly why: ReleaseReason;
}

/** An address came to somebody, or was given back by this node. */
export type AddressEvent = AssignedEvent | ReleasedEvent;

/** A CNI call that has ended. */
export interface VerbEvent {
  /** When it began: Unix time. Units: milliseconds. */
  readonly atMs: number;
  readonly verb: string;
  readonly attachment: AttachmentID;
  readonly pod?: PodRef;
  readonly ips?: readonly IP[];
  readonly durationMs: number;
  /** Units: milliseconds, by step. */
  readonly stepsMs?: Readonly<Record<string, number>>;
  /** The number in the error object; 0 for success. */
  readonly code: number;
  /** What failed, or what a success has left to be done. */
  readonly message?: string;
}

/** What one node knows of an address. */
export interface AddressHistory {
  /** Oldest first. */
  readonly events: readonly AddressEvent[];
  /** Time of the oldest event of any address; absent: the journal is empty. Units: Unix milliseconds. */
  readonly sinceMs?: number;
}

/**
 * What happened on this node, for people who ask later. Nothing depends on it: both methods return at once and never
 * throw, and a crash may lose the last second.
 */
export interface Journal {
  address(event: AddressEvent): void;
  verb(event: VerbEvent): void;
}
