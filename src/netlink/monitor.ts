// SPDX-License-Identifier: Apache-2.0
import { Notifications } from "./notifications.ts";
import * as c from "./wire/constants.ts";
import type { NetlinkMessage } from "./wire/message.ts";

/** What a notification's type says that it is about. */
export type Topic = "link" | "addr" | "route" | "neigh" | "forwarding";

/**
 * `overrun`: the kernel dropped notifications, and only listing everything again helps. `tunnel`: a link or its addresses,
 * of which the listener has said that it is a tunnel. `linkSetting`: forwarding and its like, of one link.
 */
export type ChangeKind = Topic | "tunnel" | "linkSetting" | "overrun";

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
  forwarding: [c.RTNLGRP_IPV4_NETCONF, c.RTNLGRP_IPV6_NETCONF],
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
  [c.RTM_NEWNETCONF, "forwarding"],
]);

/**
 * Tells that something changed in the kernel, without what: whoever listens lists again, so lost, doubled and
 * reordered notifications do no harm.
 */
export class Monitor implements Disposable {
  readonly #notifications: Notifications;
  readonly #options: MonitorOptions;
  #seen = new Set<ChangeKind>();

  /** Listens to the calling thread's namespace. @throws NetlinkError */
  constructor(options: MonitorOptions) {
    this.#options = options;
    const { intervalMs } = options;
    this.#notifications = new Notifications({
      groups: options.kinds.flatMap((kind) => GROUPS[kind]),
      onMessage: (message) => this.#note(message),
      onLoss: () => this.#seen.add("overrun"),
      onEmpty: () => this.#tell(),
      ...(intervalMs !== undefined && { intervalMs }),
    });
  }

  /** Reads what has come and calls back. Long batches call it in between, so that their echo does not overrun. */
  poll(): void {
    this.#notifications.poll();
  }

  close(): void {
    this.#notifications.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #note(message: NetlinkMessage): void {
    const topic = TOPICS.get(message.type);
    if (topic === undefined) return;
    const { classify } = this.#options;
    const kind = classify === undefined ? topic : classify(topic, message);
    if (kind !== undefined) this.#seen.add(kind);
  }

  #tell(): void {
    if (this.#seen.size === 0) return;
    const seen = this.#seen;
    this.#seen = new Set();
    for (const kind of seen) this.#options.onChange(kind);
  }
}
