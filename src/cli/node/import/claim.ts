// SPDX-License-Identifier: Apache-2.0

import { lookAtNetns } from "../../../cni/commands/add.ts";
import { handleIDOf } from "../../../cni/iface-name.ts";
import { keepBack } from "../../../cni/ipam-plugin/assign.ts";
import { formatGoUTC, ownerAttributes } from "../../../cni/plan.ts";
import type { AddressManager, AttachmentStore, Host, Logger, PodWiring } from "../../../cni/ports.ts";
import { keyOf } from "../../../cni/records/attachment.ts";
import type { AssignedRecord, PodRef } from "../../../cni/types.ts";
import { IPAMError } from "../../../ipam/errors.ts";
import type { Allocation } from "../../../ipam/types.ts";
import type { Clock } from "../../../lib/clock.ts";
import { bitsOf, familyOf, formatIP } from "../../../net/ip.ts";
import type { ImportStep } from "./plan.ts";

export interface ClaimTools {
  readonly addresses: AddressManager;
  readonly records: AttachmentStore;
  readonly wiring: PodWiring;
  readonly host: Host;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Claims the address of a running container in IPAM, under the handle that its DEL looks for, and writes the record by which the agent gives
 * it back when the container's namespace has ended. Idempotent.
 *
 * Errors: IPAMError, CNIError, WiringError
 */
export async function claim(tools: ClaimTools, step: ImportStep & { readonly kind: "claim" }): Promise<void> {
  const { records, host, clock } = tools;
  const { lease, pod, netns: path, segment } = step;
  const { ip, network, containerID, ifName } = lease;
  const id = { network, containerID, ifName };
  const netns = await lookAtNetns(tools, path);
  const handleID = handleIDOf({ ...id, nodeName: host.nodeName, ...(pod && { pod }) });
  const allocation = await assign(tools, step, handleID);
  if (segment !== undefined) {
    const signal = new AbortController().signal;
    await keepBack(tools, segment, allocation.block, { isSure: false, signal });
  }
  const stored = await records.read(id);
  const earlier = stored.kind === "record" && stored.record.state === "assigned" ? stored.record : undefined;
  if (stored.kind !== "absent" && earlier === undefined)
    throw new TypeError(`Attachment ${keyOf(id)} has a record of another kind`);
  const prefixLength = segment?.subnet.prefixLength ?? bitsOf(familyOf(ip));
  const others = (earlier?.allocations ?? []).filter((each) => each.ip !== ip);
  const otherIPs = (earlier?.result.ips ?? []).filter(({ address }) => !address.startsWith(`${formatIP(ip)}/`));
  const record: AssignedRecord = {
    state: "assigned",
    handleID,
    ...(pod && { pod }),
    bootID: host.bootID,
    netns,
    allocations: [...others, allocation],
    result: { ips: [...otherIPs, { address: `${formatIP(ip)}/${prefixLength}` }], routes: [] },
    atMs: clock.nowMs(),
  };
  if (earlier !== undefined) return await records.append(id, record);
  const recorded = await records.create(id, record);
  await recorded.durable;
}

async function assign(
  { addresses, host, clock }: ClaimTools,
  { lease: { ip, ifName }, pod }: { readonly lease: ImportStep["lease"]; readonly pod?: PodRef },
  handleID: string,
): Promise<Allocation> {
  const owner = ownerAttributes({ nodeName: host.nodeName, contIface: ifName, ...(pod && { pod }) });
  const attributes = { ...owner, timestamp: formatGoUTC(clock.nowNs()) };
  try {
    const [allocation] = await addresses.assign({ handleID, attributes, families: [familyOf(ip)], addresses: [ip] });
    if (allocation !== undefined) return allocation;
  } catch (error) {
    if (!(error instanceof IPAMError) || error.holder?.handleID !== handleID) throw error;
    const { block, sequenceNumber } = error.holder;
    return { ip, block, handleID, sequenceNumber };
  }
  throw new TypeError(`Address ${formatIP(ip)} was not assigned`);
}
