// SPDX-License-Identifier: Apache-2.0

import { seeAddress } from "../../ipam/errors.ts";
import { ownerOf } from "../../ipam/gc/addresses.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import { formatCIDR } from "../../net/cidr.ts";
import { formatIP } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import type { PodInfo } from "../ports.ts";
import type { PodRef } from "../types.ts";

/** Who wants an address that is taken. */
export interface Claimant {
  /** With its UID as far as anybody knows it. */
  readonly pod?: PodRef;
  readonly nodeName: string;
}

/** What was seen of the holder, just now and at the API server itself. */
export interface HolderFacts {
  /** Whoever has the claimant's name now. */
  readonly livePod?: PodInfo;
  readonly isOutOfService: boolean;
}

export type HolderKind =
  /** An earlier life of the same pod, on this node: its attachment record tells more. */
  | "earlierHere"
  /** An earlier life of the same pod, on another node. */
  | "earlierElsewhere"
  | "other";

/** Whether the holder is an earlier sandbox of the claimant's pod, and where. */
export function kindOfHolder(holder: HeldAddress, { pod, nodeName }: Claimant): HolderKind {
  const owner = ownerOf(holder);
  if (pod === undefined || owner.kind !== "pod") return "other";
  if (owner.namespace !== pod.namespace || owner.pod !== pod.name) return "other";
  return owner.node === nodeName ? "earlierHere" : "earlierElsewhere";
}

/**
 * Why an address must stay with an earlier life of the pod on another node; undefined when it may be taken over.
 *
 * It may when the pod of that name is the claimant, by UID and node: names are unique, so the object of the holder was
 * deleted, which says that it has ended (or that somebody forced it and answers for that). Where nobody else is known by
 * the name, the mark that the holder's node is out of service does as well.
 */
export function whyKept(holder: HeldAddress, { pod, nodeName }: Claimant, facts: HolderFacts): string | undefined {
  const { livePod, isOutOfService } = facts;
  const node = holder.attributes["node"] ?? "";
  const name = `${pod?.namespace}/${pod?.name}`;
  const isSame = livePod !== undefined && (pod?.uid === undefined || livePod.uid === pod.uid);
  if (isSame && livePod.nodeName === nodeName) return undefined;
  if (livePod !== undefined && !(isSame && livePod.nodeName === node)) {
    const where = livePod.nodeName === undefined ? "not scheduled" : `on node ${livePod.nodeName}`;
    return `pod ${name} is another one by now (UID ${livePod.uid}, ${where}), and the address is for that one`;
  }
  if (isOutOfService) return undefined;
  const mark = `kubectl taint nodes ${node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`;
  return `it is taken over when pod ${name} is deleted there or node ${node} is marked out of service (${mark})`;
}

/** An address that was fixed for a pod is not free, and may be later. */
export function stillHeld(holder: HeldAddress, claimant: Claimant, step: string, cause?: unknown): CNIError {
  const { namespace, pod, node } = holder.attributes;
  const who = pod === undefined ? "" : ` by pod ${namespace}/${pod}`;
  const where = node === undefined ? "" : ` on node ${node}`;
  const whose = claimant.pod === undefined ? "" : ` of pod ${claimant.pod.namespace}/${claimant.pod.name}`;
  const what = `Address ${formatIP(holder.ip)}${whose} is still held${who}${where}`;
  const which = `(handle ${holder.handleID}, block ${formatCIDR(holder.block)})`;
  return new CNIError("TryAgainLater", `${what} ${which}; ${step}; ${seeAddress(holder.ip)}`, { cause });
}
