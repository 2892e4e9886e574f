// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { AttributeReader, MessageWriter } from "./attribute.ts";
import { NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR } from "./constants.ts";
import { DecodeError } from "./errors.ts";
import { decodeAcknowledgement, encodeMessage, type NetlinkMessage, splitMessages } from "./message.ts";

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));
}

function ack(type: number, flags: number, payload: Uint8Array): NetlinkMessage {
  return { type, flags, seq: 1, portID: 1, payload };
}

const REQUEST_HEADER = "24000000 1800 0500 01000000 00000000";

describe("encodeMessage()", () => {
  test("writes the header in the host's byte order and aligns the next message", () => {
    const w = new MessageWriter();
    encodeMessage(w, { type: 18, flags: 0x301, seq: 7 }, () => w.u8(0xaa));
    encodeMessage(w, { type: 3, flags: 0, seq: 8 }, () => {});
    expect(w.bytes()).toEqual(
      bytes("11000000 1200 0103 07000000 00000000 aa000000 10000000 0300 0000 08000000 00000000"),
    );
  });
});

describe("splitMessages()", () => {
  test("refuses a message that is longer than the buffer", () => {
    expect(() => splitMessages(bytes("20000000 0300 0000 08000000 00000000"))).toThrow(DecodeError);
  });

  test("refuses a length that is shorter than the header, which would never end", () => {
    expect(() => splitMessages(bytes("00000000 0300 0000 08000000 00000000"))).toThrow(DecodeError);
  });
});

describe("decodeAcknowledgement()", () => {
  test("reads success", () => {
    const payload = bytes(`00000000 ${REQUEST_HEADER}`);
    expect(decodeAcknowledgement(ack(NLMSG_ERROR, NLM_F_CAPPED, payload))).toEqual({ errno: 0 });
  });

  test("reads message and offset behind a capped request", () => {
    const payload = bytes(`eaffffff ${REQUEST_HEADER} 0800 0100 626164 00 0800 0200 1c000000`);
    expect(decodeAcknowledgement(ack(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, payload))).toEqual({
      errno: 22,
      extack: { message: "bad", offset: 28 },
    });
  });

  test("reads them behind a request that is echoed whole", () => {
    const echoed = `${REQUEST_HEADER} ${"00".repeat(20)}`;
    const payload = bytes(`eaffffff ${echoed} 0800 0100 626164 00`);
    expect(decodeAcknowledgement(ack(NLMSG_ERROR, NLM_F_ACK_TLVS, payload))).toEqual({
      errno: 22,
      extack: { message: "bad" },
    });
  });

  test("reads the error of a dump out of DONE, and old kernels' DONE without one", () => {
    expect(decodeAcknowledgement(ack(NLMSG_DONE, 0, bytes("feffffff")))).toEqual({ errno: 2 });
    expect(decodeAcknowledgement(ack(NLMSG_DONE, 0, bytes("")))).toEqual({ errno: 0 });
  });

  test("refuses an error code with the wrong sign", () => {
    expect(() => decodeAcknowledgement(ack(NLMSG_ERROR, 0, bytes("01000000")))).toThrow(DecodeError);
  });
});

describe("AttributeReader", () => {
  test("next() refuses a length beyond the end, and one shorter than its header", () => {
    expect(() => new AttributeReader(bytes("0900 0100 00000000")).next()).toThrow(DecodeError);
    expect(() => new AttributeReader(bytes("0300 0100")).next()).toThrow(DecodeError);
  });

  test("value methods refuse a value that is too short", () => {
    const attributes = new AttributeReader(bytes("0600 0100 ffff 0000"));
    expect(attributes.next()).toBe(true);
    expect(attributes.u16()).toBe(0xffff);
    expect(() => attributes.u32()).toThrow(DecodeError);
  });

  test("next() masks the flag bits off the type", () => {
    const attributes = new AttributeReader(bytes("0400 1280"));
    expect([attributes.next(), attributes.type]).toEqual([true, 0x12]);
  });
});
