// SPDX-License-Identifier: Apache-2.0
import { familyOf, formatIP, type IP } from "../../net/ip.ts";
import type { MAC } from "../../net/mac.ts";
import type { Conn, Request } from "../conn.ts";
import {
  AF_BRIDGE,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  NTF_SELF,
  NUD_PERMANENT,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from "../wire/constants.ts";
import { decodeNeigh, encodeNeigh, type NeighMessage } from "../wire/neigh.ts";
import { addressFamily } from "../wire/prefix.ts";

/** A permanent ARP or NDP entry. */
export interface Neigh {
  readonly index: number;
  readonly ip: IP;
  readonly linkAddress: MAC;
}

/** A permanent forwarding entry of a VXLAN device: frames for this MAC go to that remote. */
export interface FDBEntry {
  readonly index: number;
  readonly linkAddress: MAC;
  readonly remote: IP;
  readonly port?: number;
  readonly vni?: number;
}

function neighRequest(type: number, flags: number, message: NeighMessage): Request {
  const { dst, linkAddress, index } = message;
  return {
    type,
    flags,
    encode: (w) => encodeNeigh(w, message),
    describe: () => `${dst === undefined ? "" : formatIP(dst)} ${linkAddress ?? ""} on ifindex ${index}`.trim(),
  };
}

function neighMessage({ index, ip, linkAddress }: Omit<Neigh, "linkAddress"> & Partial<Neigh>): NeighMessage {
  const base = { family: addressFamily(familyOf(ip)), index, state: NUD_PERMANENT, flags: 0, type: 0, dst: ip };
  return linkAddress === undefined ? base : { ...base, linkAddress };
}

function fdbMessage({ index, linkAddress, remote, port, vni }: FDBEntry): NeighMessage {
  return {
    family: AF_BRIDGE,
    index,
    state: NUD_PERMANENT,
    flags: NTF_SELF,
    type: 0,
    linkAddress,
    dst: remote,
    ...(port === undefined ? {} : { port }),
    ...(vni === undefined ? {} : { vni }),
  };
}

export function replaceNeigh(neigh: Neigh): Request {
  return neighRequest(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, neighMessage(neigh));
}

export function deleteNeigh(neigh: Omit<Neigh, "linkAddress">): Request {
  return neighRequest(RTM_DELNEIGH, 0, neighMessage(neigh));
}

export function replaceFDB(entry: FDBEntry): Request {
  return neighRequest(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, fdbMessage(entry));
}

export function deleteFDB(entry: FDBEntry): Request {
  return neighRequest(RTM_DELNEIGH, 0, fdbMessage(entry));
}

/**
 * Entries of one family (AF_INET, AF_INET6, AF_BRIDGE), of one device where `index` is given. The kernel's filter is
 * only trusted as a saving, and every entry is looked at again.
 *
 * @throws NetlinkError
 */
export function listNeighs(conn: Conn, af: number, index?: number): NeighMessage[] {
  // Strict checking takes the device in the header for AF_BRIDGE, and only as an attribute otherwise.
  const filter: NeighMessage = {
    family: af,
    index: af === AF_BRIDGE ? (index ?? 0) : 0,
    state: 0,
    flags: 0,
    type: 0,
    ...(index !== undefined && af !== AF_BRIDGE ? { viaIndex: index } : {}),
  };
  return conn.dump(neighRequest(RTM_GETNEIGH, 0, filter), (message) => {
    if (message.type !== RTM_NEWNEIGH) return undefined;
    const neigh = decodeNeigh(message.payload);
    return index === undefined || neigh.index === index ? neigh : undefined;
  });
}
