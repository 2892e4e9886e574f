// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseCIDR } from "../net/cidr.ts";
import { assign, freeCount, isHeld, newBlock, nextRevision, ordinalsOfHandle, release } from "./block.ts";
import { checkBlock } from "./check-block.ts";

const NOW = { ms: 1_787_395_200_123, ns: 1_787_395_200_123_456_789n };
const SIZE = 16;

type Step =
  | { readonly do: "assign"; readonly handleID: string; readonly time: number; readonly count: number }
  | { readonly do: "releaseHandle"; readonly handleID: string }
  /** `staleness` moves the sequence number away from the right one. */
  | { readonly do: "releaseOne"; readonly ordinal: number; readonly handleID: string; readonly staleness: number };

const handleID = fc.constantFrom("net.a", "net.b", "net.c", "net.d");
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant("assign" as const),
    handleID,
    time: fc.integer({ min: 0, max: 2 }),
    count: fc.integer({ min: 0, max: 5 }),
  }),
  fc.record({ do: fc.constant("releaseHandle" as const), handleID }),
  fc.record({
    do: fc.constant("releaseOne" as const),
    ordinal: fc.integer({ min: 0, max: SIZE - 1 }),
    handleID,
    staleness: fc.constantFrom(0, 0, 0, 1, -1),
  }),
);

/** The naive model: who holds what, and the queue. */
interface Held {
  readonly handleID: string;
  readonly time: number;
  readonly sequence: bigint;
}

describe("block", () => {
  it("agrees with a naive model over any run of assignments and releases", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let block = newBlock(parseCIDR("10.0.0.0/28"), "host:node-a", NOW);
        const held = new Map<number, Held>();
        const queue = Array.from({ length: SIZE }, (_, i) => i);
        let sequence = NOW.ns;
        const free = (ordinals: readonly number[]): void => {
          for (const ordinal of ordinals) if (held.delete(ordinal)) queue.push(ordinal);
        };
        for (const s of steps) {
          if (s.do === "assign") {
            const attributes = { node: "node-a", timestamp: String(s.time) };
            const assigned = assign(block, { handleID: s.handleID, attributes, count: s.count });
            const expected = queue.splice(0, s.count);
            expect(assigned.ordinals).toEqual(expected);
            for (const ordinal of expected) held.set(ordinal, { handleID: s.handleID, time: s.time, sequence });
            block = assigned.block;
          } else if (s.do === "releaseHandle") {
            block = release(block, ordinalsOfHandle(block, s.handleID));
            free(
              [...held]
                .filter(([, h]) => h.handleID === s.handleID)
                .map(([o]) => o)
                .sort((a, b) => a - b),
            );
          } else {
            const owner = held.get(s.ordinal);
            const claimed = (owner?.sequence ?? 0n) + BigInt(s.staleness);
            const isRight = owner !== undefined && owner.handleID === s.handleID && owner.sequence === claimed;
            expect(isHeld(block, s.ordinal, s.handleID, claimed)).toBe(isRight);
            if (isRight) {
              block = release(block, [s.ordinal]);
              free([s.ordinal]);
            }
          }
          block = nextRevision(block);
          sequence += 1n;
          expect(checkBlock(block, NOW.ms)).toEqual([]);
          expect(block.sequenceNumber).toBe(sequence);
          expect(block.unallocated).toEqual(queue);
          expect(freeCount(block)).toBe(SIZE - held.size);
          const records = new Set([...held.values()].map((h) => `${h.handleID} ${h.time}`));
          expect(block.attributes).toHaveLength(records.size);
          const sequences = Object.fromEntries([...held].map(([o, h]) => [String(o), h.sequence]));
          expect(block.sequenceNumberForAllocation).toEqual(sequences);
          for (const [ordinal, h] of held) {
            const record = block.attributes[block.allocations[ordinal] ?? -1];
            expect([record?.handle_id, record?.secondary?.["timestamp"]]).toEqual([h.handleID, String(h.time)]);
          }
        }
      }),
    );
  });
});
