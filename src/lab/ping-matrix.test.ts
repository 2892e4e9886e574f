// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { MATRIX_LIMIT, parseFping, renderPingMatrix, totalPings } from "./ping-matrix.ts";

test("parseFping() answers in the order of the targets and takes silence for loss", () => {
  const stderr =
    "10.0.0.2  : -\n10.0.0.1  : 0.051\nICMP Host Unreachable from 10.0.0.9 for ICMP Echo sent to 10.0.0.2\n";
  expect(parseFping(stderr, ["10.0.0.1", "10.0.0.2", "10.0.0.3"])).toEqual([0.051, undefined, undefined]);
});

test("parseFping() reads IPv6", () => {
  expect(parseFping("fd00::1 : 0.20\n", ["fd00::1"])).toEqual([0.2]);
});

test("totalPings() counts what is lost", () => {
  expect(totalPings([{ source: "a", roundTripsMs: [1, undefined, 3] }])).toEqual({ sent: 3, lost: 1, worstMs: 3 });
  expect(totalPings([])).toEqual({ sent: 0, lost: 0, worstMs: 0 });
});

test("renderPingMatrix() lines its columns up and shouts about loss", () => {
  const rows = [
    { source: "pod-1", roundTripsMs: [0.0512, undefined] },
    { source: "pod-10", roundTripsMs: [12.3, 0.1] },
  ];
  expect(renderPingMatrix(rows, ["pod-1", "pod-10"])).toEqual([
    "from \\ to  pod-1  pod-10",
    "pod-1       0.05    LOST",
    "pod-10        12    0.10",
  ]);
});

test("renderPingMatrix() stops before the terminal's edge and says so", () => {
  const names = Array.from({ length: MATRIX_LIMIT + 4 }, (_, i) => `p${i}`);
  const lines = renderPingMatrix(
    names.map((source) => ({ source, roundTripsMs: names.map(() => 1) })),
    names,
  );
  expect(lines).toHaveLength(1 + MATRIX_LIMIT + 1);
  expect(lines.at(-1)).toBe("… and 4 more rows and columns, counted below");
});
