// SPDX-License-Identifier: Apache-2.0
import { describeError } from "../../lib/errors.ts";

/** Why something that others may expect is not there, or is there in a doubtful way. Stable; label of a metric. */
export type FindingCode =
  | "DuplicateBlockClaim"
  | "OverlappingBlocks"
  | "EncapsulationUnsupported"
  | "EncapsulationDisabled"
  | "BlockOutsidePools"
  | "UnknownNode"
  | "NodeWithoutAddress"
  | "NodeWithoutTunnel"
  | "DuplicateVTEP"
  | "TunnelWaits"
  | "TunnelRefused"
  | "PodMTUTooLarge"
  | "TunnelMTUTooLarge"
  | "PathMTUTooSmall"
  | "BlockIsHostAddress"
  | "WorkloadIsHostAddress"
  | "DuplicateWorkloadAddress"
  | "MalformedObject"
  | "RouteWaits"
  | "RouteRefused"
  | "ForwardingOff"
  | "SettingRefused"
  | "PacketFilterOff"
  | "SelfTestFailed"
  | "ConfigIgnored"
  | "ConfigUnsupported"
  | "ConfigNeedsRestart"
  | "ConfigUnreadable"
  | "NodeAddressNotFound"
  | "AmbiguousNodeAddress"
  | "DuplicateNodeAddress"
  | "NetworkManagerManages"
  | "NetworkdRemovesRoutes"
  | "FirewalldBlocks"
  | "ForwardDropped"
  | "TunnelDropped"
  | "StrictReversePath"
  | "ForwardingSwitchedOff"
  | "CalicoAgentRuns"
  | "CalicoLeftovers"
  | "PodNotAdopted"
  | "NetworkConfigNotFirst";

/**
 * A fact about the present state that a person should know. Pure code returns these; the shell logs each once, when it
 * appears. `subject` names the object and is unique within a code.
 */
export interface Finding {
  readonly code: FindingCode;
  readonly subject: string;
  readonly message: string;
}

/** One finding in the making; those of the same code and subject are told as one, with the number of destinations. */
export interface Note {
  readonly code: FindingCode;
  readonly subject: string;
  /** Shape: the same text for every note of the code and subject. */
  readonly detail: string;
}

/** What is to be told of the inputs: notes by what they are about, and what is malformed, by object. */
export class FindingBook {
  readonly #notes = new Map<string, readonly Note[]>();
  readonly #malformed = new Map<string, string>();
  #findings: readonly Finding[] | undefined;

  /** Shape: sorted by code and subject. */
  all(): readonly Finding[] {
    this.#findings ??= collectFindings(this.#notes, this.#malformed);
    return this.#findings;
  }

  /** Replaces the notes about something. */
  setNotes(key: string, notes: readonly Note[]): void {
    if (notes.length === 0 && !this.#notes.has(key)) return;
    if (notes.length === 0) this.#notes.delete(key);
    else this.#notes.set(key, notes);
    this.#findings = undefined;
  }

  /** Reads an object; undefined, and malformed from now on, when that throws. */
  read<T>(subject: string, parse: () => T): T | undefined {
    try {
      const value = parse();
      this.setMalformed(subject, undefined);
      return value;
    } catch (error) {
      this.setMalformed(subject, `ignored: ${describeError(error)}`);
      return undefined;
    }
  }

  /** @param message undefined: it is well-formed, or gone */
  setMalformed(subject: string, message: string | undefined): void {
    if (message === undefined && !this.#malformed.has(subject)) return;
    if (message === undefined) this.#malformed.delete(subject);
    else this.#malformed.set(subject, message);
    this.#findings = undefined;
  }
}

/**
 * Makes findings of the notes of all destinations and of what was malformed (message by object).
 *
 * Shape: sorted by code and subject.
 */
export function collectFindings(
  notes: ReadonlyMap<string, readonly Note[]>,
  malformed: ReadonlyMap<string, string>,
): readonly Finding[] {
  const groups = new Map<string, { note: Note; destinations: number }>();
  for (const note of [...notes.values()].flat()) {
    const id = `${note.code} ${note.subject}`;
    const group = groups.get(id);
    if (group === undefined) groups.set(id, { note, destinations: 1 });
    else group.destinations++;
  }
  const byID: [string, Finding][] = [...groups].map(([id, { note, destinations }]) => {
    const { code, subject, detail } = note;
    const message = `${subject}: ${detail}${destinations > 1 ? ` (${destinations} destinations)` : ""}`;
    return [id, { code, subject, message }];
  });
  for (const [subject, message] of malformed) {
    byID.push([`MalformedObject ${subject}`, { code: "MalformedObject", subject, message: `${subject} ${message}` }]);
  }
  return byID.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, finding]) => finding);
}
