// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { blockName } from "../../crds/names.ts";
import { blockOf, cidrContains, hostCIDR, parseCIDR } from "../../net/cidr.ts";
import { bitsOf, familyOf, formatIP, type IP, parseIP } from "../../net/ip.ts";
import { assignmentKey, heldAddresses, ownerOf } from "../gc/addresses.ts";
import type { HeldAddress, KeepReason, LeakReason, Owner, Verdict } from "../gc/types.ts";
import { verdictOf } from "../gc/verdict.ts";
import type { Finding } from "./finding.ts";
import { type RecordedAddress, recordedAddresses, stateOf } from "./recorded.ts";
import {
  type AuditPod,
  isDamaged,
  liveBlocks,
  poolAround,
  type Snapshot,
  unreadableBlocks,
  viewOfSnapshot,
} from "./snapshot.ts";

/**
 * A leaked address may still be used by a sandbox whose pod was deleted by force. Its node's agent says so within 30 s
 * (`cni/collect/collect.ts`); an address that looks leaked for less than twice that is not freed. Units: milliseconds.
 */
export const LEAK_REST_MS = 60_000;

/** What became of the owner, for people. */
export const LEAK_TEXT: Readonly<Record<LeakReason, string>> = {
  podGone: "the pod is gone",
  podElsewhere: "the pod runs on another node now",
  podFinished: "the pod has finished",
  notThePodsAddress: "the pod has another address",
  nodeGone: "the node is gone",
};

/** Why an address stays, for people. */
export const KEEP_TEXT: Readonly<Record<KeepReason, string>> = {
  windows: "it is kept for Windows",
  unknownOwner: "nobody can tell whether its owner still needs it",
  podHoldsIt: "the pod runs and has it",
  podWithoutAddress: "the pod has not reported an address yet",
  nodeSaysInUse: "the node's agent says that a sandbox still uses it",
  nodeUnreachable: "the node cannot be reached, and its sandboxes may run on",
  nodeDecides: "only the node's own agent sees the sandbox",
  nodeExists: "the node is there",
};

/** Addresses against pods and nodes, both ways. */
export function checkAddresses(snapshot: Snapshot, watchedMs: number): readonly Finding[] {
  const view = viewOfSnapshot(snapshot);
  const live = liveBlocks(snapshot);
  const sound = live.filter((block) => !isDamaged(block));
  const judged = sound.flatMap((block) =>
    heldAddresses(block.spec).map((address): Judged => {
      const owner = ownerOf(address);
      return { address, block, owner, verdict: verdictOf(address, owner, view) };
    }),
  );
  const isSpared = sparing(judged, live);
  return [
    ...judged.flatMap((one) => judge(one, isSpared(one), watchedMs)),
    ...sound.flatMap(unhandled),
    ...checkPods(snapshot),
  ];
}

interface Judged {
  readonly address: HeldAddress;
  readonly block: IPAMBlock;
  readonly owner: Owner;
  readonly verdict: Verdict;
}

/**
 * Leaks that must wait: all addresses of a handle go together, and a tunnel's goes after all others of its node.
 * Source: calico-interop 2.10.
 */
function sparing(judged: readonly Judged[], blocks: readonly IPAMBlock[]): (one: Judged) => string | undefined {
  const kept = new Set(judged.filter(({ verdict }) => verdict.kind === "keep").map(({ address }) => address.handleID));
  for (const { spec } of blocks.filter(isDamaged))
    for (const { handle_id: id } of spec.attributes) if (id !== undefined) kept.add(id);
  const busy = new Set(
    judged.flatMap(({ owner }) => (owner.kind === "pod" || owner.kind === "attachment" ? owner.node : [])),
  );
  return ({ address, owner }) => {
    if (kept.has(address.handleID)) return "another address of its handle is in use, or in a damaged block";
    if (owner.kind === "tunnel" && busy.has(owner.node)) return "other addresses of its node go first";
    return undefined;
  };
}

function judge(
  { address, block, owner, verdict }: Judged,
  spared: string | undefined,
  watchedMs: number,
): readonly Finding[] {
  const found = {
    object: { kind: "IPAMBlock", name: block.metadata.name },
    address: formatIP(address.ip),
    identity: assignmentKey(address),
  };
  const who = ownerText(owner, address.handleID);
  if (verdict.kind === "leak") {
    const reason = `held for ${who}, and ${LEAK_TEXT[verdict.why]}`;
    const leak = { why: verdict.why, address };
    if (spared !== undefined) {
      return [{ ...found, code: "leakedAddress", severity: "warning", leak, reason, nextStep: `wait: ${spared}` }];
    }
    const isDue = watchedMs >= LEAK_REST_MS;
    const nextStep = isDue
      ? "gingham ipam check --fix"
      : "gingham-controller frees it after leakGracePeriod; sooner: gingham ipam check --fix --wait 1m";
    const fix = { kind: "freeLeak", address } as const;
    return [{ ...found, code: "leakedAddress", severity: "warning", leak, reason, nextStep, ...(isDue && { fix }) }];
  }
  switch (verdict.why) {
    case "nodeSaysInUse":
    case "nodeUnreachable": {
      const reason = `held for ${who}; ${KEEP_TEXT[verdict.why]}`;
      const nextStep =
        verdict.why === "nodeUnreachable"
          ? "bring the node back, delete it, or mark it as out of service"
          : "nothing: it comes free with its sandbox";
      return [{ ...found, code: "leakInDoubt", severity: "info", reason, nextStep }];
    }
    case "unknownOwner": {
      if (isSomebodyElses(address, block)) {
        const reason = `held for ${who}: another program's, which looks after it`;
        return [{ ...found, code: "unknownOwner", severity: "info", reason, nextStep: "nothing" }];
      }
      const reason = `held by ${who}, which names no pod: nobody frees it`;
      return [{ ...found, code: "noOwner", severity: "warning", reason, nextStep: releaseStep(found.address) }];
    }
    case "windows":
    case "podHoldsIt":
    case "podWithoutAddress":
    case "nodeDecides":
    case "nodeExists":
      return [];
  }
}

/** Load balancers and virtual machines, which we do not look into. */
function isSomebodyElses({ attributes, handleID }: HeldAddress, { spec }: IPAMBlock): boolean {
  if (spec.affinity?.startsWith("virtual:")) return true;
  const keys = ["service", "vmi-name", "vmi-uid", "vm-uid", "vmim-uid", "type"];
  return handleID.includes(".vmi.") || keys.some((key) => attributes[key] !== undefined);
}

/** Calico lets an address be taken without a handle. */
function unhandled(block: IPAMBlock): readonly Finding[] {
  return recordedAddresses(block)
    .filter(({ attribute }) => stateOf(attribute) === "unhandled")
    .map(({ ip, attribute, sequenceNumber }) => ({
      code: "noOwner",
      severity: "warning",
      object: { kind: "IPAMBlock", name: block.metadata.name },
      address: formatIP(ip),
      reason: `held without a handle (${attributesText(attribute.secondary ?? {})}): nobody frees it`,
      nextStep: releaseStep(formatIP(ip)),
      identity: String(sequenceNumber),
    }));
}

function releaseStep(address: string): string {
  return `gingham ipam show ${address}; if nobody uses it: gingham ipam release --force ${address}`;
}

/** Live pods with an address of their own, and what the blocks say of it. */
function checkPods(snapshot: Snapshot): readonly Finding[] {
  const recorded = new Map<string, RecordedAddress>();
  for (const block of liveBlocks(snapshot))
    for (const address of recordedAddresses(block)) recorded.set(formatIP(address.ip), address);
  const users = new Map<string, string>();
  const findings: Finding[] = [];
  for (const [key, pod] of [...snapshot.pods].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (pod.hostNetwork || pod.isFinished) continue;
    for (const address of pod.reported) {
      const other = users.get(address);
      users.set(address, other ?? key);
      const finding =
        other === undefined
          ? judgePodAddress(pod, address, recorded.get(address), snapshot)
          : duplicate(key, address, other);
      if (finding !== undefined) findings.push(finding);
    }
  }
  return findings;
}

function duplicate(pod: string, address: string, other: string): Finding {
  return {
    code: "duplicateAddress",
    severity: "error",
    object: { kind: "Pod", name: pod },
    address,
    reason: `pods ${other} and ${pod} both report it`,
    nextStep: `gingham ipam show ${address} says whose it is; delete the other pod`,
    identity: other,
  };
}

function judgePodAddress(
  pod: AuditPod,
  address: string,
  found: RecordedAddress | undefined,
  snapshot: Snapshot,
): Finding | undefined {
  const key = `${pod.namespace}/${pod.name}`;
  const object = { kind: "Pod", name: key };
  const ip = parseIP(address);
  if (found !== undefined) {
    const state = stateOf(found.attribute);
    if (state === "cooling") return notAllocated(key, address, "its record says that it was given back");
    const { namespace, pod: name } = found.attribute.secondary ?? {};
    if (namespace === undefined || name === undefined || `${namespace}/${name}` === key) return undefined;
    const reason = `pod ${key} reports it, and its block gave it to pod ${namespace}/${name}`;
    const nextStep = `delete pod ${key}, so that it gets an address of its own`;
    return {
      code: "addressOfAnother",
      severity: "error",
      object,
      address,
      reason,
      nextStep,
      identity: `${namespace}/${name}`,
    };
  }
  // A block that is damaged or cannot be read may say anything of it; it is reported itself.
  const block = liveBlocks(snapshot).find(({ spec }) => cidrContains(parseCIDR(spec.cidr), ip));
  if (block !== undefined ? isDamaged(block) : isUnreadable(ip, snapshot)) return undefined;
  const pool = poolAround(snapshot.pools, hostCIDR(ip));
  // Out of a disabled pool nobody is given anything: it may be there for the NAT of another plugin's addresses.
  if (pool !== undefined && (block !== undefined || pool.enabled))
    return notAllocated(
      key,
      address,
      block === undefined ? "there is no block of it" : `block ${block.spec.cidr} has it as free`,
    );
  const holder = pool === undefined ? "no IPPool holds it" : `only IPPool ${pool.name} holds it, which is disabled`;
  const reason = `pod ${key} has it, and ${holder}: another network or IPAM plugin gave it`;
  const nextStep = "nothing, if the pod is older than Gingham here; else look at the CNI configuration of its node";
  return { code: "podAddressOutsidePools", severity: "warning", object, address, reason, nextStep, identity: "" };
}

/** Blocks have 1 to 4,096 addresses, so one that has this address has one of few names. */
function isUnreadable(ip: IP, snapshot: Snapshot): boolean {
  const unreadable = unreadableBlocks(snapshot);
  const bits = bitsOf(familyOf(ip));
  for (let length = bits - 12; unreadable.size > 0 && length <= bits; length++)
    if (unreadable.has(blockName(blockOf(ip, length)))) return true;
  return false;
}

function notAllocated(pod: string, address: string, why: string): Finding {
  return {
    code: "podAddressNotAllocated",
    severity: "error",
    object: { kind: "Pod", name: pod },
    address,
    reason: `pod ${pod} has it, and ${why}: another pod can get it, too`,
    nextStep: `delete pod ${pod}, so that it gets an address that is its own`,
    identity: "",
  };
}

/** Who holds an address, for people. */
export function ownerText(owner: Owner, handleID: string): string {
  switch (owner.kind) {
    case "pod":
      return `pod ${owner.namespace}/${owner.pod} on ${owner.node}`;
    case "attachment":
      return `handle ${handleID}, an interface on ${owner.node}`;
    case "tunnel":
      return `${owner.node} itself (a tunnel, or a segment of another plugin)`;
    case "windows":
      return "Windows";
    case "unknown":
      return owner.node === undefined ? `handle ${handleID}` : `handle ${handleID} on ${owner.node}`;
  }
}

export function attributesText(attributes: Readonly<Record<string, string>>): string {
  const parts = Object.entries(attributes).sort(([a], [b]) => (a < b ? -1 : 1));
  return parts.length === 0 ? "no attributes" : parts.map(([key, value]) => `${key} ${value}`).join(", ");
}
