// SPDX-License-Identifier: Apache-2.0
import { blockName } from "../../crds/names.ts";
import { IPAMError } from "../../ipam/errors.ts";
import { SEGMENT_TYPE } from "../../ipam/gc/addresses.ts";
import type { Allocation } from "../../ipam/types.ts";
import { type CIDR, formatCIDR } from "../../net/cidr.ts";
import { familyOf, formatIP, type IP } from "../../net/ip.ts";
import { type Assigned, type Assigning, assign, type Owner } from "../commands/assign.ts";
import type { CNI } from "../commands/cni.ts";
import type { Undo } from "../commands/undo.ts";
import { CNIError } from "../errors.ts";
import { formatGoUTC } from "../plan.ts";
import { giveBack } from "../release.ts";
import { type IPAMCaller, keptBack, type Segment, segmentOf } from "./segment.ts";

/** Each family may begin a new block, and learn by its first address what may not be given. */
const MAX_ROUNDS = 8;

type Keeper = Pick<CNI, "addresses" | "clock" | "host" | "log" | "segments">;

interface Given {
  readonly ip: IP;
  readonly segment: Segment;
}

/**
 * Takes addresses that a plugin can put on a shared segment: not the gateway's, nor those that stand for the whole segment.
 * These are taken once for the node itself, block by block, and so nobody is given them.
 *
 * One call at a time: of two that begin a block together, each would hold what the other needs.
 */
export async function assignOnSegment(
  cni: CNI,
  assigning: Assigning,
  caller: IPAMCaller,
  { owner, undo, signal }: { readonly owner: Owner; readonly undo: Undo; readonly signal: AbortSignal },
): Promise<Assigned & { readonly given: readonly Given[] }> {
  using _turn = await cni.locks.acquire("addresses on segments", { signal });
  const { handleID } = assigning.plan;
  for (let round = 1; round <= MAX_ROUNDS; round++) {
    const assigned = await assign(cni, assigning, owner, undo, signal);
    const { allocations } = assigned;
    const given = allocations.map(({ ip, block }) => ({ ip, block, segment: segmentOf(caller, ip, block) }));
    const isUsable = given.every(({ ip, block, segment }) => !keptBack(segment, block).includes(ip));
    if (!isUsable) await giveBack(cni, { handleID, allocations }, { why: "undo" }, signal);
    for (const { block, segment } of given) await keepBack(cni, segment, block, { isSure: isUsable, signal });
    if (isUsable) return { ...assigned, given };
  }
  const what = `No address for plugin ${caller.type} can be had`;
  const step = "what stands for a whole segment is all that is given; add a pool, or look at ipam.subnet";
  throw new CNIError("NoAddress", `${what}: ${step}`);
}

/**
 * Takes what no pod may have of a block, for the node.
 *
 * @param isSure what was once kept back is remembered. Not after an address that should be: somebody has released it
 * @throws CNIError `NoAddress` when a pod has the gateway's address
 */
export async function keepBack(
  cni: Keeper,
  segment: Segment,
  block: CIDR,
  { isSure, signal }: { readonly isSure: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const key = `${formatCIDR(block)} ${formatIP(segment.gateway)} ${formatCIDR(segment.subnet)}`;
  if (isSure && cni.segments?.has(key) === true) return;
  const outcomes: boolean[] = [];
  for (const ip of keptBack(segment, block)) outcomes.push(await keepOneBack(cni, segment, block, ip, signal));
  if (outcomes.every(Boolean)) cni.segments?.add(key);
}

/** @returns false when it cools down: nobody can be given it for now, and later calls try again */
async function keepOneBack(
  cni: Keeper,
  { gateway }: Segment,
  block: CIDR,
  ip: IP,
  signal: AbortSignal,
): Promise<boolean> {
  const { clock, host } = cni;
  const handleID = `gingham-segment.${blockName(block)}`;
  const attributes = { node: host.nodeName, type: SEGMENT_TYPE, timestamp: formatGoUTC(clock.nowNs()) };
  try {
    await cni.addresses.assign({ handleID, attributes, families: [familyOf(ip)], addresses: [ip] }, signal);
    cni.log.info({ op: "ADD", ip: formatIP(ip), block: formatCIDR(block), handleID }, "Address is kept from pods");
    return true;
  } catch (error) {
    if (!(error instanceof IPAMError) || error.code !== "AddressTaken") throw error;
    const { holder } = error;
    if (holder === undefined) return false;
    if (holder.handleID === handleID) return true;
    // Without a bridge in between, a pod of Gingham's own may well have what else stands for the segment.
    if (ip !== gateway) return true;
    throw gatewayTaken(block, ip, holder, error);
  }
}

function gatewayTaken(block: CIDR, ip: IP, holder: Pick<Allocation, "handleID">, cause: IPAMError): CNIError {
  const what = `Address ${formatIP(ip)} of block ${formatCIDR(block)} must be the gateway, but handle ${holder.handleID} has it`;
  const step = "give this network a pool of its own, in ipam.ipv4_pools or ipv6_pools";
  return new CNIError("NoAddress", `${what}; ${step}`, { cause });
}
