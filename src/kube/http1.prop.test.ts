// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AnswerReader, HTTPSyntaxError, renderRequest } from "./http1.ts";

/** Feeds the bytes in pieces of these lengths, over and over. */
function read(text: string, lengths: readonly number[]): ReturnType<AnswerReader["push"]> {
  const reader = new AnswerReader();
  const bytes = Buffer.from(text);
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length] ?? 1;
    const answer = reader.push(bytes.subarray(at, at + length));
    if (answer !== undefined) return answer;
    at += length;
  }
  return reader.end();
}

function chunked(body: string, lengths: readonly number[]): string {
  const bytes = Buffer.from(body);
  const parts: string[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length] ?? 1;
    const chunk = bytes.subarray(at, at + length);
    // Characters may be cut in two by a chunk: latin1 keeps each byte.
    parts.push(`${chunk.length.toString(16)};x=y\r\n${chunk.toString("latin1")}\r\n`);
    at += length;
  }
  return `${parts.join("")}0\r\nx-trailer: 1\r\n\r\n`;
}

const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });

describe("AnswerReader", () => {
  test("reads a body of a given length, in whatever pieces it comes, behind an interim answer", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), lengths, (body, pieces) => {
        const head = `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
        expect(read(head + body, pieces)).toEqual({ status: 200, retryAfterSeconds: undefined, text: body });
      }),
    );
  });

  test("reads chunks, in whatever pieces they come", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), lengths, lengths, (body, chunks, pieces) => {
        const reader = new AnswerReader();
        const head = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n";
        const bytes = Buffer.from(head + chunked(body, chunks), "latin1");
        let text: string | undefined;
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const length = pieces[i % pieces.length] ?? 1;
          text = reader.push(bytes.subarray(at, at + length))?.text ?? text;
          at += length;
        }
        expect(text).toBe(body);
        expect(reader.mayKeep).toBe(true);
      }),
    );
  });

  test("a body without a length ends with the connection", () => {
    const reader = new AnswerReader();
    expect(reader.push(Buffer.from("HTTP/1.0 500 Oops\r\nRetry-After: 3\r\n\r\nhalf"))).toBeUndefined();
    expect(reader.push(Buffer.from(" and half"))).toBeUndefined();
    expect(reader.end()).toEqual({ status: 500, retryAfterSeconds: 3, text: "half and half" });
    expect(reader.mayKeep).toBe(false);
  });

  test("a body that has a length does not end before it", () => {
    const reader = new AnswerReader();
    reader.push(Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"));
    expect(reader.end()).toBeUndefined();
  });

  test.each([
    ["HTTP/1.1 204 No Content\r\n\r\n", true],
    ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true],
    ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", false],
    ["HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", false],
    ["HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: Keep-Alive\r\n\r\n", true],
    ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK", false],
  ])("%j: may the connection be kept? %s", (text, mayKeep) => {
    const reader = new AnswerReader();
    expect(reader.push(Buffer.from(text))).toMatchObject({ text: "" });
    expect(reader.mayKeep).toBe(mayKeep);
  });

  test.each([
    "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 1e3\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
    `HTTP/1.1 200 OK\r\nx: ${"y".repeat(70_000)}`,
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${"0".repeat(9000)}`,
  ])("refuses %.60j", (text) => {
    expect(() => new AnswerReader().push(Buffer.from(text))).toThrow(HTTPSyntaxError);
  });
});

test("renderRequest() refuses a header that would begin another one", () => {
  const head = { method: "GET", path: "/", host: "h", headers: { authorization: "Bearer a\r\nx-evil: 1" } };
  expect(() => renderRequest(head, "")).toThrow(TypeError);
});
