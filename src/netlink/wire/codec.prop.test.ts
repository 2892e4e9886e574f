// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeAddr, encodeAddr } from "./addr.ts";
import * as arbitrary from "./arbitraries.ts";
import { MessageWriter } from "./attribute.ts";
import { decodeConntrack, encodeConntrack } from "./conntrack.ts";
import { NLMSG_DONE, NLMSG_ERROR } from "./constants.ts";
import { DecodeError } from "./errors.ts";
import { decodeLink, encodeLink } from "./link.ts";
import { decodeAcknowledgement, encodeMessage, splitMessages } from "./message.ts";
import { decodeNeigh, encodeNeigh } from "./neigh.ts";
import { decodeRoute, encodeRoute } from "./route.ts";
import { decodeRule, encodeRule } from "./rule.ts";

interface Kind<T> {
  readonly name: string;
  readonly arbitrary: fc.Arbitrary<T>;
  readonly encode: (w: MessageWriter, value: T) => void;
  readonly decode: (payload: Uint8Array) => T;
}

/** Hides the message's type, so that one list holds all kinds. */
function kind<T>(name: string, arbitrary: fc.Arbitrary<T>, encode: Kind<T>["encode"], decode: Kind<T>["decode"]) {
  return { name, arbitrary: arbitrary.map((value) => ({ value, bytes: bytesOf((w) => encode(w, value)) })), decode };
}

const KINDS = [
  kind("link", arbitrary.link, encodeLink, decodeLink),
  kind("addr", arbitrary.addr, encodeAddr, decodeAddr),
  kind("route", arbitrary.route, encodeRoute, decodeRoute),
  kind("neigh", arbitrary.neigh, encodeNeigh, decodeNeigh),
  kind("rule", arbitrary.rule, encodeRule, decodeRule),
  kind("conntrack", arbitrary.conntrack, encodeConntrack, decodeConntrack),
];

function bytesOf(write: (w: MessageWriter) => void): Uint8Array {
  // A writer this small has to grow on the way.
  const w = new MessageWriter(16);
  write(w);
  return w.bytes().slice();
}

/** Any outcome is right except another error, or none in time (the runner's own limit). */
function decodesOrRefuses(decode: () => unknown): void {
  try {
    decode();
  } catch (error) {
    expect(error).toBeInstanceOf(DecodeError);
  }
}

const mutations = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 8 });

function mutate(bytes: Uint8Array, changes: readonly (readonly [number, number])[], cut: number): Uint8Array {
  const copy = bytes.slice(0, bytes.length - (cut % (bytes.length + 1)));
  for (const [at, value] of changes) if (copy.length > 0) copy[at % copy.length] = value;
  return copy;
}

describe.each(KINDS)("$name", ({ arbitrary, decode }) => {
  test("decode(encode(x)) is x", () => {
    fc.assert(
      fc.property(arbitrary, ({ value, bytes }) => {
        expect(decode(bytes)).toEqual(value);
      }),
    );
  });

  test("decode() reads mutated messages or throws DecodeError", () => {
    fc.assert(
      fc.property(arbitrary, mutations, fc.nat(), ({ bytes }, changes, cut) =>
        decodesOrRefuses(() => decode(mutate(bytes, changes, cut))),
      ),
      { numRuns: 300 },
    );
  });

  test("decode() reads random bytes or throws DecodeError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => decodesOrRefuses(() => decode(bytes))),
      { numRuns: 300 },
    );
  });
});

describe("messages", () => {
  const message = fc.record({
    type: fc.integer({ min: 16, max: 0xffff }),
    flags: fc.integer({ min: 0, max: 0xffff }),
    seq: fc.integer({ min: 0, max: 0xffffffff }),
    payload: fc.uint8Array({ maxLength: 50 }),
  });

  test("splitMessages() gives back every message of a buffer in order", () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 6 }), (messages) => {
        const bytes = bytesOf((w) => {
          for (const m of messages)
            encodeMessage(w, m, () => {
              for (const byte of m.payload) w.u8(byte);
            });
        });
        const split = splitMessages(bytes).map(({ type, flags, seq, payload }) => ({
          type,
          flags,
          seq,
          payload: [...payload],
        }));
        expect(split).toEqual(messages.map((m) => ({ ...m, payload: [...m.payload] })));
      }),
    );
  });

  test("splitMessages() and decodeAcknowledgement() read random bytes or throw DecodeError", () => {
    const header = { seq: 1, portID: 0 };
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.constantFrom(NLMSG_ERROR, NLMSG_DONE),
        fc.integer({ min: 0, max: 0xffff }),
        (payload, type, flags) => {
          decodesOrRefuses(() => splitMessages(payload));
          decodesOrRefuses(() => decodeAcknowledgement({ ...header, type, flags, payload }));
        },
      ),
      { numRuns: 500 },
    );
  });
});
