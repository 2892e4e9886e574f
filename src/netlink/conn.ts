// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import { NetlinkError } from "./errors.ts";
import { NetlinkSocket, type SocketOptions } from "./socket.ts";
import { MessageWriter } from "./wire/attribute.ts";
import {
  messageTypeName,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
} from "./wire/constants.ts";
import { DecodeError } from "./wire/errors.ts";
import { decodeAcknowledgement, encodeMessage, type NetlinkMessage, splitMessages } from "./wire/message.ts";

/** One thing to ask of the kernel. Built by the functions in `ops/`. */
export interface Request {
  /** RTM_*, IPCTNL_*. */
  readonly type: number;
  /** NLM_F_* beyond REQUEST, ACK and DUMP, which Conn sets itself. */
  readonly flags: number;
  /** Appends the payload. */
  encode(w: MessageWriter): void;
  /** The object in words, for errors; called only when there is one. */
  describe?(): string;
}

/** Outcome of one request of a batch. */
export interface BatchResult {
  readonly error?: NetlinkError;
  /** What the kernel answered besides the acknowledgement: the object of a RTM_GET*. Payloads are copies. */
  readonly replies: readonly NetlinkMessage[];
}

/** What Conn needs of a socket; tests script it. */
export type Socket = Pick<NetlinkSocket, "send" | "receive" | "close" | "portID">;

/** The kernel fills at most 32 KiB for a dump; single replies are smaller. */
const RECEIVE_BYTES = 64 * 1024;
/**
 * Requests in one send. All their errors, or replies of a few KiB each, must fit in the smallest receive buffer that an
 * ordinary user gets (rmem_max doubled, 416 KiB), or the kernel drops some. Larger batches are no faster.
 */
const BATCH_REQUESTS = 64;
const TIMED_OUT = constants.errno.ETIMEDOUT;
const DUMP_ATTEMPTS = 20;
/**
 * Where all Conns of the thread receive: nothing of a datagram is kept once the next is asked for, and each pod has a Conn of its
 * own for a moment.
 */
let received: Uint8Array | undefined;
const NO_REPLIES: readonly NetlinkMessage[] = [];
const SUCCESS: BatchResult = { replies: NO_REPLIES };

/**
 * A conversation with the kernel over one socket: rtnetlink, or another family of netlink.
 *
 * Invariants: one call at a time (all are synchronous and block the thread, so this never runs on the agent's main
 * thread); a message counts only when its sequence number and port ID are those of the call under way, so what is left
 * over from a call that failed half-way is skipped; a dump that the kernel calls interrupted is never handed out.
 */
export class Conn implements Disposable {
  readonly #socket: Socket;
  readonly #writer = new MessageWriter();
  #seq = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Opens in the calling thread's namespace. @throws NetlinkError */
  static open(options?: SocketOptions): Conn {
    return new Conn(new NetlinkSocket(options));
  }

  /** The socket's address; the kernel's notifications of what this Conn changed carry it. */
  get portID(): number {
    return this.#socket.portID;
  }

  /** Sends one request and returns its replies. @throws NetlinkError */
  execute(request: Request): readonly NetlinkMessage[] {
    const [result] = this.executeBatch([request]);
    if (result?.error !== undefined) throw result.error;
    return result?.replies ?? NO_REPLIES;
  }

  /**
   * As executeBatch, for steps that only make sense together.
   *
   * @throws NetlinkError the first failure; later requests were tried all the same
   */
  executeAll(requests: readonly Request[]): readonly BatchResult[] {
    const results = this.executeBatch(requests);
    for (const { error } of results) if (error !== undefined) throw error;
    return results;
  }

  /**
   * Sends many requests with few system calls; the kernel works them off in order, and a failure stops none of the
   * others. The results stand in the order of the requests.
   *
   * Only the last message of a send asks for an acknowledgement: the kernel reports every failure unasked, and works
   * strictly in order, so an acknowledged last one means that the silent ones before it succeeded.
   *
   * @throws NetlinkError when the conversation itself fails (the outcome of some requests is unknown then)
   */
  executeBatch(requests: readonly Request[]): readonly BatchResult[] {
    const results = new Array<BatchResult>(requests.length).fill(SUCCESS);
    for (let start = 0; start < requests.length; start += BATCH_REQUESTS) {
      this.#executeChunk(requests, start, Math.min(start + BATCH_REQUESTS, requests.length), results);
    }
    return results;
  }

  /**
   * Lists objects; `decode` answers undefined to leave one out, and must not keep the payload. The whole listing is
   * repeated while the kernel says that it changed meanwhile (NLM_F_DUMP_INTR), since such a listing may lack objects
   * that were there all the time.
   *
   * @throws NetlinkError EINTR when it was interrupted every time
   */
  dump<T>(request: Request, decode: (message: NetlinkMessage) => T | undefined): T[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const listing = this.#dumpOnce(request, decode);
      if (listing !== undefined) return listing;
    }
    throw failure(request, { errno: constants.errno.EINTR, extack: { message: "dump interrupted every time" } });
  }

  /**
   * As dump, but hands out the objects of one datagram at a time, so that a large table need not hold up the thread.
   * Until it has ended, nothing else may be asked; whoever stops before that closes the Conn.
   *
   * @throws NetlinkError EINTR at the end, when the kernel says that the listing may lack objects
   */
  *dumpInParts<T>(request: Request, decode: (message: NetlinkMessage) => T | undefined): Generator<T[], void> {
    const interrupted = yield* this.#receiveDump(request, decode);
    if (interrupted) throw failure(request, { errno: constants.errno.EINTR });
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #executeChunk(requests: readonly Request[], start: number, end: number, results: BatchResult[]): void {
    const firstSeq = this.#nextSeqs(end - start);
    const writer = this.#writer;
    writer.reset();
    for (let i = start; i < end; i++) {
      const request = requests[i];
      if (request !== undefined) this.#write(request, i === end - 1 ? NLM_F_ACK : 0, firstSeq + i - start);
    }
    this.#socket.send(writer.bytes());
    for (let done = false; !done; ) {
      for (const message of this.#receive()) {
        const index = start + message.seq - firstSeq;
        const request = requests[index];
        if (index < start || index >= end || request === undefined) continue;
        if (message.type === NLMSG_ERROR) {
          const ack = decodeAcknowledgement(message);
          if (ack.errno !== 0) results[index] = { error: failure(request, ack), replies: NO_REPLIES };
          if (index === end - 1) done = true;
        } else {
          const replies = results[index]?.replies ?? NO_REPLIES;
          results[index] = { replies: [...replies, { ...message, payload: message.payload.slice() }] };
        }
      }
    }
  }

  #dumpOnce<T>(request: Request, decode: (message: NetlinkMessage) => T | undefined): T[] | undefined {
    const listing: T[] = [];
    const parts = this.#receiveDump(request, decode);
    for (;;) {
      const { done, value } = parts.next();
      if (done) return value ? undefined : listing;
      for (const item of value) listing.push(item);
    }
  }

  /** Yields what each datagram held. Returns whether the listing was interrupted. */
  *#receiveDump<T>(request: Request, decode: (message: NetlinkMessage) => T | undefined): Generator<T[], boolean> {
    const seq = this.#nextSeqs(1);
    let interrupted = false;
    this.#writer.reset();
    this.#write(request, NLM_F_DUMP, seq);
    this.#socket.send(this.#writer.bytes());
    for (;;) {
      const part: T[] = [];
      for (const message of this.#receive()) {
        if (message.seq !== seq) continue;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
          const ack = decodeAcknowledgement(message);
          if (ack.errno !== 0) throw failure(request, ack);
          if (part.length > 0) yield part;
          return interrupted;
        }
        // An interrupted listing is read to its end, so that nothing of it is left in the socket.
        const item = interrupted ? undefined : decode(message);
        if (item !== undefined) part.push(item);
      }
      yield part;
    }
  }

  #write(request: Request, extraFlags: number, seq: number): void {
    const flags = NLM_F_REQUEST | request.flags | extraFlags;
    encodeMessage(this.#writer, { type: request.type, flags, seq }, (w) => request.encode(w));
  }

  #receive(): NetlinkMessage[] {
    received ??= new Uint8Array(RECEIVE_BYTES);
    const length = this.#socket.receive(received);
    if (length === undefined) throw new NetlinkError({ op: "wait for the kernel's answer", errno: TIMED_OUT });
    if (length >= received.length) throw new DecodeError(`Netlink datagram of ${length} bytes or more was cut`);
    const messages = splitMessages(received.subarray(0, length));
    return messages.filter((message) => message.portID === this.#socket.portID);
  }

  /** Reserves a run of sequence numbers that does not wrap within; 0 is never one, since notifications carry it. */
  #nextSeqs(count: number): number {
    if (this.#seq + count >= 0xffffffff) this.#seq = 0;
    const first = this.#seq + 1;
    this.#seq += count;
    return first;
  }
}

function failure(
  request: Request,
  ack: Pick<NetlinkError, "errno"> & { extack?: NetlinkError["extack"] },
): NetlinkError {
  const words = request.describe?.();
  const op = words === undefined ? messageTypeName(request.type) : `${messageTypeName(request.type)} ${words}`;
  return new NetlinkError({ op, errno: ack.errno, ...(ack.extack === undefined ? {} : { extack: ack.extack }) });
}
