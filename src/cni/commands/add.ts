// SPDX-License-Identifier: Apache-2.0
import { formatCIDR } from "../../net/cidr.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import { completed } from "../delegation/delegate.ts";
import type { Delegation } from "../delegation/types.ts";
import { CancelledError, CNIError } from "../errors.ts";
import { handleIDOf, hostIfaceOf } from "../iface-name.ts";
import type { NetConf } from "../input/netconf.ts";
import { type AttachmentPlan, planResult, planWiring } from "../plan.ts";
import type { WiredPod, WiringPlan } from "../ports.ts";
import { isLive, keyOf } from "../records/attachment.ts";
import { releaseRecorded, removeFromKernel } from "../release.ts";
import type { AttachmentID, AttachmentRecord, IntentRecord, PodRef, WholeRecord } from "../types.ts";
import { assign, lookUpOwner } from "./assign.ts";
import type { CNI } from "./cni.ts";
import { waitForGates } from "./gates.ts";
import { refuseOtherNode } from "./own-node.ts";
import { workOffPendingOf } from "./pending.ts";
import { type Stopwatch, startStopwatch } from "./stopwatch.ts";
import { type Undo, undoOf } from "./undo.ts";

/** An ADD holds its attachment and the host's end of its link. */
const LOCKS_OF_ONE = 2;

/** A checked ADD. */
export interface AddRequest {
  readonly id: AttachmentID;
  readonly netns: string;
  readonly pod?: PodRef;
  readonly conf: NetConf;
  /** The address that CNI_ARGS ask for. */
  readonly asked?: IP;
  /** The other IPAM plugin that the configuration names. */
  readonly delegation?: Delegation;
}

/** An attachment that is made, with how long each step took, and whether it was there before. */
export interface AddOutcome {
  readonly record: WholeRecord;
  readonly existed: boolean;
  readonly stepsMs: Readonly<Record<string, number>>;
}

/**
 * Attaches a pod: intent on disk, addresses, wiring, whole record on disk. A second ADD of a live attachment answers
 * what the first one did.
 *
 * Atomic: when it rejects, everything is undone, or the record left behind says what is still to be undone.
 *
 * @param signal the caller hung up: the ADD undoes itself
 * @throws CNIError, IPAMError, WiringError
 */
export async function add(cni: CNI, request: AddRequest, signal?: AbortSignal): Promise<AddOutcome> {
  const watch = startStopwatch(cni.clock);
  refuseOtherNode(cni, request.conf);
  const { id } = request;
  using turn = await cni.locks.acquire(keyOf(id), { yields: true, ...(signal && { signal }) });
  watch.lap("lock");
  const looking = lookAtNetns(cni, request.netns);
  looking.catch(() => {});
  const earlier = await readEarlier(cni, id);
  const netns = await looking;
  if (earlier !== undefined && isLive(earlier, cni.host.bootID, netns.identity)) {
    return { record: earlier, existed: true, stepsMs: watch.stepsMs() };
  }
  if (earlier !== undefined) await releaseRecorded(cni, id, earlier, turn.signal);
  watch.lap("look");
  if (request.conf.readinessGates.length > 0) {
    await waitForGates(cni, request.conf.readinessGates, turn.signal);
    watch.lap("gates");
  }

  const delegation = request.delegation && (await completed(cni, request.delegation, turn.signal));
  const plan = { ...planAttachment(cni, request), ...(delegation && { delegation }) };
  // Two sandboxes of one pod share the name of the host's end, and making a link deletes an older one of that name. So
  // they take turns, and the newer sandbox wins.
  const cancel = (): Error =>
    new CancelledError(`ADD of ${keyOf(id)}`, `a newer sandbox of the same pod wants ${plan.hostIface}`);
  using ifaceTurn = await cni.locks.acquire(`host interface ${plan.hostIface}`, {
    signal: turn.signal,
    yields: true,
    cancel,
  });
  await refuseTaken(cni, id, plan, netns);
  const record = await attach(cni, { id, plan, netns }, watch, ifaceTurn.signal);
  return { record, existed: false, stepsMs: watch.stepsMs() };
}

/** Namespace and vantage are looked up beside the record; neither has an effect, so an early failure leaves nothing. */
export async function lookAtNetns(cni: Pick<CNI, "wiring" | "host">, path: string): Promise<IntentRecord["netns"]> {
  const [identity, vantage] = await Promise.all([cni.wiring.identifyNetns(path), cni.host.vantageOf(path)]);
  return { path, identity, vantage };
}

/** The record of an earlier call, after every pending release of the attachment is worked off. */
export async function readEarlier(cni: CNI, id: AttachmentID): Promise<AttachmentRecord | undefined> {
  await workOffPendingOf(cni, id);
  const stored = await cni.records.read(id);
  if (stored.kind === "record") return stored.record;
  if (stored.kind === "absent") return undefined;
  throw new CNIError(
    "IOFailure",
    `Record of attachment ${keyOf(id)} cannot be read: ${stored.reason}; a DEL of it releases what it holds`,
  );
}

export interface Attaching {
  readonly id: AttachmentID;
  readonly plan: AttachmentPlan;
  readonly netns: IntentRecord["netns"];
}

/**
 * An address that is free by whoever gave it and in use on this node, by a pod or by the node: a block was deleted or
 * changed by hand while its pods ran, or another plugin lost its state, or has a range that overlaps. The pod that has it
 * would be cut off without a word. Given back, it is the last one to be given again.
 *
 * @throws CNIError `TryAgainLater`
 */
function refuseInUse(cni: CNI, { hostIface, delegation }: AttachmentPlan, ips: readonly IP[]): void {
  const { ownAddresses } = cni.host;
  const own = ips.find((ip) => ownAddresses.includes(ip));
  if (own !== undefined) {
    const what = `${formatIP(own)} is this node's own or its tunnel's, and free by whoever gave it`;
    const why = "somebody released the tunnel's address, or a pool has the nodes' addresses";
    throw new CNIError("TryAgainLater", `${what}: ${why}; the next try gets another address`);
  }
  const holder = cni.endpoints.holderOf(ips, hostIface);
  if (holder === undefined) return;
  const what = `Attachment ${holder.key} (${holder.hostIface}) still has ${holder.ips.map(formatIP).join(" and ")}`;
  if (delegation !== undefined) {
    const why = `and IPAM plugin ${delegation.type} gave it once more: its state was lost, or ranges overlap`;
    throw new CNIError("TryAgainLater", `${what}, ${why}; compare them, or delete the pod that has it`);
  }
  const why = "and the IPAMBlock says that it is free: somebody deleted the block or changed it";
  const step = "the next try gets another address; gingham ipam check names the pod to delete";
  throw new CNIError("TryAgainLater", `${what}, ${why}; ${step}`);
}

/**
 * The interface may be there and another attachment's: the container is in another network by that name, or another
 * container shares its namespace. As the host's end of both has one name, making the pair would take it away.
 *
 * @throws CNIError `InvalidEnvironment`. Source: CNI SPEC 1.1.0, Section 2, ADD
 */
async function refuseTaken(
  { endpoints, wiring }: CNI,
  id: AttachmentID,
  { hostIface, contIface }: AttachmentPlan,
  { path }: IntentRecord["netns"],
): Promise<void> {
  const other = endpoints.on(hostIface);
  if (other === undefined || other.key === keyOf(id) || other.hostIfIndex === 0) return;
  const { contLink } = await wiring.inspect({ netns: path, contIface, hostIface, ips: [] });
  if (contLink?.peerIfIndex !== other.hostIfIndex) return;
  const step = "DEL that one first, or choose another CNI_IFNAME";
  throw new CNIError(
    "InvalidEnvironment",
    `Interface ${contIface} already exists in ${path} and is ${other.key}'s; ${step}`,
  );
}

async function attach(cni: CNI, attaching: Attaching, watch: Stopwatch, signal: AbortSignal): Promise<WholeRecord> {
  const { id, plan } = attaching;
  const owner = lookUpOwner(cni, plan, signal);
  // Whoever waits for it sees the failure; until the intent is on disk nobody does.
  owner.catch(() => {});
  const intent = { ...planIntent(cni, attaching), hostIface: plan.hostIface };
  await using undo = undoOf(cni, id, intent);
  const recorded = await cni.records.create(id, intent);
  // Alone, it takes its address meanwhile. Among others it waits first: those that the disk lets go together share a block's
  // write, of which a burst would need twice as many.
  if (cni.locks.size > LOCKS_OF_ONE) await recorded.durable;
  watch.lap("intent");
  signal.throwIfAborted();
  const known = await owner;
  const { allocations, wishes, pod, elsewhere } = await assign(cni, attaching, known, undo, signal);
  const given = elsewhere?.given;
  const ips = given?.ips.map((ip) => ({ ip })) ?? allocations;
  refuseInUse(
    cni,
    plan,
    ips.map(({ ip }) => ip),
  );
  watch.lap("assign");
  await recorded.durable;
  watch.lap("sync");
  signal.throwIfAborted();
  const wiring = planWiring(plan, ips, { ...wishes, ...(given && { routes: given.routes }) });
  const sources = {
    ...(wishes.sourcePrefixes?.length && { allowedSourcePrefixes: wishes.sourcePrefixes.map(formatCIDR) }),
  };
  const wired = await wire(cni, attaching, { wiring, sources }, intent, undo);
  watch.lap("wire");
  signal.throwIfAborted();
  const { executor: _, ...shared } = intent;
  const whole: WholeRecord = {
    ...shared,
    state: "whole",
    ...(pod && { pod }),
    ...(elsewhere && { delegation: elsewhere.delegation }),
    hostIfIndex: wired.hostIfIndex,
    allocations,
    result: planResult(plan, wiring, wired, given?.dns),
    ...sources,
    atMs: cni.clock.nowMs(),
  };
  undo.recordTried();
  await cni.records.append(id, whole);
  watch.lap("record");
  undo.commit();
  // What the API server has as a pod of this node; another node's is annotated there.
  if (known.pod?.nodeName === cni.host.nodeName) cni.podStatus?.attached(id, whole);
  return whole;
}

async function wire(
  cni: CNI,
  { id, plan: { hostIface } }: Attaching,
  { wiring, sources }: { readonly wiring: WiringPlan; readonly sources: Pick<WholeRecord, "allowedSourcePrefixes"> },
  intent: IntentRecord,
  undo: Undo,
): Promise<WiredPod> {
  const key = keyOf(id);
  let wired: WiredPod | undefined;
  undo.step("take it out of the kernel", async () => {
    // `wire` leaves nothing when it fails, unless its worker died half-way; then the namespace tells what is there.
    if (wired === undefined) return removeFromKernel(cni, id, intent);
    await cni.endpoints.down(key);
    await cni.wiring.unwire({ hostIface, hostIfIndex: wired.hostIfIndex });
  });
  // Desired before actual: Felix must not take the new route for a stranger's.
  const endpoint = { key, hostIface, ips: wiring.ips, ...sources };
  await cni.endpoints.up({ ...endpoint, hostIfIndex: 0 });
  await cni.conntrack.settled(wiring.ips);
  wired = await cni.wiring.wire(wiring);
  await cni.endpoints.up({ ...endpoint, hostIfIndex: wired.hostIfIndex, isWired: true });
  return wired;
}

export function planAttachment(cni: CNI, { id, netns, pod, conf, asked }: AddRequest): AttachmentPlan {
  const { nodeName, podMTUBytes } = cni.host;
  const owner = { ...id, nodeName, ...(pod && { pod }) };
  return {
    handleID: handleIDOf(owner),
    hostIface: hostIfaceOf(owner),
    contIface: id.ifName,
    netns,
    nodeName,
    ...(pod && { pod }),
    conf,
    ...(asked !== undefined && { asked }),
    podMTUBytes,
  };
}

export function planIntent(cni: CNI, { plan, netns }: Attaching): IntentRecord {
  return {
    state: "intent",
    handleID: plan.handleID,
    ...(plan.pod && { pod: plan.pod }),
    ...(plan.delegation && { delegation: plan.delegation }),
    atMs: cni.clock.nowMs(),
    bootID: cni.host.bootID,
    netns,
    executor: cni.host.executor,
  };
}
