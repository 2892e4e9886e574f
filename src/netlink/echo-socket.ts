// SPDX-License-Identifier: Apache-2.0
import { closeSync, writeSync } from "node:fs";
import { constants } from "node:os";
import type { IP } from "../net/ip.ts";
import { socketAddress } from "./datagram.ts";
import { errnoOf, NetlinkError } from "./errors.ts";
import * as libc from "./libc.ts";
import { AF_INET, AF_INET6 } from "./wire/constants.ts";

/** linux/icmp.h, icmpv6.h. */
const ECHO_REQUEST = { 4: 8, 6: 128 } as const;
const ECHO_REPLY = { 4: 0, 6: 129 } as const;
const HEADER_BYTES = 8;
/** Of the IP header without options. */
const IP_BYTES = { 4: 20, 6: 40 } as const;

/**
 * ICMP echo to one address: requests that nobody may fragment, whatever the kernel believes of the path. Raw, since sockets for
 * pings alone are switched off on most machines.
 */
export class EchoSocket implements Disposable {
  readonly #version: 4 | 6;
  #fd: number;

  /** Opens in the calling thread's namespace. @throws NetlinkError */
  constructor(remote: IP) {
    this.#version = typeof remote === "number" ? 4 : 6;
    const isIPv4 = this.#version === 4;
    const type = libc.SOCK_RAW | libc.SOCK_CLOEXEC | libc.SOCK_NONBLOCK;
    this.#fd = isIPv4
      ? libc.socket(AF_INET, type, libc.IPPROTO_ICMP)
      : libc.socket(AF_INET6, type, libc.IPPROTO_ICMPV6);
    try {
      const probe = new Uint8Array(Int32Array.of(libc.PMTUDISC_PROBE).buffer);
      if (isIPv4) libc.setsockopt(this.#fd, libc.IPPROTO_IP, libc.IP_MTU_DISCOVER, probe);
      else {
        libc.setsockopt(this.#fd, libc.IPPROTO_IPV6, libc.IPV6_MTU_DISCOVER, probe);
        // Else it does not say what routers said; IPv4 does without being asked.
        libc.setsockopt(this.#fd, libc.IPPROTO_IPV6, libc.IPV6_RECVERR, new Uint8Array(Int32Array.of(1).buffer));
      }
      libc.connect(this.#fd, socketAddress(remote, 0));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** False when the own link cannot carry it. @param packetBytes of the whole IP packet @throws NetlinkError */
  send(id: number, sequence: number, packetBytes: number): boolean {
    const bytes = new Uint8Array(Math.max(HEADER_BYTES, packetBytes - IP_BYTES[this.#version]));
    const view = new DataView(bytes.buffer);
    view.setUint8(0, ECHO_REQUEST[this.#version]);
    view.setUint16(4, id);
    view.setUint16(6, sequence);
    // The kernel computes that of ICMPv6, since it is over addresses, too.
    if (this.#version === 4) view.setUint16(2, checksum(view));
    try {
      writeSync(this.#fd, bytes);
      return true;
    } catch (cause) {
      const errno = errnoOf(cause);
      if (errno === constants.errno.EMSGSIZE) return false;
      throw new NetlinkError({ op: "send of an ICMP echo request", errno }, { cause });
    }
  }

  /** What has come of that request so far; all else that has come is thrown away. */
  outcome(id: number, sequence: number, buffer: Uint8Array): "answered" | "tooLarge" | "waiting" {
    for (;;) {
      const length = libc.recv(this.#fd, buffer);
      if (length === -constants.errno.EAGAIN) return "waiting";
      // So says a router. Many say nothing.
      if (length === -constants.errno.EMSGSIZE) return "tooLarge";
      const start = this.#version === 4 ? ((buffer[0] ?? 0) & 15) * 4 : 0;
      if (length < start + HEADER_BYTES) continue;
      const view = new DataView(buffer.buffer, buffer.byteOffset + start);
      const isReply = view.getUint8(0) === ECHO_REPLY[this.#version];
      if (isReply && view.getUint16(4) === id && view.getUint16(6) === sequence) return "answered";
    }
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

/** Source: RFC 1071. */
function checksum(view: DataView): number {
  let sum = 0;
  for (let at = 0; at + 1 < view.byteLength; at += 2) sum += view.getUint16(at);
  if (view.byteLength % 2 === 1) sum += view.getUint8(view.byteLength - 1) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
