// SPDX-License-Identifier: Apache-2.0
import type { Family } from "../../net/ip.ts";
import type { Conn, Request } from "../conn.ts";
import {
  FR_ACT_TO_TBL,
  NLM_F_CREATE,
  NLM_F_EXCL,
  RT_TABLE_UNSPEC,
  RTM_DELRULE,
  RTM_GETRULE,
  RTM_NEWRULE,
} from "../wire/constants.ts";
import { decodeRule, encodeRule, type RuleMessage } from "../wire/rule.ts";

/** A rule that looks up a table, unless it says otherwise. */
export type RuleSpec = Partial<RuleMessage> & { readonly family: Family };

function ruleRequest(type: number, flags: number, rule: RuleSpec): Request {
  const message: RuleMessage = { tos: 0, table: RT_TABLE_UNSPEC, action: FR_ACT_TO_TBL, flags: 0, ...rule };
  return {
    type,
    flags,
    encode: (w) => encodeRule(w, message),
    describe: () => `priority ${rule.priority ?? "unset"}, table ${message.table}`,
  };
}

/** Adds a rule; EEXIST when the very same one is there. */
export function addRule(rule: RuleSpec): Request {
  return ruleRequest(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule);
}

/** Deletes the first rule that agrees in every property given; ENOENT when there is none. */
export function deleteRule(rule: RuleSpec): Request {
  return ruleRequest(RTM_DELRULE, 0, rule);
}

/** @throws NetlinkError */
export function listRules(conn: Conn, family: Family): RuleMessage[] {
  const request = ruleRequest(RTM_GETRULE, 0, { family, action: 0 });
  return conn.dump(request, (message) => (message.type === RTM_NEWRULE ? decodeRule(message.payload) : undefined));
}
