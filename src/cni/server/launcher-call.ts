// SPDX-License-Identifier: Apache-2.0

/** The launcher's one request and its answer, as bytes. Pure. Source: launcher/gingham.c; RFC 9112. */

const REQUEST_LINE = "POST /cni HTTP/1.1\r\n";
const HEAD_END = "\r\n\r\n";
/** What would change the meaning of what follows; the launcher sends neither. */
const UNUSUAL = /\r\n(?:transfer-encoding|expect|upgrade):/i;
const LENGTH = /\r\ncontent-length: *(\d{1,9}) *(?:\r\n|$)/i;

/**
 * The body, when these bytes are one whole request as the launcher writes it. Undefined for everything else: another
 * request, one that came in pieces, or no HTTP at all.
 */
export function bodyOfCall(bytes: Buffer): Buffer | undefined {
  if (bytes.toString("latin1", 0, REQUEST_LINE.length) !== REQUEST_LINE) return undefined;
  const headEnd = bytes.indexOf(HEAD_END);
  if (headEnd < 0) return undefined;
  const head = bytes.toString("latin1", 0, headEnd);
  const length = LENGTH.exec(head)?.[1];
  if (length === undefined || UNUSUAL.test(head)) return undefined;
  const body = bytes.subarray(headEnd + HEAD_END.length);
  return body.length === Number(length) ? body : undefined;
}

/** The answer after which the connection is closed. */
export function renderAnswer(status: 200 | 500, body: string): string {
  const reason = status === 200 ? "OK" : "Internal Server Error";
  const headers = `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close`;
  return `HTTP/1.1 ${status} ${reason}\r\n${headers}${HEAD_END}${body}`;
}
