// SPDX-License-Identifier: Apache-2.0
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../lib/clock.ts";
import type { IP } from "../../net/ip.ts";
import {
  decodeLine,
  encodeAddressEvent,
  encodeVerbEvent,
  mayConcern,
  parseAddressEvent,
  parseVerbEvent,
} from "./events.ts";
import { Ring, readRing } from "./ring.ts";
import type { AddressEvent, AddressHistory, Journal, VerbEvent } from "./types.ts";

export interface NodeJournalOptions {
  /** The agent's state directory, in which `journal/` is made. */
  readonly stateDir: string;
  /** Of each file; there are two for addresses and two for calls. Units: bytes. */
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly onError: (error: unknown) => void;
}

/** The journal of a node, in files. */
export function openJournal(options: NodeJournalOptions): Journal & { close(): Promise<void> } {
  const { stateDir, ...shared } = options;
  const addresses = new Ring({ ...shared, path: addressesIn(stateDir), encode: encodeAddressEvent });
  const verbs = new Ring({ ...shared, path: verbsIn(stateDir), encode: encodeVerbEvent });
  return {
    address: (event) => addresses.append(event),
    verb: (event) => verbs.append(event),
    close: async () => {
      await Promise.all([addresses.close(), verbs.close()]);
    },
  };
}

/** Whether a node's journal is there. */
export function hasJournal(stateDir: string): boolean {
  return existsSync(folderIn(stateDir));
}

/** All that the node's files tell of an address. @throws Error of node:fs when they cannot be read */
export async function readAddressHistory(stateDir: string, ip: IP): Promise<AddressHistory> {
  const events: AddressEvent[] = [];
  const handleIDs = new Set<string>();
  let sinceMs: number | undefined;
  for await (const line of readRing(addressesIn(stateDir))) {
    if (sinceMs !== undefined && !mayConcern(line, ip, handleIDs)) continue;
    const event = decodeLine(line, parseAddressEvent);
    if (event === undefined) continue;
    sinceMs ??= event.atMs;
    // The first event of all is parsed for its time alone.
    if (!mayConcern(line, ip, handleIDs)) continue;
    handleIDs.add(event.handleID);
    events.push(event);
  }
  return { events, ...(sinceMs !== undefined && { sinceMs }) };
}

/** The last calls of a node, oldest first. @throws Error of node:fs when the files cannot be read */
export async function readVerbs(
  stateDir: string,
  { last, wanted = () => true }: { readonly last: number; readonly wanted?: (event: VerbEvent) => boolean },
): Promise<readonly VerbEvent[]> {
  let events: VerbEvent[] = [];
  for await (const line of readRing(verbsIn(stateDir))) {
    const event = decodeLine(line, parseVerbEvent);
    if (event === undefined || !wanted(event)) continue;
    events.push(event);
    if (events.length >= 2 * last) events = events.slice(-last);
  }
  return last === 0 ? [] : events.slice(-last);
}

function addressesIn(stateDir: string): string {
  return join(folderIn(stateDir), "addresses.jsonl");
}

function verbsIn(stateDir: string): string {
  return join(folderIn(stateDir), "calls.jsonl");
}

function folderIn(stateDir: string): string {
  return join(stateDir, "journal");
}
