// SPDX-License-Identifier: Apache-2.0
import type { EffectiveIPPool } from "../../crds/ip-pool.ts";
import { effectiveIPPool, parseIPPool } from "../../crds/ip-pool.ts";
import type { IPReservation } from "../../crds/ip-reservation.ts";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { affinityOf, blockOf, handleOf, nodeFacts, podAttributes } from "../gc/fake-cluster.ts";
import type { AuditPod, Snapshot } from "./snapshot.ts";

/** Snapshots for tests of the audit. */

export const NOW_MS: number = Date.parse("2026-08-22T10:40:00Z");

export function poolOf(name: string, cidr: string, spec: Readonly<Record<string, unknown>> = {}): EffectiveIPPool {
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name } };
  return effectiveIPPool(parseIPPool({ ...head, spec: { cidr, ...spec } }));
}

export function reservationOf(name: string, ...reservedCIDRs: readonly string[]): IPReservation {
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPReservation", metadata: { name } };
  return { ...head, spec: { reservedCIDRs } };
}

/** A pod in `default` that runs and reports its addresses. */
export function auditPodOf(node: string, name: string, ...addresses: readonly string[]): AuditPod {
  return {
    namespace: "default",
    name,
    nodeName: node,
    addresses,
    reported: addresses,
    hasIP: addresses.length > 0,
    isFinished: false,
    hostNetwork: false,
  };
}

export function podsOf(...pods: readonly AuditPod[]): ReadonlyMap<string, AuditPod> {
  return new Map(pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod]));
}

/** Pod `a` on node-a, with the first address of the node's block. */
export const BLOCK_A: IPAMBlock = blockOf("10.0.0.0/30", "node-a", [
  { handleID: "net.a", attributes: podAttributes("node-a", "a") },
]);

/** One node, one block, one pod: everything in order. */
export const SOUND: Snapshot = {
  takenMs: NOW_MS,
  blocks: [BLOCK_A],
  handles: [handleOf("net.a", { "10.0.0.0/30": 1 })],
  affinities: [affinityOf("node-a", "10.0.0.0/30")],
  pools: [poolOf("pool", "10.0.0.0/16")],
  reservations: [],
  nodes: new Map([["node-a", nodeFacts()]]),
  pods: podsOf(auditPodOf("node-a", "a", "10.0.0.0")),
  invalid: [],
};

export function snapshotOf(changes: Partial<Snapshot>): Snapshot {
  return { ...SOUND, ...changes };
}

/** The same block with another spec. */
export function changed(block: IPAMBlock, spec: Partial<IPAMBlock["spec"]>): IPAMBlock {
  return { ...block, spec: { ...block.spec, ...spec } };
}
