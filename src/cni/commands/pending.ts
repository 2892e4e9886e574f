// SPDX-License-Identifier: Apache-2.0

import { delegationIn } from "../delegation/conf.ts";
import { CNIError } from "../errors.ts";
import { decodeNetConf, parseNetworkName } from "../input/netconf.ts";
import { parseCall } from "../input/protocol.ts";
import type { PendingRelease } from "../ports.ts";
import { keyOf } from "../records/attachment.ts";
import type { AttachmentID } from "../types.ts";
import type { CNI } from "./cni.ts";
import { type DelRequest, delLocked } from "./del.ts";

/**
 * Works off the DELs that were written down while no agent was there or it did not answer, or an ADD did not end.
 *
 * @param failed names that are left alone; those that fail now are added
 * @returns how many were worked off; a failure is logged and left for the next time
 */
export async function workOffPending(cni: CNI, failed: Set<string> = new Set()): Promise<number> {
  let done = 0;
  for (const pending of await cni.pending.list()) {
    const request = failed.has(pending.name) ? undefined : await parse(cni, pending);
    if (request === undefined) continue;
    const outcome = await workOffAlone(cni, pending, request);
    if (outcome === "done") done++;
    else if (outcome === "failed") failed.add(pending.name);
  }
  return done;
}

/**
 * Works off those of one attachment, whose lock the caller holds.
 *
 * @throws what DEL throws
 */
export async function workOffPendingOf(cni: CNI, held: AttachmentID): Promise<void> {
  for (const pending of await cni.pending.list()) {
    const request = await parse(cni, pending);
    if (request !== undefined && keyOf(request.id) === keyOf(held)) await workOff(cni, pending, request);
  }
}

async function workOff(cni: CNI, { name }: PendingRelease, request: DelRequest): Promise<void> {
  await delLocked(cni, request);
  await cni.pending.remove(name);
  cni.log.info({ op: "DEL", ...request.id, file: name }, "A pending release was worked off");
}

async function workOffAlone(
  cni: CNI,
  pending: PendingRelease,
  request: DelRequest,
): Promise<"done" | "failed" | "notNow"> {
  const turn = cni.locks.tryAcquire(keyOf(request.id));
  // An ADD that has begun since works it off itself; one that has not ended must not hold up the others.
  if (turn === undefined) return "notNow";
  using _turn = await turn;
  try {
    // What an ADD has worked off and made anew is not ours to take away.
    if (!(await cni.pending.has(pending.name))) return "notNow";
    await workOff(cni, pending, request);
    return "done";
  } catch (error) {
    cni.log.warn({ op: "DEL", ...request.id, err: error }, "A pending release failed: it is tried again");
    return "failed";
  }
}

async function parse(cni: CNI, pending: PendingRelease): Promise<DelRequest | undefined> {
  try {
    const call = parseCall(pending.env);
    if (call.command !== "DEL") throw new CNIError("InvalidEnvironment", `CNI_COMMAND is ${call.command}, want DEL`);
    const raw = decodeNetConf(pending.stdin);
    const id = { network: parseNetworkName(raw), containerID: call.containerID, ifName: call.ifName };
    const delegation = delegationIn(raw, pending.env, pending.stdin);
    const shared = { id, netns: call.netns, ...(call.args.pod && { pod: call.args.pod }) };
    return { ...shared, ...(delegation && { delegation }), why: "pendingDEL" };
  } catch (error) {
    if (!(error instanceof CNIError)) throw error;
    await cni.pending.setAside(pending.name, error.message);
    return undefined;
  }
}
