// SPDX-License-Identifier: Apache-2.0
import type { Reservation } from "../../crds/ip-reservation.ts";
import { IPAMError } from "../../ipam/errors.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import type { Allocation, AssignRequest } from "../../ipam/types.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import { isRefusal, request as requestAddresses } from "../delegation/delegate.ts";
import type { IPAMAnswer } from "../delegation/result.ts";
import type { Delegation } from "../delegation/types.ts";
import { refuseAddressWishes } from "../delegation/wishes.ts";
import { mayHaveTaken } from "../errors.ts";
import { type Annotated, type PodWishes, readWishes } from "../fixed/annotations.ts";
import { chooseAddresses } from "../fixed/choice.ts";
import { type Claimant, kindOfHolder, stillHeld, whyKept } from "../fixed/takeover.ts";
import { resolvePools } from "../input/pod-pools.ts";
import { type AttachmentPlan, isPrimary, planAssign } from "../plan.ts";
import type { NamespaceInfo, PodInfo } from "../ports.ts";
import { giveBack } from "../release.ts";
import type { AttachmentID, PodRef } from "../types.ts";
import type { CNI } from "./cni.ts";
import { releaseEarlier } from "./earlier.ts";
import type { Undo } from "./undo.ts";

/** What the API server knows of the pod, its namespace and its addresses; nothing for a container that is no pod. */
export interface Owner {
  readonly pod?: PodInfo;
  readonly namespace?: NamespaceInfo;
  readonly reservations: readonly Reservation[];
}

/** The addresses of an attachment, and what its pod wishes besides. */
export interface Assigned {
  readonly allocations: readonly Allocation[];
  readonly wishes: PodWishes;
  /** With its UID as far as anybody knows it. */
  readonly pod?: PodRef;
  /** What another IPAM plugin gave; then there are no allocations. */
  readonly elsewhere?: { readonly delegation: Delegation; readonly given: IPAMAnswer };
}

/** An attachment that is about to get its addresses. */
export interface Assigning {
  readonly id: AttachmentID;
  readonly plan: AttachmentPlan;
}

/** Rounds in which the holders of an address that is fixed may change. */
const MAX_ROUNDS = 4;

/**
 * Asks for pod, namespace and reservations while the intent is written. A pod that nobody knows has no annotations.
 * Without an answer the ADD fails: it must not quietly use other pools or addresses than were meant.
 */
export async function lookUpOwner(cni: CNI, plan: AttachmentPlan, signal: AbortSignal): Promise<Owner> {
  const { pod: ref } = plan;
  const mayBeFixed = askedOf(plan) !== undefined || (ref !== undefined && isPrimary(plan));
  const [pod, namespace, reservations = []] = await Promise.all([
    ref && cni.pods?.get(ref, signal),
    ref && cni.namespaces?.get(ref.namespace, signal),
    mayBeFixed ? cni.reservations?.owned(signal) : undefined,
  ]);
  return { ...(pod && { pod }), ...(namespace && { namespace }), reservations };
}

/** The addresses that the runtime asks for; its capability says more than CNI_ARGS can. */
function askedOf({ conf, asked }: AttachmentPlan): readonly IP[] | undefined {
  return conf.ips ?? (asked === undefined ? undefined : [asked]);
}

/** Takes the addresses that the pod must have, or any, and pushes their undo. */
export async function assign(
  cni: CNI,
  assigning: Assigning,
  owner: Owner,
  undo: Undo,
  signal: AbortSignal,
): Promise<Assigned> {
  const { handleID, delegation } = assigning.plan;
  if (delegation !== undefined) return await assignElsewhere(cni, assigning.plan, delegation, owner, undo, signal);
  const { request, wishes } = planRequest(cni, assigning.plan, owner);
  try {
    const claimant = claimantOf(cni, assigning.plan, owner);
    const allocations = await assignFrom(cni, assigning.id, claimant, request, signal);
    undo.step("give addresses back", () => giveBack(cni, { handleID, allocations }, { why: "undo" }));
    noteAssigned(cni, assigning.id, claimant, allocations);
    return { allocations, wishes, ...(claimant.pod && { pod: claimant.pod }) };
  } catch (error) {
    // A write without an answer may have been taken, and only the handle finds it.
    if (mayHaveTaken(error)) undo.step("release the handle", () => giveBack(cni, { handleID }, { why: "undo" }));
    throw error;
  }
}

/** Has another IPAM plugin give the addresses. Whatever comes of it, a failed ADD has it take them back. */
async function assignElsewhere(
  cni: CNI,
  plan: AttachmentPlan,
  delegation: Delegation,
  owner: Owner,
  undo: Undo,
  signal: AbortSignal,
): Promise<Assigned> {
  const annotated = annotatedOf(plan, owner);
  refuseAddressWishes(annotated, delegation.type);
  const { mac, sourcePrefixes } = isPrimary(plan) ? readWishes(annotated) : {};
  const { handleID } = plan;
  let isRefused = false;
  undo.step("have addresses taken back", async () => {
    try {
      await giveBack(cni, { handleID, delegation }, { why: "undo" });
    } catch (error) {
      if (!isRefused || !isRefusal(error)) throw error;
      cni.log.warn(
        { op: "ADD", plugin: delegation.type, err: error },
        "IPAM plugin gave nothing, and refuses DEL, too",
      );
    }
  });
  const elsewhere = await requestAddresses(cni, delegation, signal).catch((error: unknown) => {
    isRefused = isRefusal(error);
    throw error;
  });
  const { pod } = claimantOf(cni, plan, owner);
  const wishes = { ...(mac !== undefined && { mac }), ...(sourcePrefixes && { sourcePrefixes }) };
  return { allocations: [], wishes, ...(pod && { pod }), elsewhere };
}

function annotatedOf({ pod }: AttachmentPlan, owner: Owner): Annotated {
  return {
    ...(pod && { pod }),
    ...(owner.pod && { podAnnotations: owner.pod.annotations }),
    ...(owner.namespace && { namespaceAnnotations: owner.namespace.annotations }),
  };
}

function planRequest(
  cni: CNI,
  plan: AttachmentPlan,
  owner: Owner,
): { readonly request: AssignRequest; readonly wishes: PodWishes } {
  const { pod, conf } = plan;
  const asked = askedOf(plan);
  const annotated = annotatedOf(plan, owner);
  const all = readWishes(annotated);
  // What an interface can have only once is the pod's own interface's.
  const wishes = isPrimary(plan) ? all : { ...(all.families && { families: all.families }) };
  const choice = chooseAddresses({
    ...(pod && { pod }),
    ...(owner.pod?.controller && { controller: owner.pod.controller }),
    ...(wishes.addresses && { annotated: wishes.addresses }),
    ...(asked !== undefined && { asked }),
    reservations: owner.reservations,
    families: wishes.families ?? conf.families,
  });
  const isAllFixed = choice.addresses.length === choice.families.length;
  const pools = isAllFixed ? {} : resolvePools({ ...annotated, configured: conf.pools, families: choice.families });
  return { request: planAssign(plan, { ...choice, pools }, cni.clock.nowNs()), wishes };
}

function claimantOf({ host }: CNI, { pod }: AttachmentPlan, owner: Owner): Claimant {
  const uid = pod?.uid ?? owner.pod?.uid;
  return { nodeName: host.nodeName, ...(pod && { pod: { ...pod, ...(uid && { uid }) } }) };
}

/** Assigns; while an address that is fixed is held by an earlier life of the pod, it is taken from there. */
async function assignFrom(
  cni: CNI,
  id: AttachmentID,
  claimant: Claimant,
  request: AssignRequest,
  signal: AbortSignal,
): Promise<readonly Allocation[]> {
  for (let round = 1; ; round++) {
    try {
      return await cni.addresses.assign(request, signal);
    } catch (error) {
      const holder = error instanceof IPAMError ? error.holder : undefined;
      if (holder === undefined) throw error;
      const step =
        round < MAX_ROUNDS
          ? await makeRoom(cni, id, claimant, holder, signal)
          : "it changes hands all the time; try again";
      if (step !== undefined) throw stillHeld(holder, claimant, step, error);
      const fields = { op: "ADD", ...id, ip: formatIP(holder.ip), handleID: holder.handleID, ...holder.attributes };
      cni.log.info(fields, `Address was taken over from an earlier life of its pod`);
    }
  }
}

/** Frees the address if it is right. @returns why it is not, and what can be done; undefined when it is free now */
async function makeRoom(
  cni: CNI,
  id: AttachmentID,
  claimant: Claimant,
  holder: HeldAddress,
  signal: AbortSignal,
): Promise<string | undefined> {
  switch (kindOfHolder(holder, claimant)) {
    case "other":
      return "it is free when that is deleted; or ask for another address";
    case "earlierHere":
      return await releaseEarlier(cni, id, holder, signal);
    case "earlierElsewhere":
      return await takeOver(cni, claimant, holder, signal);
  }
}

async function takeOver(
  { holders, journal, clock, host }: CNI,
  claimant: Claimant,
  holder: HeldAddress,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { namespace = "", pod = "", node = "" } = holder.attributes;
  if (holders === undefined) return "nobody here can tell whether it is still in use; give it back on its node";
  const [livePod, isOutOfService] = await Promise.all([
    holders.pod(namespace, pod, signal),
    holders.isOutOfService(node, signal),
  ]);
  const kept = whyKept(holder, claimant, { ...(livePod && { livePod }), isOutOfService });
  if (kept !== undefined) return kept;
  await holders.takeAway(holder, signal);
  const { ip, block, sequenceNumber, handleID } = holder;
  const place = { ip, block, sequenceNumber };
  const event = { atMs: clock.nowMs(), node: host.nodeName, handleID, pod: { namespace, name: pod }, place };
  journal?.address({ kind: "released", ...event, why: "takeover" });
  return undefined;
}

function noteAssigned(
  { clock, host, journal }: CNI,
  attachment: AttachmentID,
  { pod }: Claimant,
  allocations: readonly Allocation[],
): void {
  const base = { atMs: clock.nowMs(), node: host.nodeName, attachment, ...(pod && { pod }) };
  for (const { handleID, ...place } of allocations) journal?.address({ kind: "assigned", ...base, handleID, place });
}
