// SPDX-License-Identifier: Apache-2.0
import { FieldReader } from "../../crds/field-reader.ts";
import type { Allocation } from "../../ipam/types.ts";
import { parseJSON, stringifyJSON } from "../../lib/json.ts";
import { formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { formatIP, type IP, parseIP } from "../../net/ip.ts";
import type { Delegation } from "../delegation/types.ts";
import type {
  AddResult,
  AssignedRecord,
  AttachmentID,
  AttachmentRecord,
  DNS,
  FileIdentity,
  IntentRecord,
  IPAMResult,
  PodRef,
  ReleasingRecord,
  ResultRoute,
  Vantage,
  WholeRecord,
} from "../types.ts";

/** Version of the record files. A reader that meets a higher one leaves the file alone. */
const FORMAT = 1;

/** Text under which an attachment is locked, listed and logged. */
export function keyOf(id: AttachmentID): string {
  return `${id.network}/${id.containerID}:${id.ifName}`;
}

/** Whether the recorded attachment is the one that the caller means: same boot, same namespace, all made. */
export function isLive(record: AttachmentRecord, bootID: string, netns: FileIdentity): record is WholeRecord {
  return record.state === "whole" && record.bootID === bootID && isSameFile(record.netns.identity, netns);
}

/** The same for an attachment that another plugin wires. */
export function isAssigned(record: AttachmentRecord, bootID: string, netns: FileIdentity): record is AssignedRecord {
  return record.state === "assigned" && record.bootID === bootID && isSameFile(record.netns.identity, netns);
}

export function isSameFile(a: FileIdentity, b: FileIdentity): boolean {
  return a.inode === b.inode && a.dev === b.dev;
}

/**
 * Whether somebody at `now` would see the recorded namespace at its path if it lived, so that its absence is a proof.
 *
 * A path under /proc is seen from the same pid namespace. Any other is seen from the same mount namespace, or from
 * another one that has the very directory (an agent's container with the host's /run/netns mounted).
 */
export function canSee(netns: IntentRecord["netns"], now: Vantage): boolean {
  const then = netns.vantage;
  if (netns.path.startsWith("/proc/")) return then.pidns === now.pidns;
  if (then.mntns === now.mntns) return true;
  return then.dir !== undefined && now.dir !== undefined && isSameFile(then.dir, now.dir);
}

/** One line of a record file, with its line feed. Every line holds the whole state. */
export function encodeRecord(record: AttachmentRecord): string {
  const { allocations, result, ...rest } = { allocations: undefined, result: undefined, ...record };
  const fields = {
    format: FORMAT,
    ...rest,
    ...(allocations !== undefined && { allocations: allocations.map(encodeAllocation) }),
    ...(result !== undefined && { result: encodeResult(result) }),
  };
  return `${stringifyJSON(fields)}\n`;
}

function encodeResult(result: AddResult | IPAMResult): object {
  return "container" in result ? { ...result, ips: result.ips.map(formatIP) } : result;
}

/**
 * Reads a record file: the last complete line is the state. What follows the last line feed was torn by a crash, and
 * what it would have said was not yet promised to anybody.
 *
 * @returns undefined when there is no complete line: the writer died before the first outside effect
 * @throws SyntaxError or InvalidObjectError when a line is complete and yet no record
 */
export function decodeRecord(name: string, text: string): AttachmentRecord | undefined {
  const end = text.lastIndexOf("\n");
  if (end < 0) return undefined;
  const line = text.slice(text.lastIndexOf("\n", end - 1) + 1, end);
  const reader = new FieldReader("Attachment record", name, "", parseJSON(line));
  const format = reader.optionalInteger("format", 1, Number.MAX_SAFE_INTEGER);
  if (format !== FORMAT) throw reader.fail("format", format, `${FORMAT}, the only one that this version reads`);
  return readRecord(reader);
}

function readRecord(reader: FieldReader): AttachmentRecord {
  const pod = readPod(reader);
  const base = {
    handleID: reader.string("handleID"),
    atMs: integer(reader, "atMs"),
    ...(pod && { pod }),
    ...(reader.value("delegation") !== undefined && { delegation: readDelegation(reader.nested("delegation")) }),
  };
  const state = reader.optionalEnum("state", ["intent", "whole", "assigned", "releasing"]);
  const allocations = () => reader.list("allocations", (raw, element) => readAllocation(reader.nested(element, raw)));
  switch (state) {
    case "intent": {
      const executor = reader.nested("executor");
      const process = { pid: integer(executor, "pid"), startTicks: integer(executor, "startTicks") };
      const hostIface = reader.optionalString("hostIface");
      return {
        state,
        ...base,
        ...readNetnsPart(reader),
        ...(hostIface !== undefined && { hostIface }),
        executor: process,
      };
    }
    case "whole":
      return {
        state,
        ...base,
        ...readNetnsPart(reader),
        hostIface: reader.string("hostIface"),
        hostIfIndex: integer(reader, "hostIfIndex"),
        allocations: allocations(),
        result: readResult(reader.nested("result")),
        ...readSourcePrefixes(reader),
      };
    case "assigned":
      return {
        state,
        ...base,
        ...readNetnsPart(reader),
        allocations: allocations(),
        result: readIPAMResult(reader.nested("result")),
      };
    case "releasing":
      return {
        state,
        ...base,
        ...(reader.value("link") !== undefined && { link: readLink(reader.nested("link")) }),
        ...(reader.value("allocations") !== undefined && { allocations: allocations() }),
      };
    case undefined:
      throw reader.fail("state", reader.value("state"), "intent, whole, assigned or releasing");
  }
}

function readSourcePrefixes(reader: FieldReader): Pick<WholeRecord, "allowedSourcePrefixes"> {
  const allowedSourcePrefixes = reader.strings("allowedSourcePrefixes");
  return allowedSourcePrefixes.length > 0 ? { allowedSourcePrefixes } : {};
}

function readLink(reader: FieldReader): NonNullable<ReleasingRecord["link"]> {
  const [bootID, hostIface] = [reader.string("bootID"), reader.string("hostIface")];
  return { bootID, hostIface, hostIfIndex: integer(reader, "hostIfIndex") };
}

function readNetnsPart(reader: FieldReader): Pick<IntentRecord, "bootID" | "netns"> {
  const netns = reader.nested("netns");
  const vantage = netns.nested("vantage");
  return {
    bootID: reader.string("bootID"),
    netns: {
      path: netns.string("path"),
      identity: readFileIdentity(netns.nested("identity")),
      vantage: {
        mntns: vantage.bigint("mntns", 0n),
        pidns: vantage.bigint("pidns", 0n),
        ...(vantage.value("dir") !== undefined && { dir: readFileIdentity(vantage.nested("dir")) }),
      },
    },
  };
}

function readDelegation(reader: FieldReader): Delegation {
  const answer = reader.optionalString("answer");
  return {
    type: reader.string("type"),
    env: reader.optionalStringMap("env") ?? {},
    conf: reader.string("conf"),
    ...(answer !== undefined && { answer }),
  };
}

function readFileIdentity(reader: FieldReader): FileIdentity {
  return { dev: reader.bigint("dev", 0n), inode: reader.bigint("inode", 0n) };
}

function readPod(reader: FieldReader): PodRef | undefined {
  if (reader.value("pod") === undefined) return undefined;
  const pod = reader.nested("pod");
  const uid = pod.optionalString("uid");
  return { namespace: pod.string("namespace"), name: pod.string("name"), ...(uid !== undefined && { uid }) };
}

function readResult(reader: FieldReader): AddResult {
  const host = reader.nested("host");
  const container = reader.nested("container");
  return {
    host: { name: host.string("name"), mac: host.string("mac") },
    container: {
      name: container.string("name"),
      mac: container.string("mac"),
      mtuBytes: integer(container, "mtuBytes"),
      sandbox: container.string("sandbox"),
    },
    ips: reader.list("ips", (raw, element) => readIP(reader, element, raw)),
    routes: readRoutes(reader),
    // Written by ourselves out of a checked configuration, and only ever printed.
    dns: (reader.value("dns") ?? {}) as DNS,
  };
}

function readIPAMResult(reader: FieldReader): IPAMResult {
  const ips = reader.list("ips", (raw, element) => {
    const ip = reader.nested(element, raw);
    const gateway = ip.optionalString("gateway");
    return { address: ip.string("address"), ...(gateway !== undefined && { gateway }) };
  });
  return { ips, routes: readRoutes(reader) };
}

function readRoutes(reader: FieldReader): readonly ResultRoute[] {
  return reader.list("routes", (raw, element) => {
    const route = reader.nested(element, raw);
    const gw = route.optionalString("gw");
    return { dst: route.cidr("dst"), ...(gw !== undefined && { gw }) };
  });
}

function encodeAllocation({ ip, block, handleID, sequenceNumber }: Allocation): object {
  return { ip: formatIP(ip), block: formatCIDR(block), handleID, sequenceNumber };
}

function readAllocation(reader: FieldReader): Allocation {
  const sequenceNumber = reader.bigint("sequenceNumber", -1n);
  if (sequenceNumber < 0n) throw reader.fail("sequenceNumber", reader.value("sequenceNumber"), "a 64-bit integer");
  return {
    ip: readIP(reader, "ip", reader.value("ip")),
    block: parseCIDR(reader.cidr("block")),
    handleID: reader.string("handleID"),
    sequenceNumber,
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

function integer(reader: FieldReader, field: string): number {
  const value = reader.optionalInteger(field, 0, Number.MAX_SAFE_INTEGER);
  if (value === undefined) throw reader.fail(field, value, "an integer");
  return value;
}
