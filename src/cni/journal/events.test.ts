// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseJSON } from "../../lib/json.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import {
  decodeLine,
  encodeAddressEvent,
  encodeVerbEvent,
  mayConcern,
  parseAddressEvent,
  parseVerbEvent,
} from "./events.ts";
import type { AddressEvent, VerbEvent } from "./types.ts";

const attachment = { network: "net", containerID: "c1", ifName: "eth0" };
const pod = { namespace: "default", name: "web-0", uid: "u1" };
const place = { ip: parseIP("10.0.0.5"), block: parseCIDR("10.0.0.0/26"), sequenceNumber: 1787395200123456789n };
const base = { atMs: 1_787_395_200_123, node: "node-a", handleID: "net.c1" };
const assigned: AddressEvent = { kind: "assigned", ...base, attachment, pod, place };

describe("address events", () => {
  const v6 = { ...place, ip: parseIP("fd00::5"), block: parseCIDR("fd00::/122") };
  it.each<AddressEvent>([
    assigned,
    { kind: "assigned", ...base, place: v6 },
    { kind: "released", ...base, attachment, pod, place, why: "DEL" },
    { kind: "released", ...base, attachment, why: "undo" },
    { kind: "released", ...base, pod: { namespace: "default", name: "web-0" }, place, why: "leak" },
  ])("come back from their line as they were: %o", (event) => {
    expect(parseAddressEvent(parseJSON(encodeAddressEvent(event)))).toEqual(event);
  });

  it("are readable for people, with exact numbers", () => {
    expect(encodeAddressEvent(assigned)).toBe(
      '{"time":"2026-08-22T10:40:00.123Z","kind":"assigned","ip":"10.0.0.5","block":"10.0.0.0/26",' +
        '"sequenceNumber":1787395200123456789,"handleID":"net.c1","node":"node-a","network":"net","containerID":"c1",' +
        '"ifName":"eth0","namespace":"default","pod":"web-0","podUID":"u1"}',
    );
  });

  it.each([
    "",
    "{",
    "null",
    "[]",
    "{}",
    '{"time":"x"}',
    encodeAddressEvent(assigned).replace("10.0.0.5", "10.0.0.500"),
  ])("decodeLine() passes over %j", (line) => expect(decodeLine(line, parseAddressEvent)).toBeUndefined());
});

describe("verb events", () => {
  it.each<VerbEvent>([
    {
      atMs: base.atMs,
      verb: "ADD",
      attachment,
      pod,
      ips: [parseIP("10.0.0.5"), parseIP("fd00::5")],
      durationMs: 3.25,
      stepsMs: { lock: 0, assign: 2.5 },
      code: 0,
    },
    { atMs: base.atMs, verb: "DEL", attachment, durationMs: 1, code: 104, message: "no" },
  ])("come back from their line as they were: %o", (event) => {
    expect(decodeLine(encodeVerbEvent(event), parseVerbEvent)).toEqual(event);
  });

  it("have messages of bounded length", () => {
    const event = { atMs: 0, verb: "ADD", attachment, durationMs: 1, code: 100, message: "x".repeat(9000) };
    expect(decodeLine(encodeVerbEvent(event), parseVerbEvent)?.message).toHaveLength(500);
  });
});

describe("mayConcern()", () => {
  const line = encodeAddressEvent(assigned);
  it("finds an address, and not one that begins like it", () => {
    expect(mayConcern(line, parseIP("10.0.0.5"), new Set())).toBe(true);
    expect(mayConcern(line, parseIP("10.0.0.50"), new Set())).toBe(false);
    expect(mayConcern(line.replace("10.0.0.5", "10.0.0.50"), parseIP("10.0.0.5"), new Set())).toBe(false);
  });

  it("finds a release by handle only through a handle that had the address", () => {
    const released = encodeAddressEvent({ kind: "released", ...base, why: "undo" });
    expect(mayConcern(released, parseIP("10.0.0.5"), new Set(["net.c1"]))).toBe(true);
    expect(mayConcern(released, parseIP("10.0.0.5"), new Set(["net.c"]))).toBe(false);
  });
});
