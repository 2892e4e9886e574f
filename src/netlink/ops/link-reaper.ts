// SPDX-License-Identifier: Apache-2.0
import { randomInt } from "node:crypto";
import type { Conn } from "../conn.ts";
import { deleteLink, deleteLinkGroup, getLink, isNoSuchLink, linkOf, setLink } from "./link.ts";

/** A link by name and index; only where both agree is it the one that was meant. */
export interface LinkIdentity {
  readonly name: string;
  readonly index: number;
}

interface Waiter {
  readonly link: LinkIdentity;
  readonly resolve: (deleted: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** Link groups are signed in the kernel; 0 is where every link starts. */
const MAX_GROUP = 0x7fffffff;

/**
 * Deletes links, all that wait at the same time in one request.
 *
 * The kernel waits 20 to 30 ms for its readers in each RTM_DELLINK, and the thread with it. So what has been asked for
 * meanwhile is put into a group of its own, and the kernel deletes the group at the price of one.
 */
export class LinkReaper {
  readonly #conn: Conn;
  #waiting: Waiter[] = [];

  constructor(conn: Conn) {
    this.#conn = conn;
  }

  /** Resolves to whether there was such a link to delete. */
  delete(link: LinkIdentity): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    this.#waiting.push({ link, resolve, reject });
    // By then, every call that is queued in the thread's message port has been read.
    if (this.#waiting.length === 1) setImmediate(() => this.#flush());
    return promise;
  }

  #flush(): void {
    const waiters = this.#waiting;
    this.#waiting = [];
    try {
      const present = this.#present(waiters);
      this.#deleteAll(present.map((waiter) => waiter.link.index));
      for (const waiter of waiters) waiter.resolve(present.includes(waiter));
    } catch (error) {
      for (const waiter of waiters) waiter.reject(error);
    }
  }

  #present(waiters: readonly Waiter[]): Waiter[] {
    const results = this.#conn.executeBatch(waiters.map(({ link }) => getLink({ index: link.index })));
    return waiters.filter((waiter, i) => {
      const { error, replies } = results[i] ?? {};
      if (error !== undefined && !isNoSuchLink(error)) throw error;
      return linkOf(replies)?.name === waiter.link.name;
    });
  }

  #deleteAll(indexes: readonly number[]): void {
    if (indexes.length > 1) {
      const group = randomInt(1, MAX_GROUP);
      const grouped = this.#conn.executeBatch(indexes.map((index) => setLink({ index, group })));
      // Where a link could not be grouped, or the group holds one that cannot be deleted, each goes by itself below.
      if (grouped.every(({ error }) => error === undefined || isNoSuchLink(error))) {
        const [deleted] = this.#conn.executeBatch([deleteLinkGroup(group)]);
        if (deleted?.error === undefined || isNoSuchLink(deleted.error)) return;
      }
    }
    for (const { error } of this.#conn.executeBatch(indexes.map((index) => deleteLink({ index })))) {
      if (error !== undefined && !isNoSuchLink(error)) throw error;
    }
  }
}
