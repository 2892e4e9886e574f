// SPDX-License-Identifier: Apache-2.0
import { formatIP } from "../../net/ip.ts";
import { compareAddresses, compareKernel, comparePrevResult, type Difference } from "../check.ts";
import { checkBy } from "../delegation/delegate.ts";
import { CNIError } from "../errors.ts";
import type { NetConf } from "../input/netconf.ts";
import type { PrevResult } from "../input/prev-result.ts";
import { isSameFile, keyOf } from "../records/attachment.ts";
import { refuseForeign } from "../release.ts";
import type { AssignedRecord, AttachmentID, AttachmentRecord, WholeRecord } from "../types.ts";
import { bounded, type CNI } from "./cni.ts";
import { refuseOtherNode } from "./own-node.ts";

type Made = WholeRecord | AssignedRecord;

/** A checked CHECK. */
export interface CheckRequest {
  readonly id: AttachmentID;
  readonly netns: string;
  readonly conf: NetConf;
  readonly prevResult: PrevResult;
}

/**
 * Compares an attachment with what was promised: the record with prevResult, then the kernel with both, then the
 * datastore with the record. Writes nothing. It waits for an ADD or DEL of the attachment that runs, and yields to one
 * that comes.
 *
 * @param signal the caller hung up
 * @throws CNIError `CheckFailed` with the first difference, `TryAgainLater`; WiringError; IPAMError `Datastore`
 */
export async function check(cni: CNI, request: CheckRequest, signal?: AbortSignal): Promise<void> {
  const { id, conf, prevResult } = request;
  refuseOtherNode(cni, conf);
  using turn = await cni.locks.acquire(keyOf(id), { yields: true, ...(signal && { signal }) });
  const record = await readMade(cni, request, conf.caller === undefined ? "whole" : "assigned");
  // Whoever called for IPAM alone compares the kernel itself.
  const difference =
    record.state === "assigned"
      ? compareAddresses(record, prevResult)
      : (comparePrevResult(record, prevResult) ??
        compareKernel(record, prevResult, await lookAtKernel(cni, request, record)));
  const late = difference ?? (await compareDatastore(cni, record, turn.signal));
  if (late !== undefined) throw failed(id, late);
  if (record.delegation !== undefined) await checkBy(cni, record.delegation, turn.signal);
}

/** The record, when it is of this very boot and namespace. */
async function readMade(cni: CNI, { id, netns }: CheckRequest, state: Made["state"]): Promise<Made> {
  const stored = await cni.records.read(id);
  const object = `record of the attachment on node ${cni.host.nodeName}`;
  const step = "delete the pod, or its sandbox, so that it is attached anew";
  const refuse = (want: string, have: string): CNIError => failed(id, { object, want, have, step });
  if (stored.kind !== "record") throw refuse(state, stored.kind === "absent" ? "none" : stored.reason);
  const record: AttachmentRecord = stored.record;
  refuseForeign(cni, id, record);
  if (record.state !== state) throw refuse(state, record.state);
  if (record.bootID !== cni.host.bootID) throw refuse(`boot ${cni.host.bootID}`, `boot ${record.bootID}`);
  const identity = await cni.wiring.identifyNetns(netns);
  if (isSameFile(record.netns.identity, identity)) return record;
  const at = record.netns;
  throw refuse(`namespace ${netns} (inode ${identity.inode})`, `${at.path} (inode ${at.identity.inode})`);
}

function lookAtKernel(
  cni: CNI,
  { id, netns }: CheckRequest,
  record: WholeRecord,
): ReturnType<CNI["wiring"]["inspect"]> {
  return cni.wiring.inspect({
    netns,
    contIface: id.ifName,
    hostIface: record.hostIface,
    ips: record.result.ips,
  });
}

async function compareDatastore(cni: CNI, { allocations }: Made, signal: AbortSignal): Promise<Difference | undefined> {
  for (const allocation of allocations) {
    const { ip, handleID, sequenceNumber } = allocation;
    const object = `allocation of ${formatIP(ip)}`;
    const limits = { what: `Read of the ${object}`, ms: cni.releaseWaitMs, signal };
    const have = await bounded(cni.clock, limits, () => cni.addresses.contradiction(allocation));
    if (have === undefined) continue;
    const want = `held by ${handleID} since sequence number ${sequenceNumber}`;
    const step = "delete the pod at once: another pod may be given its address";
    return { object, want, have, step };
  }
  return undefined;
}

function failed(id: AttachmentID, { object, want, have, step }: Difference): CNIError {
  return new CNIError("CheckFailed", `CHECK of ${keyOf(id)}: ${object}: want ${want}, have ${have}; ${step}`);
}
