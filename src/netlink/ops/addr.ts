// SPDX-License-Identifier: Apache-2.0
import { type Family, familyOf, formatIP, type IP } from "../../net/ip.ts";
import type { Conn, Request } from "../conn.ts";
import { type AddrMessage, decodeAddr, encodeAddr } from "../wire/addr.ts";
import {
  AF_INET6,
  AF_UNSPEC,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  RT_SCOPE_UNIVERSE,
  RTM_DELADDR,
  RTM_GETADDR,
  RTM_GETMULTICAST,
  RTM_NEWADDR,
} from "../wire/constants.ts";
import { addressFamily } from "../wire/prefix.ts";

/** An address as people give it to an interface. */
export interface InterfaceAddr {
  readonly index: number;
  readonly ip: IP;
  readonly prefixLength: number;
  /** IFA_F_*. */
  readonly flags?: number;
  /** RT_SCOPE_*; universe by default. */
  readonly scope?: number;
}

function addrRequest(type: number, flags: number, addr: InterfaceAddr): Request {
  const { index, ip, prefixLength } = addr;
  const message: AddrMessage = {
    family: addressFamily(familyOf(ip)),
    index,
    prefixLength,
    scope: addr.scope ?? RT_SCOPE_UNIVERSE,
    flags: addr.flags ?? 0,
    address: ip,
    local: ip,
  };
  return {
    type,
    flags,
    encode: (w) => encodeAddr(w, message),
    describe: () => `${formatIP(ip)}/${prefixLength} on ifindex ${index}`,
  };
}

/** Adds the address, or updates it where the interface has it. */
export function replaceAddr(addr: InterfaceAddr): Request {
  return addrRequest(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, addr);
}

export function deleteAddr(addr: InterfaceAddr): Request {
  return addrRequest(RTM_DELADDR, 0, addr);
}

/** IPv6 multicast groups that one interface has joined. @throws NetlinkError */
export function listMulticastGroups(conn: Conn, index: number): IP[] {
  const filter: AddrMessage = { family: AF_INET6, index, prefixLength: 0, scope: 0, flags: 0 };
  const request: Request = { type: RTM_GETMULTICAST, flags: 0, encode: (w) => encodeAddr(w, filter) };
  return conn.dump(request, (message) => decodeAddr(message.payload).multicast);
}

/** All addresses, or those of one family or one link. @throws NetlinkError ENODEV when there is no such link */
export function listAddrs(
  conn: Conn,
  { family, index = 0 }: { readonly family?: Family; readonly index?: number } = {},
): AddrMessage[] {
  const af = family === undefined ? AF_UNSPEC : addressFamily(family);
  const filter: AddrMessage = { family: af, index, prefixLength: 0, scope: 0, flags: 0 };
  const request: Request = { type: RTM_GETADDR, flags: 0, encode: (w) => encodeAddr(w, filter) };
  return conn.dump(request, (message) => (message.type === RTM_NEWADDR ? decodeAddr(message.payload) : undefined));
}
