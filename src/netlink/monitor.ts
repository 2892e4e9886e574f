// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import { NetlinkError } from "./errors.ts";
import { NetlinkSocket } from "./socket.ts";
import * as c from "./wire/constants.ts";
import { DecodeError } from "./wire/errors.ts";
import { type NetlinkMessage, splitMessages } from "./wire/message.ts";

/** What a notification's type says that it is about. */
export type Topic = "link" | "addr" | "route" | "neigh";

/**
 * `overrun`: the kernel dropped notifications, and only listing everything again helps. `tunnel`: a link or its addresses,
 * of which the listener has said that it is a tunnel.
 */
export type ChangeKind = Topic | "tunnel" | "overrun";

export interface MonitorOptions {
  readonly kinds: readonly Topic[];
  /** Called once for each kind that changed since the last look. */
  readonly onChange: (kind: ChangeKind) => void;
  /** What a notification counts as, if not by its type; undefined leaves it out. It must be cheap. */
  readonly classify?: (topic: Topic, message: NetlinkMessage) => ChangeKind | undefined;
  /** @default 50 */
  readonly intervalMs?: number;
}

const GROUPS: Readonly<Record<Topic, readonly number[]>> = {
  link: [c.RTNLGRP_LINK],
  addr: [c.RTNLGRP_IPV4_IFADDR, c.RTNLGRP_IPV6_IFADDR],
  route: [c.RTNLGRP_IPV4_ROUTE, c.RTNLGRP_IPV6_ROUTE],
  neigh: [c.RTNLGRP_NEIGH],
};

const TOPICS: ReadonlyMap<number, Topic> = new Map<number, Topic>([
  [c.RTM_NEWLINK, "link"],
  [c.RTM_DELLINK, "link"],
  [c.RTM_NEWADDR, "addr"],
  [c.RTM_DELADDR, "addr"],
  [c.RTM_NEWROUTE, "route"],
  [c.RTM_DELROUTE, "route"],
  [c.RTM_NEWNEIGH, "neigh"],
  [c.RTM_DELNEIGH, "neigh"],
]);

const DEFAULT_INTERVAL_MS = 50;
const RECEIVE_BUFFER_BYTES = 4 << 20;

/**
 * Tells that something changed in the kernel, without what: whoever listens lists again, so lost, doubled and
 * reordered notifications do no harm.
 *
 * It looks at its socket on a timer and never waits in the kernel, because a pending read would hold the thread (or a
 * pool thread, and with it the process). One look with nothing to read costs a few microseconds.
 */
export class Monitor implements Disposable {
  readonly #socket: NetlinkSocket;
  readonly #timer: NodeJS.Timeout;
  readonly #options: MonitorOptions;
  readonly #buffer = new Uint8Array(64 * 1024);

  /** Listens to the calling thread's namespace. @throws NetlinkError */
  constructor(options: MonitorOptions) {
    this.#options = options;
    this.#socket = new NetlinkSocket({
      groups: options.kinds.flatMap((kind) => GROUPS[kind]),
      nonBlocking: true,
      receiveBufferBytes: RECEIVE_BUFFER_BYTES,
    });
    this.#timer = setInterval(() => this.poll(), options.intervalMs ?? DEFAULT_INTERVAL_MS);
    this.#timer.unref();
  }

  /** Reads what has come and calls back. Long batches call it in between, so that their echo does not overrun. */
  poll(): void {
    const seen = new Set<ChangeKind>();
    while (this.#readOnce(seen));
    for (const kind of seen) this.#options.onChange(kind);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** False when the socket is empty. */
  #readOnce(seen: Set<ChangeKind>): boolean {
    try {
      const length = this.#socket.receive(this.#buffer);
      if (length === undefined) return false;
      if (length >= this.#buffer.length) seen.add("overrun");
      else for (const message of splitMessages(this.#buffer.subarray(0, length))) this.#note(message, seen);
      return true;
    } catch (error) {
      const isLoss = error instanceof NetlinkError && error.errno === constants.errno.ENOBUFS;
      if (!isLoss && !(error instanceof DecodeError)) throw error;
      seen.add("overrun");
      return true;
    }
  }

  #note(message: NetlinkMessage, seen: Set<ChangeKind>): void {
    const topic = TOPICS.get(message.type);
    if (topic === undefined) return;
    const { classify } = this.#options;
    const kind = classify === undefined ? topic : classify(topic, message);
    if (kind !== undefined) seen.add(kind);
  }
}
