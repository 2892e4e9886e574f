// SPDX-License-Identifier: Apache-2.0
import { AttributeReader, align4, LITTLE_ENDIAN, type MessageWriter } from "./attribute.ts";
import { NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS } from "./constants.ts";
import { DecodeError } from "./errors.ts";

/** Size of struct nlmsghdr. Units: bytes. */
export const NLMSG_HDRLEN = 16;

/** One message as it came: header fields, and a view (not a copy) of its payload. */
export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  /** Port ID of the socket that asked, 0 for the kernel's own notifications. */
  readonly portID: number;
  readonly payload: Uint8Array;
}

/** What the kernel adds to an errno: words, and the offset in the request of the attribute that it dislikes. */
export interface ExtendedAck {
  readonly message?: string;
  /** Units: bytes from the beginning of the request's nlmsghdr. */
  readonly offset?: number;
}

export interface Acknowledgement {
  /** 0 is success; otherwise a positive errno. */
  readonly errno: number;
  readonly extack?: ExtendedAck;
}

/**
 * Appends one message: nlmsghdr, then what `encodePayload` writes.
 *
 * Source: linux/netlink.h, struct nlmsghdr { u32 len; u16 type; u16 flags; u32 seq; u32 pid }.
 */
export function encodeMessage(
  w: MessageWriter,
  header: { readonly type: number; readonly flags: number; readonly seq: number },
  encodePayload: (w: MessageWriter) => void,
): void {
  const start = w.length;
  w.u32(0);
  w.u16(header.type);
  w.u16(header.flags);
  w.u32(header.seq);
  w.u32(0);
  encodePayload(w);
  w.patchU32(start, w.length - start);
  w.align();
}

/**
 * Splits what one receive returned into its messages, in order. Padding after the last one is ignored.
 *
 * @throws DecodeError when a length does not fit
 */
export function splitMessages(bytes: Uint8Array): NetlinkMessage[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages: NetlinkMessage[] = [];
  let at = 0;
  while (at + NLMSG_HDRLEN <= bytes.length) {
    const length = view.getUint32(at, LITTLE_ENDIAN);
    if (length < NLMSG_HDRLEN || at + length > bytes.length) {
      throw new DecodeError(`Message at offset ${at} has length ${length}, with ${bytes.length - at} bytes left`);
    }
    messages.push({
      type: view.getUint16(at + 4, LITTLE_ENDIAN),
      flags: view.getUint16(at + 6, LITTLE_ENDIAN),
      seq: view.getUint32(at + 8, LITTLE_ENDIAN),
      portID: view.getUint32(at + 12, LITTLE_ENDIAN),
      payload: bytes.subarray(at + NLMSG_HDRLEN, at + length),
    });
    at += align4(length);
  }
  return messages;
}

/**
 * Reads NLMSG_ERROR (also the success ACK) and NLMSG_DONE, with their extended acknowledgement.
 *
 * Source: linux/netlink.h, struct nlmsgerr and enum nlmsgerr_attrs. DONE carries the error without the request.
 * @throws DecodeError
 */
export function decodeAcknowledgement(message: NetlinkMessage): Acknowledgement {
  const { payload, flags, type } = message;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  // Old kernels end a dump with a DONE that has no payload at all.
  if (type === NLMSG_DONE && payload.length < 4) return { errno: 0 };
  if (payload.length < 4) throw new DecodeError(`Acknowledgement of ${payload.length} bytes has no error code`);
  const errno = 0 - view.getInt32(0, LITTLE_ENDIAN);
  if (errno < 0) throw new DecodeError(`Acknowledgement has a positive error code: ${-errno}`);
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno };
  let at = 4;
  if (type !== NLMSG_DONE) {
    if (payload.length < at + NLMSG_HDRLEN) throw new DecodeError("Acknowledgement lacks the header of its request");
    const requestBytes = view.getUint32(at, LITTLE_ENDIAN);
    at += (flags & NLM_F_CAPPED) === 0 ? align4(Math.min(requestBytes, payload.length)) : NLMSG_HDRLEN;
  }
  const extack = decodeExtendedAck(new AttributeReader(payload, Math.min(at, payload.length)));
  return extack === undefined ? { errno } : { errno, extack };
}

function decodeExtendedAck(attributes: AttributeReader): ExtendedAck | undefined {
  const extack: { message?: string; offset?: number } = {};
  while (attributes.next()) {
    if (attributes.type === NLMSGERR_ATTR_MSG) extack.message = attributes.string();
    else if (attributes.type === NLMSGERR_ATTR_OFFS) extack.offset = attributes.u32();
  }
  return extack.message === undefined && extack.offset === undefined ? undefined : extack;
}
