// SPDX-License-Identifier: Apache-2.0
import type { CIDR } from "../../net/cidr.ts";
import type { Family, IP } from "../../net/ip.ts";
import { AttributeReader, LITTLE_ENDIAN, type MessageWriter } from "./attribute.ts";
import { FieldTable, field, headerView, i32, string, u8, u32 } from "./codec.ts";
import * as c from "./constants.ts";
import { addressFamily, familyOfAF, prefixOf } from "./prefix.ts";

/**
 * RTM_*RULE: a policy routing rule.
 *
 * Source: linux/fib_rules.h, struct fib_rule_hdr { u8 family; u8 dst_len; u8 src_len; u8 tos; u8 table; u8 res1;
 * u8 res2; u8 action; u32 flags }; FRA_*.
 */
export interface RuleMessage {
  readonly family: Family;
  readonly dst?: CIDR;
  readonly src?: CIDR;
  readonly tos: number;
  /** RT_TABLE_*, all 32 bits. */
  readonly table: number;
  /** FR_ACT_*. */
  readonly action: number;
  /** FIB_RULE_*. */
  readonly flags: number;
  readonly priority?: number;
  readonly mark?: number;
  readonly markMask?: number;
  readonly inIface?: string;
  readonly outIface?: string;
  readonly goto?: number;
  /** Routes with a prefix this short or shorter do not count; -1 is off. */
  readonly suppressPrefixLength?: number;
  /** RTPROT_*: who made it. */
  readonly protocol?: number;
}

const FIB_RULE_HDR_BYTES = 12;

const FIELDS: FieldTable<RuleMessage> = new FieldTable<RuleMessage>([
  field("priority", c.FRA_PRIORITY, u32),
  field("mark", c.FRA_FWMARK, u32),
  field("markMask", c.FRA_FWMASK, u32),
  field("inIface", c.FRA_IIFNAME, string),
  field("outIface", c.FRA_OIFNAME, string),
  field("goto", c.FRA_GOTO, u32),
  field("suppressPrefixLength", c.FRA_SUPPRESS_PREFIXLEN, i32),
  field("protocol", c.FRA_PROTOCOL, u8),
]);

/** Appends fib_rule_hdr and attributes. A table beyond the header's 8 bits travels in FRA_TABLE. */
export function encodeRule(w: MessageWriter, rule: RuleMessage): void {
  const { dst, src, table } = rule;
  w.u8(addressFamily(rule.family));
  w.u8(dst?.prefixLength ?? 0);
  w.u8(src?.prefixLength ?? 0);
  w.u8(rule.tos);
  w.u8(table > 0xff ? c.RT_TABLE_COMPAT : table);
  w.u16(0);
  w.u8(rule.action);
  w.u32(rule.flags);
  if (dst !== undefined && dst.prefixLength > 0) w.attrIP(c.FRA_DST, dst.network);
  if (src !== undefined && src.prefixLength > 0) w.attrIP(c.FRA_SRC, src.network);
  if (table > 0xff) w.attrU32(c.FRA_TABLE, table);
  FIELDS.write(w, rule);
}

/** Reads the payload of RTM_NEWRULE or RTM_DELRULE. @throws DecodeError */
export function decodeRule(payload: Uint8Array): RuleMessage {
  const view = headerView(payload, FIB_RULE_HDR_BYTES, "fib_rule_hdr");
  const family = familyOfAF(view.getUint8(0));
  let dst: IP | undefined;
  let src: IP | undefined;
  let table = view.getUint8(4);
  const rest: Partial<RuleMessage> = {};
  const attributes = new AttributeReader(payload, FIB_RULE_HDR_BYTES);
  while (attributes.next()) {
    if (attributes.type === c.FRA_DST) dst = attributes.ip();
    else if (attributes.type === c.FRA_SRC) src = attributes.ip();
    else if (attributes.type === c.FRA_TABLE) table = attributes.u32();
    else FIELDS.read(attributes, rest);
  }
  const dstLength = view.getUint8(1);
  const srcLength = view.getUint8(2);
  return {
    ...rest,
    family,
    ...(dstLength > 0 ? { dst: prefixOf(family, dstLength, dst) } : {}),
    ...(srcLength > 0 ? { src: prefixOf(family, srcLength, src) } : {}),
    tos: view.getUint8(3),
    table,
    action: view.getUint8(7),
    flags: view.getUint32(8, LITTLE_ENDIAN),
  };
}
