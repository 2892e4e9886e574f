// SPDX-License-Identifier: Apache-2.0
import { FieldReader } from "../../crds/field-reader.ts";
import { parseJSON, stringifyJSON } from "../../lib/json.ts";
import { formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { formatIP, type IP, parseIP } from "../../net/ip.ts";
import type { AttachmentID, PodRef } from "../types.ts";
import type { AddressEvent, AddressHistory, AddressPlace, ReleaseReason, VerbEvent } from "./types.ts";

const REASONS: readonly ReleaseReason[] = [
  "DEL",
  "pendingDEL",
  "GC",
  "undo",
  "namespaceGone",
  "replaced",
  "leak",
  "takeover",
];

/** A message in the journal is at most this long, so that one bad call cannot push out a hundred others. */
const MAX_MESSAGE = 500;

/** The event as plain JSON, flat: people read the files, too. The agent's endpoint answers with the same. */
export function renderAddressEvent(event: AddressEvent): object {
  const { atMs, kind, place, node, handleID } = event;
  return {
    time: new Date(atMs).toISOString(),
    kind,
    ...(place && { ip: formatIP(place.ip), block: formatCIDR(place.block), sequenceNumber: place.sequenceNumber }),
    ...(kind === "released" && { why: event.why }),
    handleID,
    node,
    ...renderOwner(event),
  };
}

/** One line of a journal's file, without its line feed. */
export function encodeAddressEvent(event: AddressEvent): string {
  return stringifyJSON(renderAddressEvent(event));
}

/** @throws InvalidObjectError */
export function parseAddressEvent(raw: unknown): AddressEvent {
  const reader = readerOf(raw);
  const base = {
    atMs: readTime(reader),
    node: reader.string("node"),
    handleID: reader.string("handleID"),
    ...readOwner(reader),
  };
  const place = reader.value("ip") === undefined ? undefined : readPlace(reader);
  const kind = reader.optionalEnum("kind", ["assigned", "released"]);
  if (kind === "assigned" && place !== undefined) return { kind, ...base, place };
  const why = reader.optionalEnum("why", REASONS);
  if (kind === "released" && why !== undefined) return { kind, ...base, ...(place && { place }), why };
  throw reader.fail("kind", kind, "assigned with an address, or released with a reason");
}

/** What an agent answers to GET /history/ADDRESS. */
export function renderHistory(node: string, ip: IP, { events, sinceMs }: AddressHistory): object {
  return {
    node,
    address: formatIP(ip),
    ...(sinceMs !== undefined && { since: new Date(sinceMs).toISOString() }),
    events: events.map(renderAddressEvent),
  };
}

/** @throws InvalidObjectError */
export function parseHistory(raw: unknown): AddressHistory {
  const reader = readerOf(raw);
  const hasSince = reader.value("since") !== undefined;
  return {
    events: reader.list("events", parseAddressEvent),
    ...(hasSince && { sinceMs: readTime(reader, "since") }),
  };
}

/** One call as plain JSON. */
export function renderVerbEvent(event: VerbEvent): object {
  const { atMs, verb, ips, durationMs, stepsMs, code, message } = event;
  return {
    time: new Date(atMs).toISOString(),
    verb,
    ...renderOwner(event),
    ...(ips && { ips: ips.map(formatIP) }),
    durationMs,
    ...(stepsMs && { stepsMs }),
    code,
    ...(message !== undefined && { message: message.slice(0, MAX_MESSAGE) }),
  };
}

/** One line of a journal's file, without its line feed. */
export function encodeVerbEvent(event: VerbEvent): string {
  return stringifyJSON(renderVerbEvent(event));
}

/** @throws InvalidObjectError */
export function parseVerbEvent(raw: unknown): VerbEvent {
  const reader = readerOf(raw);
  const { attachment, pod } = readOwner(reader);
  const code = reader.optionalInteger("code", 0, Number.MAX_SAFE_INTEGER);
  if (attachment === undefined || code === undefined) throw reader.fail("code", code, "a call's code and attachment");
  const ips =
    reader.value("ips") === undefined ? undefined : reader.list("ips", (ip, field) => readIP(reader, field, ip));
  const message = reader.optionalString("message");
  return {
    atMs: readTime(reader),
    verb: reader.string("verb"),
    attachment,
    ...(pod && { pod }),
    ...(ips && { ips }),
    durationMs: readNumber(reader, "durationMs", reader.value("durationMs")),
    ...(reader.value("stepsMs") !== undefined && { stepsMs: readSteps(reader.nested("stepsMs")) }),
    code,
    ...(message !== undefined && { message }),
  };
}

/** The events of a file's lines. What a crash has torn, or another version wrote, is passed over. */
export function decodeLine<T>(line: string, parse: (raw: unknown) => T): T | undefined {
  try {
    return parse(parseJSON(line));
  } catch {
    return undefined;
  }
}

/**
 * Whether a line can tell of the address or of a handle: a look at its text, which spares parsing thousands of others.
 * A release by handle names no address, so it is found by the handles that had the address.
 */
export function mayConcern(line: string, ip: IP, handleIDs: ReadonlySet<string>): boolean {
  if (line.includes(`"ip":"${formatIP(ip)}"`)) return true;
  if (line.includes('"ip":')) return false;
  for (const handleID of handleIDs) if (line.includes(JSON.stringify(handleID))) return true;
  return false;
}

function renderOwner({ attachment, pod }: Pick<AddressEvent, "attachment" | "pod">): object {
  return {
    ...attachment,
    ...(pod && { namespace: pod.namespace, pod: pod.name, ...(pod.uid !== undefined && { podUID: pod.uid }) }),
  };
}

function readOwner(reader: FieldReader): { readonly attachment?: AttachmentID; readonly pod?: PodRef } {
  const [network, containerID, ifName, namespace, name, uid] = [
    reader.optionalString("network"),
    reader.optionalString("containerID"),
    reader.optionalString("ifName"),
    reader.optionalString("namespace"),
    reader.optionalString("pod"),
    reader.optionalString("podUID"),
  ];
  const isAttachment = network !== undefined && containerID !== undefined && ifName !== undefined;
  const isPod = namespace !== undefined && name !== undefined;
  return {
    ...(isAttachment && { attachment: { network, containerID, ifName } }),
    ...(isPod && { pod: { namespace, name, ...(uid !== undefined && { uid }) } }),
  };
}

function readPlace(reader: FieldReader): AddressPlace {
  return {
    ip: readIP(reader, "ip", reader.value("ip")),
    block: parseCIDR(reader.cidr("block")),
    sequenceNumber: reader.int64("sequenceNumber", 0n),
  };
}

function readIP(reader: FieldReader, field: string, value: unknown): IP {
  try {
    if (typeof value === "string") return parseIP(value);
  } catch {
    // Said below, with the field's name.
  }
  throw reader.fail(field, value, "an address");
}

function readTime(reader: FieldReader, field = "time"): number {
  const text = reader.string(field);
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) throw reader.fail(field, text, "a time");
  return ms;
}

function readSteps(reader: FieldReader): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(reader.unread()).map(([step, ms]) => [step, readNumber(reader, step, ms)]));
}

function readNumber(reader: FieldReader, field: string, value: unknown): number {
  if (typeof value === "number") return value;
  throw reader.fail(field, value, "a number");
}

function readerOf(raw: unknown): FieldReader {
  return new FieldReader("Journal", "event", "", raw);
}
