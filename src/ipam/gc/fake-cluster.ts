// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity, BlockAffinityState } from "../../crds/block-affinity.ts";
import { IPAM_BLOCKS, type IPAMBlock, type IPAMBlockSpec } from "../../crds/ipam-block.ts";
import type { IPAMHandle } from "../../crds/ipam-handle.ts";
import { affinityLabels } from "../../crds/labels.ts";
import { blockName } from "../../crds/names.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { hostAffinity, pendingAffinity, withState } from "../affinity.ts";
import { assign, newBlock, nextRevision } from "../block.ts";
import { newHandle } from "../handle.ts";
import { Census, type CensusOptions } from "./census.ts";
import type { ClusterView, CollectionPlan, NodeFacts, PodFacts, Sightings } from "./types.ts";

/** Objects for tests of collection. */

export const MINUTE_MS = 60_000;
export const GRACE_MS: number = 15 * MINUTE_MS;

export function nodeFacts(facts: Partial<NodeFacts> = {}): NodeFacts {
  return { isUnreachable: false, isOutOfService: false, inUse: [], ...facts };
}

export function podFacts(nodeName: string, addresses: readonly string[], facts: Partial<PodFacts> = {}): PodFacts {
  return { nodeName, addresses, hasIP: addresses.length > 0, isFinished: false, ...facts };
}

export function viewOf(
  nodes: Readonly<Record<string, NodeFacts>>,
  pods: Readonly<Record<string, PodFacts>> = {},
): ClusterView {
  return {
    node: (name) => nodes[name],
    pod: (namespace, name) => pods[`${namespace}/${name}`],
    hasNodes: Object.keys(nodes).length > 0,
  };
}

/** What a pod's sandbox writes. */
export function podAttributes(node: string, pod: string): Record<string, string> {
  return { node, namespace: "default", pod, timestamp: "2026-08-22 10:40:00 +0000 UTC" };
}

export interface Holder {
  readonly handleID: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** A block with the given holders, in the order of its addresses. */
export function blockOf(cidr: string, owner: string | undefined, holders: readonly Holder[] = []): IPAMBlock {
  const now = { ms: 0, ns: 1_787_395_200_123_456_789n };
  let spec = newBlock(parseCIDR(cidr), owner === undefined ? undefined : hostAffinity(owner), now);
  for (const holder of holders) spec = nextRevision(assign(spec, { ...holder, count: 1 }).block);
  return asBlock(spec);
}

export function asBlock(spec: IPAMBlockSpec): IPAMBlock {
  return {
    apiVersion: "crd.projectcalico.org/v1",
    kind: IPAM_BLOCKS.kind,
    metadata: { name: blockName(parseCIDR(spec.cidr)), resourceVersion: "1", uid: `uid-${spec.cidr}` },
    spec,
  };
}

export function affinityOf(node: string, cidr: string, state: BlockAffinityState = "confirmed"): BlockAffinity {
  const affinity = withState(pendingAffinity(node, parseCIDR(cidr)), state);
  return { ...affinity, metadata: { ...affinity.metadata, resourceVersion: "1" } };
}

export function handleOf(handleID: string, block: Readonly<Record<string, number>>, resourceVersion = "1"): IPAMHandle {
  const handle = newHandle(handleID, block);
  return { ...handle, metadata: { ...handle.metadata, resourceVersion } };
}

/** What Calico keeps for others than pods on Linux. Source: calico-interop 1.7, 1.8, 2.11 and 2.12. */
export function calicosOwn(): Required<Omit<Datastore, "unreadable">> {
  const windows = { handleID: "windows-reserved-ipam-handle", attributes: { note: "windows host rsvd" } };
  let spec = newBlock(parseCIDR("10.0.1.0/29"), hostAffinity("win-1"), { ms: 0, ns: 5n });
  for (const ordinal of [0, 1, 2, 7]) spec = assign(spec, { ...windows, count: 1, ordinal }).block;
  const service = { service: "web", namespace: "default", type: "LoadBalancer", timestamp: "t" };
  const balancer = { handleID: "lb-AbCdEf0123", attributes: service };
  const balanced = blockOf("10.0.2.0/30", undefined, [balancer]);
  const vm = { ...podAttributes("node-a", "virt-launcher-vm-abcde"), "vmi-name": "vm", "vmi-uid": "1", "vm-uid": "2" };
  const machines = blockOf("10.0.3.0/30", "node-a", [
    { handleID: "k8s-pod-network.vmi.default.vm", attributes: vm },
    { handleID: "k8s-pod-network.vmi.default.moving", attributes: { ...vm, "vmi-name": "moving" } },
  ]);
  const [first, second] = machines.spec.attributes;
  const target = { ...podAttributes("node-b", "virt-launcher-moving-fghij"), "vmim-uid": "3" };
  const claim = affinityOf("load-balancer", "10.0.2.0/30");
  const labels = affinityLabels("load-balancer", parseCIDR("10.0.2.0/30"), "virtual");
  return {
    blocks: [
      asBlock(nextRevision(spec)),
      asBlock({ ...balanced.spec, affinity: "virtual:load-balancer" }),
      asBlock({ ...machines.spec, attributes: [{ ...first }, { ...second, alternateOwnerAttrs: target }] }),
    ],
    handles: [
      handleOf(balancer.handleID, { "10.0.2.0/30": 1 }),
      handleOf("k8s-pod-network.vmi.default.vm", { "10.0.3.0/30": 1 }),
      handleOf("k8s-pod-network.vmi.default.moving", { "10.0.3.0/30": 1 }),
    ],
    affinities: [
      affinityOf("win-1", "10.0.1.0/29"),
      { ...claim, metadata: { ...claim.metadata, labels }, spec: { ...claim.spec, type: "virtual" } },
      affinityOf("node-a", "10.0.3.0/30"),
    ],
  };
}

export interface Datastore {
  readonly blocks?: readonly IPAMBlock[];
  /** Names of blocks that are there and cannot be read. */
  readonly unreadable?: readonly string[];
  readonly handles?: readonly IPAMHandle[];
  readonly affinities?: readonly BlockAffinity[];
}

/** One look. */
export function take(
  stored: Datastore,
  view: ClusterView,
  options: { readonly nowMs: number; readonly before?: Sightings } & Partial<CensusOptions>,
): CollectionPlan {
  const census = new Census({
    before: new Map(),
    graceMs: GRACE_MS,
    handleGraceMs: GRACE_MS,
    collectsLeaks: true,
    pools: [{ name: "pool", cidr: parseCIDR("10.0.0.0/16") }],
    view,
    ...options,
  });
  for (const block of stored.blocks ?? []) census.addBlock(block);
  for (const name of stored.unreadable ?? []) census.addUnreadable(name);
  for (const handle of stored.handles ?? []) census.addHandle(handle);
  for (const affinity of stored.affinities ?? []) census.addAffinity(affinity);
  return census.finish();
}

/** Two looks, the grace apart. */
export function takeTwice(stored: Datastore, view: ClusterView, options: Partial<CensusOptions> = {}): CollectionPlan {
  const { sightings } = take(stored, view, { nowMs: 0, ...options });
  return take(stored, view, { nowMs: GRACE_MS, ...options, before: sightings });
}
