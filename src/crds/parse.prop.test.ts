// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseJSON, stringifyJSON } from "../lib/json.ts";
import { InvalidObjectError } from "./errors.ts";
import { parseIPAMBlock } from "./ipam-block.ts";
import { KINDS } from "./kinds.ts";

const uint63 = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });

test("parseIPAMBlock() of any well-formed block survives the wire twice", () => {
  const spec = fc.record({
    cidr: fc.constant("10.0.0.0/30"),
    allocations: fc.array(fc.option(fc.nat(9), { nil: null }), { minLength: 4, maxLength: 4 }),
    unallocated: fc.array(fc.nat(3)),
    attributes: fc.array(fc.record({ handle_id: fc.string(), secondary: fc.dictionary(fc.string(), fc.string()) })),
    sequenceNumber: uint63,
    sequenceNumberForAllocation: fc.dictionary(fc.constantFrom("0", "1", "2", "3"), uint63),
    deleted: fc.boolean(),
    strictAffinity: fc.constant(false),
  });
  fc.assert(
    fc.property(spec, (given) => {
      const block = parseIPAMBlock({ metadata: { name: "b" }, spec: given });
      expect(block.spec).toEqual(given);
      expect(parseIPAMBlock(parseJSON(stringifyJSON(block)))).toEqual(block);
    }),
  );
});

test("every parse gives an object or InvalidObjectError, whatever it is fed", () => {
  const anything = fc.oneof(
    fc.jsonValue(),
    fc.record({ metadata: fc.record({ name: fc.string() }), spec: fc.dictionary(fc.string(), fc.jsonValue()) }),
    fc.record({
      metadata: fc.constant({ name: "n" }),
      spec: fc.record({
        cidr: fc.jsonValue(),
        allocations: fc.jsonValue(),
        block: fc.jsonValue(),
        node: fc.jsonValue(),
      }),
    }),
  );
  fc.assert(
    fc.property(anything, fc.constantFrom(...KINDS), (value, { resource }) => {
      try {
        resource.parse?.(value);
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidObjectError);
      }
    }),
  );
});
