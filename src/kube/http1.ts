// SPDX-License-Identifier: Apache-2.0
import type { Answer } from "./exchange.ts";

/**
 * HTTP/1.1 as a client needs it that sends one request after the other on a connection. Pure: text out, bytes in.
 * Source: RFC 9112.
 */

export interface RequestHead {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  /** Name and, unless it is the scheme's own, port. */
  readonly host: string;
  readonly headers: Readonly<Record<string, string | number>>;
}

/** A line break in a value would begin another header. */
const FORBIDDEN = /[\r\n\0]/;

/** @throws TypeError for a value that does not fit into its line: a token file with a line break in it, say. */
export function renderRequest({ method, path, host, headers }: RequestHead, body: string): string {
  let text = `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\n`;
  for (const name of Object.keys(headers)) {
    const value = String(headers[name]);
    if (FORBIDDEN.test(value)) throw new TypeError(`Header ${name} has a line break in its value`);
    text += `${name}: ${value}\r\n`;
  }
  return `${text}\r\n${body}`;
}

/** What came is no HTTP/1.1 answer. */
export class HTTPSyntaxError extends Error {}

const EMPTY: Buffer = Buffer.alloc(0);
const HEAD_END = "\r\n\r\n";
const MAX_HEAD_BYTES = 64 * 1024;
const MAX_LINE_BYTES = 8 * 1024;

/** What the next bytes are. `rest`: everything until the connection ends. */
type Part = "head" | "body" | "rest" | "chunkSize" | "chunk" | "chunkEnd" | "trailer" | "done";

/** Reads one answer, in whatever pieces it arrives. */
export class AnswerReader {
  /** The connection may carry another request after this answer. */
  mayKeep = false;
  #part: Part = "head";
  #unread: Buffer = EMPTY;
  /** Bytes that are still to come of the body, or of the chunk. */
  #left = 0;
  #status = 0;
  #retryAfterSeconds: number | undefined;
  readonly #body: Buffer[] = [];

  /** @returns the answer when its last byte is there. @throws HTTPSyntaxError */
  push(bytes: Buffer): Answer | undefined {
    this.#unread = this.#unread.length === 0 ? bytes : Buffer.concat([this.#unread, bytes]);
    while (this.#part !== "done" && this.#read());
    if (this.#part !== "done") return undefined;
    // Nobody asked for more.
    if (this.#unread.length > 0) this.mayKeep = false;
    return this.#answer();
  }

  /** The connection has ended. @returns the answer, if that is how it was to end */
  end(): Answer | undefined {
    return this.#part === "rest" ? this.#answer() : undefined;
  }

  /** Reads one part. False: more bytes are needed. */
  #read(): boolean {
    switch (this.#part) {
      case "head":
        return this.#readHead();
      case "body":
      case "chunk":
        return this.#readBody(this.#part === "body" ? "done" : "chunkEnd");
      case "chunkSize":
        return this.#readChunkSize();
      case "chunkEnd":
        return this.#readLine((line) => this.#expect(line === "", "a chunk longer than it says", "chunkSize"));
      case "trailer":
        return this.#readLine((line) => this.#goOn(line === "" ? "done" : "trailer"));
      case "rest":
        this.#body.push(this.#take(this.#unread.length));
        return false;
      case "done":
        return false;
    }
  }

  #readHead(): boolean {
    const end = this.#unread.indexOf(HEAD_END);
    if (end < 0) {
      if (this.#unread.length > MAX_HEAD_BYTES) throw new HTTPSyntaxError("The answer's head is too long");
      return false;
    }
    const head = this.#take(end + HEAD_END.length).toString("latin1", 0, end);
    const match = /^HTTP\/1\.([01]) (\d{3})/.exec(head);
    if (match === null) throw new HTTPSyntaxError("What answers does not speak HTTP/1.1");
    this.#status = Number(match[2]);
    // Only tells that the request goes well so far.
    if (this.#status < 200) return true;
    const retryAfter = Number(headerOf(head, "retry-after") ?? Number.NaN);
    this.#retryAfterSeconds = retryAfter >= 0 ? retryAfter : undefined;
    const connection = headerOf(head, "connection")?.toLowerCase();
    this.mayKeep = match[1] === "1" ? connection !== "close" : connection === "keep-alive";
    const length = headerOf(head, "content-length");
    if (headerOf(head, "transfer-encoding")?.toLowerCase() === "chunked") return this.#goOn("chunkSize");
    if (this.#status === 204 || this.#status === 304) return this.#goOn("done");
    if (length === undefined) {
      this.mayKeep = false;
      return this.#goOn("rest");
    }
    this.#left = Number(length);
    return this.#expect(/^\d+$/.test(length), `a length of ${length}`, this.#left === 0 ? "done" : "body");
  }

  #readBody(next: Part): boolean {
    const piece = this.#take(Math.min(this.#left, this.#unread.length));
    this.#left -= piece.length;
    this.#body.push(piece);
    return this.#left === 0 && this.#goOn(next);
  }

  #readChunkSize(): boolean {
    return this.#readLine((line) => {
      const [size = ""] = line.split(";", 1);
      this.#left = Number.parseInt(size, 16);
      const isSize = /^[0-9a-f]+\s*$/i.test(size) && Number.isSafeInteger(this.#left);
      return this.#expect(isSize, `a chunk of length ${size}`, this.#left === 0 ? "trailer" : "chunk");
    });
  }

  #readLine(use: (line: string) => boolean): boolean {
    const end = this.#unread.indexOf("\r\n");
    if (end < 0) {
      if (this.#unread.length > MAX_LINE_BYTES) throw new HTTPSyntaxError("The answer has a line without an end");
      return false;
    }
    return use(this.#take(end + 2).toString("latin1", 0, end));
  }

  #take(length: number): Buffer {
    const taken = this.#unread.subarray(0, length);
    this.#unread = this.#unread.subarray(length);
    return taken;
  }

  #goOn(part: Part): true {
    this.#part = part;
    return true;
  }

  #expect(isSo: boolean, otherwise: string, part: Part): true {
    if (!isSo) throw new HTTPSyntaxError(`The answer has ${otherwise}`);
    return this.#goOn(part);
  }

  #answer(): Answer {
    const [first = EMPTY] = this.#body;
    const bytes = this.#body.length > 1 ? Buffer.concat(this.#body) : first;
    return { status: this.#status, retryAfterSeconds: this.#retryAfterSeconds, text: bytes.toString("utf8") };
  }
}

/** The value of a header, whose name is given in lower case. */
function headerOf(head: string, name: string): string | undefined {
  // A head has a dozen lines, and three of them matter: searching costs less than a table of all.
  const at = head.toLowerCase().indexOf(`\r\n${name}:`);
  if (at < 0) return undefined;
  const from = at + name.length + 3;
  const end = head.indexOf("\r\n", from);
  return head.slice(from, end < 0 ? undefined : end).trim();
}
