// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blockOf, type CIDR, cidrContains, cidrOf, cidrsOverlap, ipAt, parseCIDR } from "../../net/cidr.ts";
import { ReservationIndex } from "../reservations.ts";
import { unclaimedIn } from "./unclaimed.ts";

const POOL = parseCIDR("10.0.0.0/24");
const PARENT = parseCIDR("10.0.0.0/22");

/** By looking at each block and each address. */
function naive(blockSize: number, taken: readonly CIDR[], reserved: readonly CIDR[]) {
  const size = 2 ** (32 - blockSize);
  const index = new ReservationIndex(reserved);
  let [blocks, addresses] = [0, 0];
  for (let at = 0; at < 256; at += size) {
    const block = blockOf(ipAt(POOL, at), blockSize);
    if (taken.some((network) => cidrsOverlap(network, block)) || index.covers(block)) continue;
    blocks++;
    for (let i = 0; i < size; i++) if (!reserved.some((r) => cidrContains(r, ipAt(block, i)))) addresses++;
  }
  return { blocks, addresses };
}

const network = fc
  .record({ at: fc.nat({ max: 1023 }), length: fc.integer({ min: 22, max: 32 }) })
  .map(({ at, length }) => cidrOf(ipAt(PARENT, at), length));

describe("unclaimedIn()", () => {
  it("counts what a look at each address counts, whatever overlaps what", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 24, max: 30 }),
        fc.array(network, { maxLength: 8 }),
        fc.array(network, { maxLength: 12 }),
        (blockSize, taken, reserved) => {
          expect(unclaimedIn({ cidr: POOL, blockSize }, taken, reserved)).toEqual(naive(blockSize, taken, reserved));
        },
      ),
      { numRuns: 500 },
    );
  });

  it("answers for more blocks than anybody can look at", () => {
    const pool = { cidr: parseCIDR("fd00::/64"), blockSize: 122 };
    const taken = [parseCIDR("fd00::/122"), parseCIDR("fd00::40/122")];
    const reserved = [parseCIDR("fd00::8000:0:0:0/65"), parseCIDR("fd00::80/128")];
    expect(unclaimedIn(pool, taken, reserved)).toEqual({ blocks: 2 ** 57 - 2, addresses: (2 ** 57 - 2) * 64 - 1 });
  });
});
