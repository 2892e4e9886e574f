// SPDX-License-Identifier: Apache-2.0
import type { MessageWriter } from "./attribute.ts";
import { IFLA_LINKINFO } from "./constants.ts";
import { decodeIfInfo, encodeIfInfo, type IfInfo } from "./ifinfo.ts";
import { decodeLinkInfo, encodeLinkInfo, type LinkInfo } from "./link-info.ts";

/** RTM_*LINK: a link with its kind. Source: linux/rtnetlink.h, struct ifinfomsg; linux/if_link.h, IFLA_*. */
export interface LinkMessage extends IfInfo {
  readonly info?: LinkInfo;
}

/** Appends ifinfomsg and attributes. */
export function encodeLink(w: MessageWriter, link: LinkMessage): void {
  encodeIfInfo(w, link);
  const { info } = link;
  if (info !== undefined) w.attrNested(IFLA_LINKINFO, () => encodeLinkInfo(w, info));
}

/** Reads the payload of RTM_NEWLINK or RTM_DELLINK. @throws DecodeError */
export function decodeLink(payload: Uint8Array): LinkMessage {
  let info: LinkInfo | undefined;
  const link = decodeIfInfo(payload, (attributes) => {
    if (attributes.type === IFLA_LINKINFO) info = decodeLinkInfo(attributes.nested());
  });
  return info === undefined ? link : { ...link, info };
}
