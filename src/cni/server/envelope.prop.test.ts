// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, it } from "vitest";
import { decodeEnvelope, EnvelopeError, encodeEnvelope } from "./envelope.ts";

const text = fc.string({ unit: "grapheme" }).map((s) => s.replaceAll("\0", ""));
const name = text.map((s) => s.replaceAll("=", "")).filter((s) => s !== "" && s !== "__proto__");

it("decodeEnvelope(encodeEnvelope(x)) is x", () => {
  fc.assert(
    fc.property(fc.dictionary(name, text, { noNullPrototype: true }), fc.string({ unit: "grapheme" }), (env, stdin) => {
      expect(decodeEnvelope(encodeEnvelope({ env, stdin }))).toEqual({ env, stdin });
    }),
  );
});

it("decodeEnvelope() of random bytes decodes or throws EnvelopeError", () => {
  fc.assert(
    fc.property(fc.uint8Array({ max: 64 }), (bytes) => {
      try {
        decodeEnvelope(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(EnvelopeError);
      }
    }),
  );
});
