// SPDX-License-Identifier: Apache-2.0
import { closeSync, writeSync } from "node:fs";
import { constants } from "node:os";
import { errnoOf, NetlinkError } from "./errors.ts";
import * as libc from "./libc.ts";
import { LITTLE_ENDIAN } from "./wire/attribute.ts";
import { NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK, NETLINK_ROUTE } from "./wire/constants.ts";

export interface SocketOptions {
  /** NETLINK_*; rtnetlink by default. */
  readonly protocol?: number;
  /** Multicast groups (RTNLGRP_*, up to 32) to listen to. */
  readonly groups?: readonly number[];
  /** Receives answer at once when nothing has come. */
  readonly nonBlocking?: boolean;
  /** Units: bytes; an ordinary user gets at most net.core.rmem_max. */
  readonly receiveBufferBytes?: number;
}

/** Nothing in the kernel takes this long; the limit only keeps a lost reply from blocking the thread for good. */
const RECEIVE_TIMEOUT_SECONDS = 10;
const SOCKADDR_NL_BYTES = 12;
const DEFAULT_RECEIVE_BUFFER_BYTES = 1 << 20;

/**
 * One netlink socket, bound and set up. It belongs to the namespace that the thread was in when it was opened,
 * and serves any thread from then on.
 *
 * Replies come without the request's bytes (CAP_ACK), with words (EXT_ACK), and dump requests with fields that the
 * kernel would ignore are refused (GET_STRICT_CHK), so a filter that is not honoured is an error and not a surprise.
 */
export class NetlinkSocket implements Disposable {
  readonly portID: number;
  #fd: number;

  /** Opens in the calling thread's namespace. @throws NetlinkError */
  constructor(options: SocketOptions = {}) {
    const type = libc.SOCK_RAW | libc.SOCK_CLOEXEC | (options.nonBlocking === true ? libc.SOCK_NONBLOCK : 0);
    this.#fd = libc.socket(libc.AF_NETLINK, type, options.protocol ?? NETLINK_ROUTE);
    try {
      this.#setUp(options.receiveBufferBytes ?? DEFAULT_RECEIVE_BUFFER_BYTES);
      this.portID = this.#bind(options.groups ?? []);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Hands over one datagram. The kernel works all its messages off before this returns. @throws NetlinkError */
  send(bytes: Uint8Array): void {
    try {
      writeSync(this.#fd, bytes);
    } catch (cause) {
      throw new NetlinkError({ op: "send on netlink socket", errno: errnoOf(cause) }, { cause });
    }
  }

  /**
   * Receives one datagram into the buffer, and returns its length; undefined when nothing came in time, or at once for
   * a non-blocking socket. A datagram that fills the buffer may have been cut.
   *
   * @throws NetlinkError ENOBUFS when the kernel dropped messages for want of room
   */
  receive(buffer: Uint8Array): number | undefined {
    for (;;) {
      const length = libc.recv(this.#fd, buffer);
      if (length >= 0) return length;
      if (length === -constants.errno.EAGAIN) return undefined;
      if (length !== -constants.errno.EINTR)
        throw new NetlinkError({ op: "receive on netlink socket", errno: -length });
    }
  }

  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    closeSync(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #setUp(receiveBufferBytes: number): void {
    const size = int32(receiveBufferBytes);
    try {
      libc.setsockopt(this.#fd, libc.SOL_SOCKET, libc.SO_RCVBUFFORCE, size);
    } catch {
      // Inside a user namespace the kernel refuses to go beyond rmem_max; this form takes what it may.
      libc.setsockopt(this.#fd, libc.SOL_SOCKET, libc.SO_RCVBUF, size);
    }
    const timeout = new Uint8Array(16);
    new DataView(timeout.buffer).setBigInt64(0, BigInt(RECEIVE_TIMEOUT_SECONDS), LITTLE_ENDIAN);
    libc.setsockopt(this.#fd, libc.SOL_SOCKET, libc.SO_RCVTIMEO, timeout);
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) {
      libc.setsockopt(this.#fd, libc.SOL_NETLINK, option, int32(1));
    }
  }

  /** struct sockaddr_nl { u16 family; u16 pad; u32 pid; u32 groups }. Returns the port ID that the kernel chose. */
  #bind(groups: readonly number[]): number {
    const address = new Uint8Array(SOCKADDR_NL_BYTES);
    const view = new DataView(address.buffer);
    view.setUint16(0, libc.AF_NETLINK, LITTLE_ENDIAN);
    view.setUint32(8, groups.reduce((mask, group) => mask | (1 << (group - 1)), 0) >>> 0, LITTLE_ENDIAN);
    libc.bind(this.#fd, address);
    libc.getsockname(this.#fd, address);
    return view.getUint32(4, LITTLE_ENDIAN);
  }
}

function int32(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}
