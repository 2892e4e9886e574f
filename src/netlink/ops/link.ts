// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import type { Conn, Request } from "../conn.ts";
import { NetlinkError } from "../errors.ts";
import {
  AF_UNSPEC,
  IFF_UP,
  NLM_F_CREATE,
  NLM_F_EXCL,
  RTEXT_FILTER_SKIP_STATS,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_SETLINK,
} from "../wire/constants.ts";
import { decodeLink, encodeLink, type LinkMessage } from "../wire/link.ts";
import type { NetlinkMessage } from "../wire/message.ts";

/** A link by either of its handles; the index is the identity, since names move. */
export type LinkRef = { readonly index: number } | { readonly name: string };

const BLANK: LinkMessage = { family: AF_UNSPEC, hardwareType: 0, index: 0, flags: 0, change: 0 };

function linkRequest(type: number, flags: number, link: Partial<LinkMessage>): Request {
  const message = { ...BLANK, ...link };
  return {
    type,
    flags,
    encode: (w) => encodeLink(w, message),
    describe: () => message.name ?? (message.index > 0 ? `ifindex ${message.index}` : `group ${message.group ?? 0}`),
  };
}

/** Creates a link; EEXIST when the name is taken. */
export function newLink(link: Partial<LinkMessage>): Request {
  return linkRequest(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link);
}

/** Changes attributes and flags of the link with this index. A `name` renames it. */
export function setLink(link: Partial<LinkMessage> & { readonly index: number }): Request {
  return linkRequest(RTM_SETLINK, 0, link);
}

export function setLinkUp(index: number, up = true): Request {
  return linkRequest(RTM_SETLINK, 0, { index, flags: up ? IFF_UP : 0, change: IFF_UP });
}

export function deleteLink(ref: LinkRef): Request {
  return linkRequest(RTM_DELLINK, 0, ref);
}

/** Deletes every link of a group in one go: the kernel waits for its readers once and not once a link. */
export function deleteLinkGroup(group: number): Request {
  return linkRequest(RTM_DELLINK, 0, { group });
}

export function getLink(ref: LinkRef): Request {
  return linkRequest(RTM_GETLINK, 0, { ...ref, extMask: RTEXT_FILTER_SKIP_STATS });
}

/** The link, or undefined when there is none. @throws NetlinkError */
export function findLink(conn: Conn, ref: LinkRef): LinkMessage | undefined {
  const [result] = conn.executeBatch([getLink(ref)]);
  if (result?.error !== undefined) {
    if (isNoSuchLink(result.error)) return undefined;
    throw result.error;
  }
  return linkOf(result?.replies);
}

/** @throws NetlinkError */
export function listLinks(conn: Conn): LinkMessage[] {
  const request = linkRequest(RTM_GETLINK, 0, { extMask: RTEXT_FILTER_SKIP_STATS });
  return conn.dump(request, (message) => (message.type === RTM_NEWLINK ? decodeLink(message.payload) : undefined));
}

/** The link in the replies to `getLink`. */
export function linkOf(replies: readonly NetlinkMessage[] | undefined): LinkMessage | undefined {
  const reply = replies?.find((message) => message.type === RTM_NEWLINK);
  return reply === undefined ? undefined : decodeLink(reply.payload);
}

export function isNoSuchLink(error: unknown): boolean {
  return error instanceof NetlinkError && error.errno === constants.errno.ENODEV;
}
