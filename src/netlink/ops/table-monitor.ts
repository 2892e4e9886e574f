// SPDX-License-Identifier: Apache-2.0
import type { TableChange } from "../../felix/nft/ports.ts";
import { Notifications } from "../notifications.ts";
import { AttributeReader } from "../wire/attribute.ts";
import {
  NETLINK_NETFILTER,
  NFNL_SUBSYS_NFTABLES,
  NFNLGRP_NFTABLES,
  NFPROTO_INET,
  NFT_MSG_NEWGEN,
  NFTA_TABLE_NAME,
} from "../wire/constants.ts";
import type { NetlinkMessage } from "../wire/message.ts";

const NFGENMSG_BYTES = 4;

export interface TableMonitorOptions {
  /** Name of the table, of family inet. */
  readonly table: string;
  readonly onChange: (change: TableChange) => void;
  /** @default 50 */
  readonly intervalMs?: number;
}

/**
 * Tells who changed one table of nftables, of family inet, without what.
 *
 * The kernel tells of every table, one message for each rule and element, so a machine whose kube-proxy writes ten thousand
 * rules brings as many: of those only the header and the table's name are read. More than the socket holds is a loss.
 */
export class TableMonitor implements Disposable {
  readonly #notifications: Notifications;
  #portIDs = new Set<number>();
  #isLost = false;

  /** Listens to the calling thread's namespace. @throws NetlinkError where the kernel has no netfilter */
  constructor({ table, onChange, intervalMs }: TableMonitorOptions) {
    this.#notifications = new Notifications({
      protocol: NETLINK_NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      onMessage: (message) => {
        if (isAbout(message, table)) this.#portIDs.add(message.portID);
      },
      onLoss: () => {
        this.#isLost = true;
      },
      onEmpty: () => {
        if (this.#portIDs.size === 0 && !this.#isLost) return;
        const change = { portIDs: [...this.#portIDs], isLost: this.#isLost };
        this.#portIDs = new Set();
        this.#isLost = false;
        onChange(change);
      },
      ...(intervalMs !== undefined && { intervalMs }),
    });
  }

  close(): void {
    this.#notifications.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function isAbout({ type, payload }: NetlinkMessage, table: string): boolean {
  if (type >> 8 !== NFNL_SUBSYS_NFTABLES || type === NFT_MSG_NEWGEN || payload[0] !== NFPROTO_INET) return false;
  const attributes = new AttributeReader(payload, NFGENMSG_BYTES);
  // The length first: nearly all names differ in it, and text is made of none of these.
  return (
    attributes.next() &&
    attributes.type === NFTA_TABLE_NAME &&
    attributes.length === table.length + 1 &&
    attributes.string() === table
  );
}
