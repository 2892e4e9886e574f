// SPDX-License-Identifier: Apache-2.0
import type { TableChange } from "../../felix/nft/ports.ts";
import { Notifications } from "../notifications.ts";
import { AttributeReader } from "../wire/attribute.ts";
import * as c from "../wire/constants.ts";
import type { NetlinkMessage } from "../wire/message.ts";

const NFGENMSG_BYTES = 4;

/** What a notification says of the thing that it names. Kinds that may leave a table as it was are not here. */
const DAMAGE: ReadonlyMap<number, (name: string) => string> = new Map<number, (name: string) => string>([
  [c.NFT_MSG_DELTABLE, () => "table missing"],
  [c.NFT_MSG_DELCHAIN, (name) => `chain ${name} missing`],
  [c.NFT_MSG_NEWRULE, (name) => `rule of chain ${name} unknown`],
  [c.NFT_MSG_DELRULE, (name) => `rule of chain ${name} missing`],
  [c.NFT_MSG_DELSET, (name) => `set ${name} missing`],
  [c.NFT_MSG_DELSETELEM, (name) => `element of set ${name} missing`],
]);

export interface TableMonitorOptions {
  /** Name of the table, of family inet. */
  readonly table: string;
  readonly onChange: (change: TableChange) => void;
  /** @default 50 */
  readonly intervalMs?: number;
}

/**
 * Tells who changed one table of nftables, of family inet, and what is certainly wrong with it now.
 *
 * The kernel tells of every table, one message for each rule and element, so a machine whose kube-proxy writes ten thousand
 * rules brings as many: of those only the header and the table's name are read. More than the socket holds is a loss.
 */
export class TableMonitor implements Disposable {
  readonly #notifications: Notifications;
  #damage = new Map<number, Set<string>>();
  #isLost = false;

  /** Listens to the calling thread's namespace. @throws NetlinkError where the kernel has no netfilter */
  constructor({ table, onChange, intervalMs }: TableMonitorOptions) {
    this.#notifications = new Notifications({
      protocol: c.NETLINK_NETFILTER,
      groups: [c.NFNLGRP_NFTABLES],
      onMessage: (message) => this.#note(message, table),
      onLoss: () => {
        this.#isLost = true;
      },
      onEmpty: () => {
        if (this.#damage.size === 0 && !this.#isLost) return;
        const damage = new Map([...this.#damage].map(([portID, what]) => [portID, namesOf(what)]));
        const change = { damage, isLost: this.#isLost };
        this.#damage = new Map();
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

  #note({ type, portID, payload }: NetlinkMessage, table: string): void {
    if (type >> 8 !== c.NFNL_SUBSYS_NFTABLES || type === c.NFT_MSG_NEWGEN || payload[0] !== c.NFPROTO_INET) return;
    const attributes = new AttributeReader(payload, NFGENMSG_BYTES);
    // The length first: nearly all names differ in it, and text is made of none of these.
    const isOurs =
      attributes.next() &&
      attributes.type === c.NFTA_TABLE_NAME &&
      attributes.length === table.length + 1 &&
      attributes.string() === table;
    if (!isOurs) return;
    const what = this.#damage.get(portID) ?? new Set();
    this.#damage.set(portID, what);
    const describe = DAMAGE.get(type);
    const name = describe !== undefined && attributes.next() ? attributes.string() : "";
    // A set without a name goes with its rule.
    if (describe !== undefined && !name.startsWith("__")) what.add(describe(name));
  }
}

/** With the table went all that was in it, of which the kernel tells one by one. */
function namesOf(what: ReadonlySet<string>): readonly string[] {
  return what.has("table missing") ? ["table missing"] : [...what];
}
