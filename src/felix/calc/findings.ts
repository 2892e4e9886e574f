// SPDX-License-Identifier: Apache-2.0

/** Why something that others may expect is not there, or is there in a doubtful way. Stable; label of a metric. */
export type FindingCode =
  | "DuplicateBlockClaim"
  | "OverlappingBlocks"
  | "EncapsulationUnsupported"
  | "BlockOutsidePools"
  | "UnknownNode"
  | "NodeWithoutAddress"
  | "NodeWithoutTunnel"
  | "DuplicateVTEP"
  | "TunnelWaits"
  | "TunnelRefused"
  | "PodMTUTooLarge"
  | "BlockIsHostAddress"
  | "WorkloadIsHostAddress"
  | "DuplicateWorkloadAddress"
  | "MalformedObject"
  | "RouteWaits"
  | "RouteRefused"
  | "ForwardingOff"
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
  | "StrictReversePath"
  | "ForwardingSwitchedOff"
  | "CalicoAgentRuns"
  | "CalicoLeftovers"
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
