// SPDX-License-Identifier: Apache-2.0
import { closeSync, writeSync } from "node:fs";
import { constants } from "node:os";
import { type IP, ipToBytes } from "../net/ip.ts";
import { errnoOf, NetlinkError } from "./errors.ts";
import * as libc from "./libc.ts";
import { LITTLE_ENDIAN } from "./wire/attribute.ts";
import { AF_INET, AF_INET6 } from "./wire/constants.ts";

/**
 * A UDP socket between two addresses and the same port on both. Like any socket, it stays in the namespace that its thread
 * was in when it was opened; Node's own are opened in the main thread's.
 */
export class DatagramSocket implements Disposable {
  #fd: number;

  /** Opens in the calling thread's namespace. @throws NetlinkError */
  constructor(local: IP, remote: IP, port: number) {
    const family = typeof local === "number" ? AF_INET : AF_INET6;
    this.#fd = libc.socket(family, libc.SOCK_DGRAM | libc.SOCK_CLOEXEC | libc.SOCK_NONBLOCK, 0);
    try {
      libc.bind(this.#fd, socketAddress(local, port));
      libc.connect(this.#fd, socketAddress(remote, port));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** @throws NetlinkError also for what came back of an earlier packet, such as EHOSTUNREACH */
  send(bytes: Uint8Array): void {
    try {
      writeSync(this.#fd, bytes);
    } catch (cause) {
      throw new NetlinkError({ op: "send of a datagram", errno: errnoOf(cause) }, { cause });
    }
  }

  /** What has come, or undefined. @throws NetlinkError as above */
  receive(buffer: Uint8Array): Uint8Array | undefined {
    const length = libc.recv(this.#fd, buffer);
    if (length >= 0) return buffer.subarray(0, length);
    if (length === -constants.errno.EAGAIN || length === -constants.errno.EINTR) return undefined;
    throw new NetlinkError({ op: "receive of a datagram", errno: -length });
  }

  close(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** struct sockaddr_in { u16 family; be16 port; u8 addr[4]; u8 zero[8] }; sockaddr_in6 { …; u32 flow; u8 addr[16]; u32 scope }. */
export function socketAddress(ip: IP, port: number): Uint8Array {
  const isIPv4 = typeof ip === "number";
  const bytes = new Uint8Array(isIPv4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, isIPv4 ? AF_INET : AF_INET6, LITTLE_ENDIAN);
  view.setUint16(2, port, false);
  bytes.set(ipToBytes(ip), isIPv4 ? 4 : 8);
  return bytes;
}
