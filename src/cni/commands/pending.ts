// SPDX-License-Identifier: Apache-2.0
import { keyOf } from "../attachment.ts";
import { delegationIn } from "../delegation/conf.ts";
import { CNIError } from "../errors.ts";
import { decodeNetConf, parseNetwork } from "../netconf.ts";
import type { PendingRelease } from "../ports.ts";
import { parseCall } from "../protocol.ts";
import type { AttachmentID } from "../types.ts";
import type { CNI } from "./cni.ts";
import { type DelRequest, del, delLocked } from "./del.ts";

/**
 * Works off the DELs that the launcher wrote down while no agent was there.
 *
 * @param held an attachment whose lock the caller holds: only its releases are worked off
 * @returns how many were worked off
 * @throws what DEL throws, with `held` only; otherwise a failure is logged and left for the next time
 */
export async function workOffPending(cni: CNI, held?: AttachmentID): Promise<number> {
  let done = 0;
  for (const pending of await cni.pending.list()) {
    const request = await parse(cni, pending);
    if (request === undefined || (held !== undefined && keyOf(request.id) !== keyOf(held))) continue;
    try {
      if (held === undefined) await del(cni, request);
      else await delLocked(cni, request);
    } catch (error) {
      if (held !== undefined) throw error;
      cni.log.warn({ op: "DEL", ...request.id, err: error }, "A pending release failed: it is tried again");
      continue;
    }
    await cni.pending.remove(pending.name);
    cni.log.info({ op: "DEL", ...request.id, file: pending.name }, "A pending release was worked off");
    done++;
  }
  return done;
}

async function parse(cni: CNI, pending: PendingRelease): Promise<DelRequest | undefined> {
  try {
    const call = parseCall(pending.env);
    if (call.command !== "DEL") throw new CNIError("InvalidEnvironment", `CNI_COMMAND is ${call.command}, want DEL`);
    const raw = decodeNetConf(pending.stdin);
    const { name: network } = parseNetwork(raw);
    const id = { network, containerID: call.containerID, ifName: call.ifName };
    const delegation = delegationIn(raw, pending.env, pending.stdin);
    const shared = { id, netns: call.netns, ...(call.args.pod && { pod: call.args.pod }) };
    return { ...shared, ...(delegation && { delegation }), why: "pendingDEL" };
  } catch (error) {
    if (!(error instanceof CNIError)) throw error;
    await cni.pending.setAside(pending.name, error.message);
    return undefined;
  }
}
