// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import { NetlinkError } from "./errors.ts";
import { NetlinkSocket, type SocketOptions } from "./socket.ts";
import { DecodeError } from "./wire/errors.ts";
import { type NetlinkMessage, splitMessages } from "./wire/message.ts";

export interface NotificationOptions extends Pick<SocketOptions, "protocol" | "groups"> {
  readonly onMessage: (message: NetlinkMessage) => void;
  /** The kernel dropped notifications, or sent what cannot be read. */
  readonly onLoss: () => void;
  /** Everything that had come has been handed over. */
  readonly onEmpty: () => void;
  /** @default 50 */
  readonly intervalMs?: number;
}

const DEFAULT_INTERVAL_MS = 50;
const RECEIVE_BUFFER_BYTES = 4 << 20;

/**
 * Reads the kernel's notifications of some groups.
 *
 * It looks at its socket on a timer and never waits in the kernel, because a pending read would hold the thread (or a
 * pool thread, and with it the process). One look with nothing to read costs a few microseconds.
 */
export class Notifications implements Disposable {
  readonly #socket: NetlinkSocket;
  readonly #timer: NodeJS.Timeout;
  readonly #options: NotificationOptions;
  readonly #buffer = new Uint8Array(64 * 1024);

  /** Listens to the calling thread's namespace. @throws NetlinkError */
  constructor(options: NotificationOptions) {
    this.#options = options;
    const { protocol, groups = [] } = options;
    this.#socket = new NetlinkSocket({
      ...(protocol !== undefined && { protocol }),
      groups,
      nonBlocking: true,
      receiveBufferBytes: RECEIVE_BUFFER_BYTES,
    });
    this.#timer = setInterval(() => this.poll(), options.intervalMs ?? DEFAULT_INTERVAL_MS);
    this.#timer.unref();
  }

  /** Reads what has come. Long batches call it in between, so that their echo does not overrun. */
  poll(): void {
    while (this.#readOnce());
    this.#options.onEmpty();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** False when the socket is empty. */
  #readOnce(): boolean {
    const { onMessage, onLoss } = this.#options;
    try {
      const length = this.#socket.receive(this.#buffer);
      if (length === undefined) return false;
      if (length >= this.#buffer.length) onLoss();
      else for (const message of splitMessages(this.#buffer.subarray(0, length))) onMessage(message);
    } catch (error) {
      const isLoss = error instanceof NetlinkError && error.errno === constants.errno.ENOBUFS;
      if (!isLoss && !(error instanceof DecodeError)) throw error;
      onLoss();
    }
    return true;
  }
}
