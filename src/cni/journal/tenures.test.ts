// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { tenuresOf } from "./tenures.ts";
import type { AddressEvent, ReleaseReason } from "./types.ts";

const place = (sequenceNumber: bigint) => ({
  ip: parseIP("10.0.0.5"),
  block: parseCIDR("10.0.0.0/26"),
  sequenceNumber,
});
const assigned = (atMs: number, handleID: string, sequence: bigint, node = "a"): AddressEvent => ({
  kind: "assigned",
  atMs,
  node,
  handleID,
  place: place(sequence),
});
const released = (
  atMs: number,
  handleID: string,
  sequence?: bigint,
  { node = "a", why = "DEL" }: { node?: string; why?: ReleaseReason } = {},
): AddressEvent => ({
  kind: "released",
  atMs,
  node,
  handleID,
  why,
  ...(sequence !== undefined && { place: place(sequence) }),
});
const spans = (events: readonly AddressEvent[]) =>
  tenuresOf(events).map(({ handleID, fromMs, toMs, why }) => [handleID, fromMs, toMs, why]);

describe("tenuresOf()", () => {
  it("pairs each assignment with its release, whatever order the nodes answer in", () => {
    const events = [
      released(70, "h2", 2n, { node: "b" }),
      assigned(50, "h2", 2n, "b"),
      assigned(10, "h1", 1n),
      released(30, "h1", 1n),
    ];
    expect(spans(events)).toEqual([
      ["h1", 10, 30, "DEL"],
      ["h2", 50, 70, "DEL"],
    ]);
  });

  it("goes by the sequence number where a handle has the address twice, and where clocks differ", () => {
    const events = [assigned(10, "h1", 1n), assigned(40, "h1", 2n), released(5, "h1", 1n), released(50, "h1", 2n)];
    expect(spans(events)).toEqual([
      ["h1", 10, 5, "DEL"],
      ["h1", 40, 50, "DEL"],
    ]);
  });

  it("counts the first of several releases", () => {
    const events = [assigned(10, "h1", 1n), released(20, "h1", 1n), released(90, "h1", 1n, { why: "leak" })];
    expect(spans(events)).toEqual([["h1", 10, 20, "DEL"]]);
  });

  it("leaves open what nobody saw end, and without a beginning what the journal no longer has", () => {
    expect(spans([released(20, "h1", 1n), assigned(30, "h2", 2n)])).toEqual([
      ["h1", undefined, 20, "DEL"],
      ["h2", 30, undefined, undefined],
    ]);
  });

  it("ends by handle what the same node had assigned before", () => {
    const events = [
      assigned(10, "h1", 1n),
      released(20, "h1", undefined, { why: "undo" }),
      assigned(30, "h1", 2n),
      released(40, "h1", undefined, { node: "b" }),
    ];
    expect(spans(events)).toEqual([
      ["h1", 10, 20, "undo"],
      ["h1", 30, undefined, undefined],
    ]);
  });
});
