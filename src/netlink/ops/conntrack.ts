// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import type { Conntrack, FlushOutcome } from "../../cni/conntrack/ports.ts";
import { hostCIDR } from "../../net/cidr.ts";
import { bitsOf, familyOf, formatIP, type IP } from "../../net/ip.ts";
import { Conn, type Request } from "../conn.ts";
import { NetlinkError } from "../errors.ts";
import { readSysctl } from "../sysctl.ts";
import { type ConntrackMessage, type ConntrackTuple, decodeConntrack, encodeConntrack } from "../wire/conntrack.ts";
import {
  AF_UNSPEC,
  IPCTNL_MSG_CT_DELETE,
  IPCTNL_MSG_CT_GET,
  IPCTNL_MSG_CT_NEW,
  NETLINK_NETFILTER,
  NLM_F_CREATE,
  NLM_F_EXCL,
} from "../wire/constants.ts";
import { addressFamily } from "../wire/prefix.ts";
import { findRoute } from "./route.ts";

const { EPROTONOSUPPORT, EAFNOSUPPORT, EOPNOTSUPP, EINVAL, ENOENT } = constants.errno;
/** What a kernel without ctnetlink says to its socket, and to its messages. */
const UNSUPPORTED: ReadonlySet<number> = new Set([EPROTONOSUPPORT, EAFNOSUPPORT, EOPNOTSUPP, EINVAL]);
/** Deletions between two looks at the thread's other work. About 2 ms. */
const SLICE_DELETIONS = 256;

/** An entry that names its connection. */
export type ConntrackEntry = ConntrackMessage & { readonly original: ConntrackTuple };

function conntrackRequest(type: number, flags: number, entry: ConntrackMessage): Request {
  const { original } = entry;
  return {
    type,
    flags,
    encode: (w) => encodeConntrack(w, entry),
    describe: () => (original === undefined ? "" : `${formatIP(original.src)} to ${formatIP(original.dst)}`),
  };
}

/** Makes an entry; EEXIST when there is one of these tuples. */
export function newConntrack(entry: ConntrackEntry): Request {
  return conntrackRequest(IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL, entry);
}

/**
 * Deletes just this entry; ENOENT when it is gone, even if one of the same tuples has come. Without a tuple the kernel
 * would empty the whole table, which is why the type demands one.
 */
export function deleteConntrack({ family, original, id, zone }: ConntrackEntry): Request {
  return conntrackRequest(IPCTNL_MSG_CT_DELETE, 0, {
    family,
    original,
    ...(id !== undefined && { id }),
    ...(zone !== undefined && { zone }),
  });
}

/**
 * The connection tracking table of the calling thread's namespace, which is the host's.
 *
 * It lists the table and deletes by tuple and ID. The kernel can delete by a filter itself (CTA_FILTER, 6.10), but what
 * it takes for an IPv6 address is every address but that one (measured on 6.18), and each address needs four walks
 * through the whole table. A listing serves all addresses and lets the thread's other work in after each datagram.
 */
export class KernelConntrack implements Conntrack {
  readonly #routes: Conn;
  #conn: Conn | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  /** @param routes rtnetlink of the same namespace; it stays the caller's */
  constructor(routes: Conn) {
    this.#routes = routes;
  }

  flush(ips: readonly IP[]): Promise<FlushOutcome> {
    const flushed = this.#turn.then(() => this.#flush(ips));
    this.#turn = flushed.catch(() => this.#drop());
    return flushed;
  }

  /** Lets the flush under way finish. */
  async close(): Promise<void> {
    await this.#turn;
    this.#drop();
  }

  async #flush(released: readonly IP[]): Promise<FlushOutcome> {
    // Asking ctnetlink would make the kernel load it. Another program may do that later, so nothing is remembered.
    const count = readSysctl(["netfilter", "nf_conntrack_count"]);
    if (count === undefined) return { kind: "untracked", reason: "the kernel has no connection tracking loaded" };
    if (count === "0") return { kind: "flushed", entries: 0 };
    const ips = new Set(released.filter((ip) => !this.#isInUse(ip)));
    if (ips.size === 0) return { kind: "flushed", entries: 0 };
    let entries: ConntrackEntry[];
    try {
      entries = await this.#find(this.#open(), ips);
    } catch (error) {
      if (!(error instanceof NetlinkError) || !UNSUPPORTED.has(error.errno)) throw error;
      this.#drop();
      return { kind: "untracked", reason: error.message };
    }
    return { kind: "flushed", entries: await this.#delete(this.#open(), entries) };
  }

  /** Whether a pod of this host has the address. A route through another node says nothing of this node's entries. */
  #isInUse(ip: IP): boolean {
    const route = findRoute(this.#routes, hostCIDR(ip));
    const isViaNode = route?.gateway !== undefined || route?.via !== undefined;
    return route?.dst.prefixLength === bitsOf(familyOf(ip)) && !isViaNode;
  }

  #open(): Conn {
    this.#conn ??= Conn.open({ protocol: NETLINK_NETFILTER });
    return this.#conn;
  }

  async #find(conn: Conn, ips: ReadonlySet<IP>): Promise<ConntrackEntry[]> {
    const families = new Set([...ips].map(familyOf));
    const [family] = families;
    const af = family === undefined || families.size > 1 ? AF_UNSPEC : addressFamily(family);
    const found: ConntrackEntry[] = [];
    const all = conntrackRequest(IPCTNL_MSG_CT_GET, 0, { family: af });
    for (const part of conn.dumpInParts(all, ({ payload }) => entryOf(payload, ips))) {
      found.push(...part);
      await othersTurn();
    }
    return found;
  }

  /** Returns how many there were. All are tried before the first failure is thrown. */
  async #delete(conn: Conn, entries: readonly ConntrackEntry[]): Promise<number> {
    let deleted = 0;
    let failure: NetlinkError | undefined;
    for (let start = 0; start < entries.length; start += SLICE_DELETIONS) {
      if (start > 0) await othersTurn();
      for (const { error } of conn.executeBatch(entries.slice(start, start + SLICE_DELETIONS).map(deleteConntrack))) {
        if (error === undefined) deleted++;
        else if (error.errno !== ENOENT) failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return deleted;
  }

  #drop(): void {
    this.#conn?.close();
    this.#conn = undefined;
  }
}

function entryOf(payload: Uint8Array, ips: ReadonlySet<IP>): ConntrackEntry | undefined {
  const entry = decodeConntrack(payload);
  const { original, reply } = entry;
  if (original === undefined) return undefined;
  const isTheirs = (tuple: ConntrackTuple): boolean => ips.has(tuple.src) || ips.has(tuple.dst);
  return isTheirs(original) || (reply !== undefined && isTheirs(reply)) ? { ...entry, original } : undefined;
}

/** Lets the thread do what else it has been asked for. */
function othersTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
