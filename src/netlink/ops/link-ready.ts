// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import type { IPv6 } from "../../net/ipv6.ts";
import { parseIPv6 } from "../../net/ipv6.ts";
import type { Conn } from "../conn.ts";
import { NetlinkError } from "../errors.ts";
import { IF_OPER_UP } from "../wire/constants.ts";
import { listMulticastGroups } from "./addr.ts";
import { findLink } from "./link.ts";

const ATTEMPTS = 5000;
const PAUSE_MS = 1;
const SOLICITED_NODE_PREFIX: IPv6 = parseIPv6("ff02::1:ff00:0");

/**
 * Waits until a link that was just raised passes its first packet, each way. Two things are not done when the kernel
 * acknowledges, and either costs the pod's first connection a second:
 *
 * - The link has its carrier at once but its queue only when the link watch has run, and drops until then. Asking for
 *   the link runs the link watch in recent kernels (6.8), so the first look suffices there.
 * - The kernel joins an IPv6 address's solicited-node group in a work item that waits for the RTNL lock, which a burst
 *   of pods keeps busy. Until then neighbour solicitations for the address are not heard.
 *
 * @throws NetlinkError ETIMEDOUT after some seconds
 */
export function waitUntilReady(conn: Conn, index: number, addresses: readonly IPv6[]): void {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (findLink(conn, { index })?.operState === IF_OPER_UP && hearsSolicitations(conn, index, addresses)) return;
    pause(PAUSE_MS);
  }
  throw new NetlinkError({ op: `raising ifindex ${index}`, errno: constants.errno.ETIMEDOUT });
}

function hearsSolicitations(conn: Conn, index: number, addresses: readonly IPv6[]): boolean {
  if (addresses.length === 0) return true;
  const groups = listMulticastGroups(conn, index);
  return addresses.every((address) => groups.includes(solicitedNodeGroup(address)));
}

/** Source: RFC 4291 section 2.7.1. */
function solicitedNodeGroup(address: IPv6): IPv6 {
  return (SOLICITED_NODE_PREFIX | (address & 0xffffffn)) as IPv6; // Arithmetic drops the brand.
}

/** Blocks this thread, which does nothing else meanwhile by design. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
