// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { Conn, type Request, type Socket } from "./conn.ts";
import { MessageWriter } from "./wire/attribute.ts";
import {
  NLM_F_ACK,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_NEWROUTE,
} from "./wire/constants.ts";
import { type NetlinkMessage, splitMessages } from "./wire/message.ts";

const PORT_ID = 4711;

interface Reply {
  readonly type: number;
  readonly seq: number;
  readonly flags?: number;
  /** A number is an error code, bytes are bytes. */
  readonly payload?: number | readonly number[];
  readonly portID?: number;
}

/** A kernel by script: for each datagram that is sent, the datagrams that it answers. */
class ScriptedSocket implements Socket {
  readonly portID = PORT_ID;
  readonly sent: NetlinkMessage[][] = [];
  readonly #answer: (sent: readonly NetlinkMessage[], round: number) => readonly (readonly Reply[])[];
  readonly #queue: Uint8Array[] = [];

  constructor(answer: (sent: readonly NetlinkMessage[], round: number) => readonly (readonly Reply[])[]) {
    this.#answer = answer;
  }

  send(bytes: Uint8Array): void {
    const messages = splitMessages(bytes.slice());
    this.sent.push(messages);
    for (const datagram of this.#answer(messages, this.sent.length - 1)) this.#queue.push(encode(datagram));
  }

  receive(buffer: Uint8Array): number | undefined {
    const bytes = this.#queue.shift();
    if (bytes === undefined) return undefined;
    buffer.set(bytes);
    return bytes.length;
  }

  close(): void {}
}

function encode(replies: readonly Reply[]): Uint8Array {
  const w = new MessageWriter();
  for (const { type, flags = 0, seq, payload = 0, portID = PORT_ID } of replies) {
    const bytes = typeof payload === "number" ? [...new Uint8Array(Int32Array.of(payload).buffer)] : payload;
    w.u32(16 + bytes.length);
    w.u16(type);
    w.u16(flags);
    w.u32(seq);
    w.u32(portID);
    for (const byte of bytes) w.u8(byte);
    w.align();
  }
  return w.bytes().slice();
}

function request(type = RTM_NEWROUTE): Request {
  return { type, flags: 0, encode: (w) => w.u32(0), describe: () => "10.0.0.0/26" };
}

const seqOf = (message: NetlinkMessage | undefined): number => message?.seq ?? -1;

describe("Conn.executeBatch()", () => {
  test("sends many requests at once, asks to acknowledge the last, and gives each its own error", () => {
    const socket = new ScriptedSocket((sent) => [
      [{ type: NLMSG_ERROR, seq: seqOf(sent[1]), payload: -17 }],
      [{ type: NLMSG_ERROR, seq: seqOf(sent.at(-1)), payload: 0 }],
    ]);
    const results = new Conn(socket).executeBatch([request(), request(), request()]);
    expect(results.map(({ error }) => error?.errnoName)).toEqual([undefined, "EEXIST", undefined]);
    expect(results[1]?.error?.message).toBe("RTM_NEWROUTE 10.0.0.0/26 failed with EEXIST");
    expect(socket.sent).toHaveLength(1);
    expect(socket.sent[0]?.map(({ flags }) => flags & NLM_F_ACK)).toEqual([0, 0, NLM_F_ACK]);
  });

  test("splits a large batch, so that its errors fit in the receive buffer", () => {
    const socket = new ScriptedSocket((sent) => [
      sent.map((message) => ({ type: NLMSG_ERROR, seq: message.seq, payload: -1 })),
    ]);
    const results = new Conn(socket).executeBatch(Array.from({ length: 200 }, () => request()));
    expect(results.filter(({ error }) => error?.errnoName === "EPERM")).toHaveLength(200);
    expect(socket.sent.every((messages) => messages.length <= 64)).toBe(true);
  });

  test("gives replies to the request that asked, as copies", () => {
    const socket = new ScriptedSocket((sent) => [
      [{ type: RTM_NEWLINK, seq: seqOf(sent[0]), payload: [1, 2, 3, 4] }],
      [{ type: NLMSG_ERROR, seq: seqOf(sent[1]) }],
    ]);
    const conn = new Conn(socket);
    const [first, second] = conn.executeBatch([request(RTM_GETLINK), request()]);
    conn.executeBatch([request(RTM_GETLINK), request()]);
    expect(first?.replies.map(({ payload }) => [...payload])).toEqual([[1, 2, 3, 4]]);
    expect(second?.replies).toEqual([]);
  });

  test("skips what an earlier call left, and what is for another port", () => {
    const socket = new ScriptedSocket((sent) => [
      [{ type: NLMSG_ERROR, seq: seqOf(sent[0]) - 1, payload: -17 }],
      [{ type: NLMSG_ERROR, seq: seqOf(sent[0]), payload: -17, portID: 1 }],
      [{ type: NLMSG_ERROR, seq: seqOf(sent[0]) }],
    ]);
    expect(new Conn(socket).executeBatch([request()])[0]?.error).toBeUndefined();
  });

  test("throws when no answer comes", () => {
    expect(() => new Conn(new ScriptedSocket(() => [])).executeBatch([request()])).toThrow(
      expect.objectContaining({ errnoName: "ETIMEDOUT" }),
    );
  });
});

describe("Conn.dump()", () => {
  const item = (seq: number, byte: number, flags = 0): Reply => ({ type: RTM_NEWLINK, seq, flags, payload: [byte] });
  const list = (conn: Conn): number[] => conn.dump(request(RTM_GETLINK), (message) => message.payload[0]);

  test("collects all datagrams up to DONE", () => {
    const socket = new ScriptedSocket(([sent]) => {
      const seq = seqOf(sent);
      return [[item(seq, 1), item(seq, 2)], [item(seq, 3)], [{ type: NLMSG_DONE, seq }]];
    });
    expect(list(new Conn(socket))).toEqual([1, 2, 3]);
  });

  test.each(["item", "done"])("lists again when the flag DUMP_INTR stands on a message (%s)", (where) => {
    const socket = new ScriptedSocket(([sent], round) => {
      const seq = seqOf(sent);
      if (round > 1) return [[item(seq, 1), item(seq, 2)], [{ type: NLMSG_DONE, seq }]];
      const flag = (here: string): number => (here === where ? NLM_F_DUMP_INTR : 0);
      return [[item(seq, 1, flag("item"))], [{ type: NLMSG_DONE, seq, flags: flag("done") }]];
    });
    expect(list(new Conn(socket))).toEqual([1, 2]);
    expect(socket.sent).toHaveLength(3);
  });

  test("gives up with EINTR when it is interrupted every time", () => {
    const socket = new ScriptedSocket(([sent]) => [[{ type: NLMSG_DONE, seq: seqOf(sent), flags: NLM_F_DUMP_INTR }]]);
    expect(() => list(new Conn(socket))).toThrow(expect.objectContaining({ errnoName: "EINTR" }));
    expect(socket.sent.length).toBeLessThan(100);
  });

  test("throws the error that DONE or ERROR carries", () => {
    for (const type of [NLMSG_DONE, NLMSG_ERROR]) {
      const socket = new ScriptedSocket(([sent]) => [[{ type, seq: seqOf(sent), payload: -1 }]]);
      expect(() => list(new Conn(socket))).toThrow(expect.objectContaining({ errnoName: "EPERM" }));
    }
  });
});
